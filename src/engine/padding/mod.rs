//! Padding along a sequence axis, so that requests of different lengths take the same shape and can share a batch.
//!
//! A [`PaddingRule`] is what an operator declares: which dimension, up to which lengths, with which values. It is only
//! followed where [`DeclaredPadding::check`] has shown that the model answers a padded sequence as it answers the sequence itself.

mod proof;
mod rule;

use proof::prove;
pub use rule::{PaddingError, PaddingRule};

use std::sync::Arc;

use super::Model;
use super::rows::{concat_rows, slice_rows};
use crate::tensor::{DataType, Tensor, element_count, shape_text};

/// Most bytes that padding may add to a request. What would grow by more is large enough to run as it is.
pub const MAX_ADDED_BYTES: usize = 16 << 20;

/// A declared rule and what became of it at load.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredPadding {
    pub rule: PaddingRule,
    /// The padding that the model was shown to tolerate, or why requests are left as they are.
    pub proven: Result<SequencePadding, String>,
}

impl DeclaredPadding {
    /// Asks a loaded model whether it tolerates the padding. Blocks for some twenty runs.
    pub fn check(rule: &PaddingRule, model: &Arc<dyn Model>) -> Self {
        let mut session = model.clone().session();
        let mut run = |inputs: &[Tensor]| session.run(inputs, &|| false).map(|ran| ran.tensors);
        Self { rule: rule.clone(), proven: prove(rule, model.signature(), &mut run) }
    }

    /// What an operator should know; `None` if requests are padded as declared.
    pub fn note(&self) -> Option<String> {
        let reason = self.proven.as_ref().err()?;
        Some(format!("served without sequence padding: {reason}"))
    }
}

/// How the inputs are padded.
#[derive(Debug, Clone, PartialEq)]
pub struct InputPadding {
    /// Lengths to pad up to, ascending.
    buckets: Vec<usize>,
    /// In the signature's order; `None` for an input without the dimension. At least one has it.
    inputs: Vec<Option<PaddedInput>>,
}

#[derive(Debug, Clone, PartialEq)]
struct PaddedInput {
    axis: usize,
    /// The element that is added, as the tensor's bytes hold it.
    element: Vec<u8>,
}

/// Padding that a model was shown to tolerate.
#[derive(Debug, Clone, PartialEq)]
pub struct SequencePadding {
    inputs: InputPadding,
    /// The axis along which each output is as long as the inputs; `None` for one of a size of its own.
    outputs: Vec<Option<usize>>,
}

/// The length of a request before and after it was padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaddedLength {
    pub original: usize,
    pub padded: usize,
}

impl SequencePadding {
    /// Pads inputs, given in the signature's order and checked against it, at the end of the sequence up to the next
    /// bucket. `None` where they stay as they are: their length is a bucket or beyond the last, there is nothing in
    /// them, or they would grow by more than [`MAX_ADDED_BYTES`].
    pub fn pad(&self, inputs: Vec<Tensor>) -> (Vec<Tensor>, Option<PaddedLength>) {
        match self.inputs.next_length(&inputs) {
            Some(length) => (self.inputs.pad(&inputs, length.padded), Some(length)),
            None => (inputs, None),
        }
    }

    /// Cuts the outputs, in the signature's order, back to the request's own length.
    ///
    /// # Errors
    /// A text for the log where an output does not have the padded length, against what was proven.
    pub fn cut(&self, outputs: Vec<Tensor>, length: Option<PaddedLength>) -> Result<Vec<Tensor>, String> {
        let Some(length) = length else { return Ok(outputs) };
        let cut = |(position, output): (usize, Tensor)| match self.outputs.get(position) {
            Some(&Some(axis)) if output.shape().get(axis) == Some(&length.padded) => {
                Ok(slice_rows(&output, axis, 0, length.original))
            }
            Some(&Some(axis)) => Err(format!(
                "output {position} of a request padded to {} has shape {}, which can't be cut back along axis {axis}",
                length.padded,
                shape_text(output.shape())
            )),
            _ => Ok(output),
        };
        outputs.into_iter().enumerate().map(cut).collect()
    }
}

impl InputPadding {
    fn next_length(&self, inputs: &[Tensor]) -> Option<PaddedLength> {
        let axes = || self.inputs.iter().zip(inputs).filter_map(|(padded, input)| Some((padded.as_ref()?, input)));
        let original = axes().find_map(|(padded, input)| input.shape().get(padded.axis).copied())?;
        let padded = self.buckets.iter().copied().find(|&bucket| bucket >= original)?;
        let added = |(input, tensor): (&PaddedInput, &Tensor)| {
            tensor.element_count() / original * (padded - original) * input.element.len()
        };
        let has_elements = axes().all(|(_, tensor)| tensor.element_count() > 0);
        let is_worth_it = padded > original && has_elements && axes().map(added).sum::<usize>() <= MAX_ADDED_BYTES;
        is_worth_it.then_some(PaddedLength { original, padded })
    }

    fn pad(&self, inputs: &[Tensor], to: usize) -> Vec<Tensor> {
        let pad = |(padded, input): (&Option<PaddedInput>, &Tensor)| match padded {
            Some(padded) => padded.extend(input, to),
            None => input.clone(),
        };
        self.inputs.iter().zip(inputs).map(pad).collect()
    }
}

impl PaddedInput {
    fn new(axis: usize, dtype: DataType, value: f64) -> Option<Self> {
        Some(Self { axis, element: rule::element(dtype, value)? })
    }

    /// The tensor with the element added at the end of the axis until that is so long.
    fn extend(&self, tensor: &Tensor, to: usize) -> Tensor {
        let mut shape = tensor.shape().to_vec();
        shape[self.axis] = to - shape[self.axis];
        let data = self.element.repeat(element_count(&shape));
        let added = Tensor::from_raw(tensor.dtype(), shape, data.into()).expect("as many elements as the shape holds");
        concat_rows(&[tensor.clone(), added], self.axis).expect("the parts differ in this axis alone")
    }
}

#[cfg(test)]
mod tests;
