//! Which keys a query may see, and what a mask adds to its scores.

use tract_onnx::tract_hir::internal::tract_ndarray::{Array4, ArrayD, ArrayViewD};
use tract_onnx::tract_hir::internal::*;

use super::super::inputs::integers;
use super::Attention;

/// What is added to the scores of a whole call: minus infinity where a query doesn't see a key.
pub struct Mask<'a> {
    attention: &'a Attention,
    /// `attn_mask` as numbers by rows, heads, queries and keys, where one stands for all of the first three. It may be
    /// shorter than the keys; nobody sees the rest then.
    added: Option<Array4<f32>>,
    /// Keys of each row that count.
    lengths: Option<Vec<i64>>,
    /// How many keys come before the queries.
    past: usize,
}

impl<'a> Mask<'a> {
    /// `sizes` are rows, heads, queries and keys, `past` how many of the keys were there before.
    pub fn new(attention: &'a Attention, inputs: &[TValue], sizes: [usize; 4], past: usize) -> TractResult<Self> {
        let [rows, heads, queries, keys] = sizes;
        let added = match attention.inputs.mask {
            None => None,
            Some(at) => {
                let numbers = numbers(&inputs[at])?;
                let known = numbers.shape().last().copied().unwrap_or(1);
                ensure!(known <= keys, "a mask over {known} keys of {keys}");
                let fits = numbers.broadcast([rows, heads, queries, known].as_slice()).is_some();
                ensure!(fits, "a mask of {:?} for {sizes:?}", inputs[at].shape());
                let mut shape = [1; 4];
                shape[4 - numbers.ndim()..].copy_from_slice(numbers.shape());
                Some(numbers.into_shape_with_order(shape)?)
            }
        };
        let lengths = match attention.inputs.lengths {
            None => None,
            Some(at) => {
                let lengths = integers(&inputs[at])?;
                ensure!(lengths.len() == rows, "'nonpad_kv_seqlen' of {} for {rows} rows", lengths.len());
                Some(lengths)
            }
        };
        Ok(Self { attention, added, lengths, past })
    }

    /// What is added to the scores of one query of a row's head, one for each key.
    pub fn bias(&self, row: usize, head: usize, query: usize, queries: usize, bias: &mut [f32]) {
        let length = self.lengths.as_ref().map(|lengths| lengths[row]);
        let before = length.map_or(self.past as i64, |length| length.saturating_sub(queries as i64));
        // The query's own place among the keys.
        let place = before.saturating_add(query as i64);
        let (left, right) = self.attention.window;
        for (key, bias) in bias.iter_mut().enumerate() {
            let at = key as i64;
            let hidden = self.attention.is_causal && at > place
                || left.is_some_and(|left| at < place.saturating_sub(left as i64))
                || right.is_some_and(|right| at > place.saturating_add(right as i64))
                || length.is_some_and(|length| at >= length);
            let added = match &self.added {
                None => 0.0,
                Some(added) => {
                    let (rows, heads, queries, _) = added.dim();
                    let at = (row.min(rows - 1), head.min(heads - 1), query.min(queries - 1), key);
                    added.get(at).copied().unwrap_or(f32::NEG_INFINITY)
                }
            };
            *bias = if hidden { f32::NEG_INFINITY } else { added };
        }
    }
}

/// A mask of truths as what it adds.
fn numbers(mask: &Tensor) -> TractResult<ArrayD<f32>> {
    if mask.datum_type() == DatumType::Bool {
        let view: ArrayViewD<bool> = mask.to_plain_array_view()?;
        return Ok(view.map(|&is_seen| if is_seen { 0.0 } else { f32::NEG_INFINITY }));
    }
    Ok(mask.cast_to::<f32>()?.to_plain_array_view::<f32>()?.as_standard_layout().into_owned())
}
