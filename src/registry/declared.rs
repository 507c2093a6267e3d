//! Inputs and outputs as a config.pbtxt declares them, held against what the model itself says.

use crate::error::nearest;
use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, shape_text};

/// What config.pbtxt says of a model's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// Whether `dims` leave out a leading batch dimension (`max_batch_size` above 0).
    pub batched: bool,
    pub inputs: Vec<DeclaredTensor>,
    pub outputs: Vec<DeclaredTensor>,
}

/// One `input` or `output` of config.pbtxt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredTensor {
    pub name: String,
    /// `None` where the file leaves it out.
    pub dtype: Option<DataType>,
    /// -1 for a dimension that varies; empty where the file leaves them out.
    pub dims: Vec<i64>,
}

/// How a declaration contradicts the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclaredError {
    #[error("config.pbtxt declares {side} '{name}', which the model does not have{}", nearest_text(nearest))]
    Unknown { side: &'static str, name: String, nearest: Option<String> },
    #[error("config.pbtxt declares {side} '{name}' as {expected}, but the model's is {got}")]
    Type { side: &'static str, name: String, expected: DataType, got: DataType },
    #[error("config.pbtxt declares {side} '{name}' with shape {expected}, but the model's is {got}")]
    Shape { side: &'static str, name: String, expected: String, got: String },
}

impl Declared {
    /// Checks that the model has every declared tensor, with that datatype and a shape that agrees. The model may have
    /// more, and a size may vary on either side.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self, signature: &Signature) -> Result<(), DeclaredError> {
        for (side, declared, specs) in
            [("input", &self.inputs, &signature.inputs), ("output", &self.outputs, &signature.outputs)]
        {
            for tensor in declared {
                self.check_tensor(side, tensor, specs)?;
            }
        }
        Ok(())
    }

    fn check_tensor(
        &self,
        side: &'static str,
        tensor: &DeclaredTensor,
        specs: &[TensorSpec],
    ) -> Result<(), DeclaredError> {
        let name = || tensor.name.clone();
        let Some(spec) = specs.iter().find(|spec| spec.name == tensor.name) else {
            let nearest = nearest(&tensor.name, specs.iter().map(|spec| spec.name.as_str()));
            return Err(DeclaredError::Unknown { side, name: name(), nearest });
        };
        if let Some(expected) = tensor.dtype.filter(|&dtype| dtype != spec.dtype) {
            return Err(DeclaredError::Type { side, name: name(), expected, got: spec.dtype });
        }
        let (Some(dims), false) = (&spec.dims, tensor.dims.is_empty()) else { return Ok(()) };
        let full: Vec<i64> = self.batched.then_some(-1).into_iter().chain(tensor.dims.iter().copied()).collect();
        let agree = |(&declared, dim): (&i64, &Dim)| declared == -1 || dim.wire() == -1 || declared == dim.wire();
        if full.len() != dims.len() || !full.iter().zip(dims).all(agree) {
            let (expected, got) = (shape_text(&full), shape_text(&spec.wire_shape()));
            return Err(DeclaredError::Shape { side, name: name(), expected, got });
        }
        Ok(())
    }
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Batching;

    fn check(batched: bool, name: &str, dtype: Option<DataType>, dims: &[i64]) -> Result<(), String> {
        let spec = TensorSpec {
            name: "image".into(),
            dtype: DataType::Fp32,
            dims: Some(vec![Dim::Named("N".into()), Dim::Fixed(3), Dim::Unknown]),
            classes: vec![],
        };
        let signature = Signature { inputs: vec![spec], outputs: vec![], batching: Batching::Unproven(String::new()) };
        let inputs = vec![DeclaredTensor { name: name.into(), dtype, dims: dims.to_vec() }];
        Declared { batched, inputs, outputs: vec![] }.check(&signature).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_declaration_that_agrees() {
        assert_eq!(check(true, "image", Some(DataType::Fp32), &[3, 224]), Ok(()));
        assert_eq!(check(false, "image", None, &[8, 3, -1]), Ok(()));
        assert_eq!(check(false, "image", None, &[]), Ok(()));
    }

    #[test]
    fn contradictions_name_both_sides() {
        let text = |result: Result<(), String>| result.unwrap_err();
        assert_eq!(
            text(check(true, "imge", None, &[])),
            "config.pbtxt declares input 'imge', which the model does not have, did you mean 'image'?"
        );
        assert_eq!(
            text(check(true, "image", Some(DataType::Fp16), &[])),
            "config.pbtxt declares input 'image' as FP16, but the model's is FP32"
        );
        assert_eq!(
            text(check(true, "image", None, &[4, -1])),
            "config.pbtxt declares input 'image' with shape [-1,4,-1], but the model's is [-1,3,-1]"
        );
        assert!(check(false, "image", None, &[3, -1]).is_err(), "a rank that differs");
    }
}
