//! What classifiers have in common: the labels of their classes.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::attributes;

/// The labels of a classifier's classes, texts or integers, in the order of its scores.
#[derive(Debug)]
pub struct Labels(Arc<Tensor>);

impl Labels {
    /// From `classlabels_strings` or else the attribute `integers`.
    ///
    /// # Errors
    /// When the node has neither.
    pub fn read(node: &NodeProto, integers: &str) -> TractResult<Self> {
        Ok(Self(match attributes::texts(node, "classlabels_strings")? {
            Some(texts) => texts,
            None => attributes::integers(node, integers)?.context("it has no class labels")?,
        }))
    }

    /// Two labels that ONNX Runtime gives where a binary classifier's own labels are not two: 0 and 1.
    pub fn zero_and_one(&self) -> Self {
        match self.datum_type() == String::datum_type() {
            true => Self(rctensor1(&["0".to_owned(), "1".to_owned()])),
            false => Self(rctensor1(&[0i64, 1])),
        }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn datum_type(&self) -> DatumType {
        self.0.datum_type()
    }

    /// The label of each row's winner, `[rows]`.
    pub fn of(&self, winners: &[usize]) -> TractResult<Tensor> {
        fn pick<T: Datum + Clone>(labels: &Tensor, winners: &[usize]) -> TractResult<Tensor> {
            let view = labels.try_as_plain_ram()?;
            let labels = view.as_slice::<T>()?;
            Ok(winners.iter().map(|&winner| labels[winner].clone()).collect::<tract_ndarray::Array1<T>>().into())
        }
        match self.datum_type() == String::datum_type() {
            true => pick::<String>(&self.0, winners),
            false => pick::<i64>(&self.0, winners),
        }
    }

    /// Of a classifier's outputs: labels `[rows]` and FP32 scores `[rows, columns]`.
    pub fn facts(&self, input: &TypedFact, columns: usize) -> TractResult<TVec<TypedFact>> {
        let (rows, _) = matrix(&input.shape)?;
        let labels = self.datum_type().fact([rows.clone()]);
        Ok(tvec!(labels, f32::fact([rows, columns.to_dim()])))
    }
}

/// The place of the highest score, the first of equals. A NaN wins only in the first place, as in ONNX Runtime.
pub fn highest(scores: &[f32]) -> usize {
    let mut winner = 0;
    for (place, score) in scores.iter().enumerate().skip(1) {
        if *score > scores[winner] {
            winner = place;
        }
    }
    winner
}

/// Rows and columns of an input; one dimension is one row.
///
/// # Errors
/// When it has another number of dimensions than one or two.
pub fn matrix<D: Clone + From<usize>>(shape: &[D]) -> TractResult<(D, D)> {
    match shape {
        [columns] => Ok((D::from(1), columns.clone())),
        [rows, columns] => Ok((rows.clone(), columns.clone())),
        _ => bail!("the input has {} dimensions instead of 2", shape.len()),
    }
}

/// FP32 scores as a tensor `[rows, columns]`.
pub fn scores(values: Vec<f32>, rows: usize, columns: usize) -> TractResult<Tensor> {
    let array = tract_ndarray::Array2::from_shape_vec((rows, columns), values)?;
    Ok(array.into())
}
