//! The computation: `softmax(cap(scale * Q Kᵀ) + mask) V`, head by head.

use tract_onnx::tract_hir::internal::tract_ndarray::{Array2, Array4, ArrayView2, ArrayView4, Axis, concatenate, s};
use tract_onnx::tract_hir::internal::*;

use super::mask::Mask;
use super::{Attention, Shown};

pub fn run(attention: &Attention, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
    let shapes = [inputs[0].shape(), inputs[1].shape(), inputs[2].shape()];
    let sizes = attention.split(&shapes)?;
    let [queries, keys, values] = [0, 1, 2].map(|input| by_head(&inputs[input], sizes[input]));
    let (queries, keys, values) = (queries?, keys?, values?);
    let past = attention.inputs.past_key.map_or(0, |at| inputs[at].shape()[2]);
    let keys = continued(attention.inputs.past_key.map(|at| &inputs[at]), keys)?;
    let values = continued(attention.inputs.past_value.map(|at| &inputs[at]), values)?;

    let [rows, heads, places, width] = sizes[0];
    // Without a width, tensors of nothing could ask for any number of scores.
    ensure!(width > 0, "queries of {:?} without a width", shapes[0]);
    let (key_rows, key_heads, all_keys, key_width) = keys.dim();
    let fits = key_rows == rows && key_width == width && values.dim().0 == rows && values.dim().1 == key_heads;
    ensure!(fits && values.dim().2 == all_keys, "queries, keys and values of {shapes:?} don't fit");
    ensure!(key_heads > 0 && heads % key_heads == 0, "{key_heads} heads of keys for {heads} of queries");
    let mask = Mask::new(attention, inputs, [rows, heads, places, all_keys], past)?;
    let mut y = Array4::<f32>::zeros((rows, heads, places, values.dim().3));
    let mut shown = attention.shows.then(|| Array4::<f32>::zeros((rows, heads, places, all_keys)));
    for row in 0..rows {
        for head in 0..heads {
            let key_head = head / (heads / key_heads);
            let (queries, keys) = (queries.slice(s![row, head, .., ..]), keys.slice(s![row, key_head, .., ..]));
            let one = Head { attention, mask: &mask, row, head };
            let (probabilities, product) = one.probabilities(queries, keys, shown.is_some());
            y.slice_mut(s![row, head, .., ..]).assign(&probabilities.dot(&values.slice(s![row, key_head, .., ..])));
            if let (Some(shown), Some(product)) = (&mut shown, product) {
                shown.slice_mut(s![row, head, .., ..]).assign(&product);
            }
        }
    }
    let y = match shapes[0].len() {
        4 => Tensor::from(y),
        _ => {
            let flat = [rows, places, heads * values.dim().3];
            Tensor::from(y.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned()).into_shape(&flat)?
        }
    };
    let mut made = tvec!(y, keys.into(), values.into());
    made.extend(shown.map(Tensor::from));
    Ok(made)
}

/// A tensor as rows, heads, places and width, whichever of its two forms it has.
fn by_head(tensor: &Tensor, [rows, heads, places, width]: [usize; 4]) -> TractResult<Array4<f32>> {
    let view = tensor.to_plain_array_view::<f32>()?;
    match tensor.rank() {
        4 => Ok(view.into_dimensionality::<tract_ndarray::Ix4>()?.to_owned()),
        _ => {
            let view = view.to_shape((rows, places, heads, width))?.to_owned();
            Ok(view.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned())
        }
    }
}

/// The past ones, if there are any, and the new ones behind them.
fn continued(past: Option<&TValue>, new: Array4<f32>) -> TractResult<Array4<f32>> {
    let Some(past) = past else { return Ok(new) };
    let past: ArrayView4<f32> = past.to_plain_array_view::<f32>()?.into_dimensionality()?;
    Ok(concatenate(Axis(2), &[past, new.view()])?)
}

/// One head of one row.
struct Head<'a> {
    attention: &'a Attention,
    mask: &'a Mask<'a>,
    row: usize,
    head: usize,
}

impl Head<'_> {
    /// How much each query (a row) takes of each key (a column), and what the node shows of the way there.
    fn probabilities(
        &self,
        queries: ArrayView2<f32>,
        keys: ArrayView2<f32>,
        shows: bool,
    ) -> (Array2<f32>, Option<Array2<f32>>) {
        let scale = self.attention.scale.unwrap_or_else(|| (queries.ncols() as f32).sqrt().recip());
        let mut scores = queries.dot(&keys.t()) * scale;
        let look = |at: Shown, scores: &Array2<f32>| (shows && self.attention.shown == at).then(|| scores.clone());
        let mut shown = look(Shown::Product, &scores);
        let cap = self.attention.softcap;
        if cap > 0.0 {
            scores.mapv_inplace(|score| cap * (score / cap).tanh());
        }
        shown = shown.or_else(|| look(Shown::Capped, &scores));
        let (places, mut bias) = (scores.nrows(), vec![0.0; scores.ncols()]);
        for (query, mut scores) in scores.rows_mut().into_iter().enumerate() {
            self.mask.bias(self.row, self.head, query, places, &mut bias);
            for (score, &added) in scores.iter_mut().zip(&bias) {
                // What is hidden stays so, whatever its score: infinity and NaN too.
                *score = if added == f32::NEG_INFINITY { added } else { *score + added };
            }
        }
        shown = shown.or_else(|| look(Shown::Biased, &scores));
        scores.rows_mut().into_iter().for_each(softmax);
        let shown = shown.or_else(|| look(Shown::Probabilities, &scores));
        (scores, shown)
    }
}

/// In place. A row of nothing but minus infinity becomes zeros: a query that sees no key takes nothing (ONNX).
fn softmax(mut scores: tract_ndarray::ArrayViewMut1<f32>) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if scores.iter().all(|&score| score == f32::NEG_INFINITY) {
        scores.fill(0.0);
        return;
    }
    scores.mapv_inplace(|score| (score - most).exp());
    let sum = scores.sum();
    scores.mapv_inplace(|score| score / sum);
}
