//! What a model takes and gives, and the check of a request against it.

use std::collections::HashMap;

use crate::error::{Error, Fault, Result, nearest};
use crate::inference::printable;
use crate::tensor::{DataType, Tensor, shape_text};

/// One dimension of a declared shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    /// A dimension the file names, such as `N`: equal names mean equal sizes within a request.
    Named(String),
    /// Any size.
    Unknown,
}

impl Dim {
    /// The size as the protocol writes it: -1 for a dimension that varies.
    pub fn wire(&self) -> i64 {
        match self {
            Self::Fixed(size) => *size as i64,
            Self::Named(_) | Self::Unknown => -1,
        }
    }
}

/// Name, datatype and shape of one input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub dtype: DataType,
    /// `None` where the file does not even declare a rank.
    pub dims: Option<Vec<Dim>>,
    /// What the columns of an output of scores stand for, where the file says so; else empty.
    pub classes: Vec<String>,
}

impl TensorSpec {
    /// The shape as the protocol writes it, -1 for dimensions that vary; `[-1]` for an undeclared rank.
    pub fn wire_shape(&self) -> Vec<i64> {
        self.dims.as_ref().map_or_else(|| vec![-1], |dims| dims.iter().map(Dim::wire).collect())
    }
}

/// Why a model of fixed shapes has no batch axis: nothing that an operator need be told.
pub const NOTHING_VARIES: &str = "no input has a dimension that varies";

/// Along which axis the rows of a batch lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batching {
    /// Rows run alone gave the same outputs as rows run together.
    Proven(BatchAxes),
    /// No batch axis, or rows mix; the text says which and how it was found.
    Unproven(String),
}

/// The batch axis of every input and output; `None` for a tensor all rows share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchAxes {
    pub inputs: Vec<Option<usize>>,
    pub outputs: Vec<Option<usize>>,
}

/// The inputs and outputs of a model, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    pub batching: Batching,
}

impl Signature {
    pub fn input(&self, name: &str) -> Option<&TensorSpec> {
        self.inputs.iter().find(|spec| spec.name == name)
    }

    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| spec.name == name)
    }

    pub fn batch_axes(&self) -> Option<&BatchAxes> {
        match &self.batching {
            Batching::Proven(axes) => Some(axes),
            Batching::Unproven(_) => None,
        }
    }

    /// Rows in these inputs, given in the signature's order; 1 where no batch axis is proven.
    pub fn batch_size(&self, inputs: &[Tensor]) -> usize {
        let axes = self.batch_axes().map(|axes| axes.inputs.as_slice()).unwrap_or_default();
        axes.iter().zip(inputs).find_map(|(axis, tensor)| tensor.shape().get((*axis)?).copied()).unwrap_or(1)
    }

    /// Whether the shapes of a run's inputs are known once its rows are: no other dimension of an input varies.
    pub fn only_rows_vary(&self) -> bool {
        let axes = self.batch_axes().map(|axes| axes.inputs.as_slice()).unwrap_or_default();
        let is_known = |(input, spec): (usize, &TensorSpec)| {
            let rows = axes.get(input).copied().flatten();
            let fixed = |(axis, dim): (usize, &Dim)| rows == Some(axis) || matches!(dim, Dim::Fixed(_));
            spec.dims.as_ref().is_some_and(|dims| dims.iter().enumerate().all(fixed))
        };
        self.inputs.iter().enumerate().all(is_known)
    }

    /// Puts named inputs into the signature's order and checks names, datatypes and shapes.
    ///
    /// `model` and `id` (the client's request id, may be empty) only appear in error texts.
    ///
    /// # Errors
    /// The first thing wrong: an unknown, repeated or missing input, another datatype, another rank, another size
    /// of a fixed dimension, or two sizes of one named dimension.
    pub fn check_inputs(&self, model: &str, id: &str, inputs: Vec<(String, Tensor)>) -> Result<Vec<Tensor>> {
        let got = inputs.len();
        let mut slots: Vec<Option<Tensor>> = vec![None; self.inputs.len()];
        for (name, tensor) in inputs {
            let Some(position) = self.inputs.iter().position(|spec| spec.name == name) else {
                let nearest = nearest(&name, self.inputs.iter().map(|spec| spec.name.as_str()));
                return Err(Error::mismatch(model, id, Fault::UnknownInput { input: printable(&name), nearest }));
            };
            if slots[position].replace(tensor).is_some() {
                return Err(Error::mismatch(model, id, Fault::DuplicateInput { input: printable(&name) }));
            }
        }
        let missing: Vec<String> = self
            .inputs
            .iter()
            .zip(&slots)
            .filter(|(_, slot)| slot.is_none())
            .map(|(spec, _)| spec.name.clone())
            .collect();
        if !missing.is_empty() {
            let expected = self.inputs.len();
            return Err(Error::mismatch(model, id, Fault::InputCount { expected, got, missing }));
        }
        let tensors: Vec<Tensor> = slots.into_iter().flatten().collect();
        self.check_tensors(model, id, &tensors)?;
        Ok(tensors)
    }

    fn check_tensors(&self, model: &str, id: &str, tensors: &[Tensor]) -> Result<()> {
        let mut named: HashMap<&str, (usize, &str)> = HashMap::new();
        for (spec, tensor) in self.inputs.iter().zip(tensors) {
            if tensor.dtype() != spec.dtype {
                let fault = Fault::InputType { input: spec.name.clone(), expected: spec.dtype, got: tensor.dtype() };
                return Err(Error::mismatch(model, id, fault));
            }
            let Some(dims) = &spec.dims else { continue };
            let fits = dims.len() == tensor.shape().len()
                && dims.iter().zip(tensor.shape()).all(|(dim, &size)| !matches!(dim, Dim::Fixed(f) if *f != size));
            if !fits {
                let (expected, got) = (shape_text(&spec.wire_shape()), shape_text(tensor.shape()));
                let fault = Fault::InputShape { input: spec.name.clone(), expected, got };
                return Err(Error::mismatch(model, id, fault));
            }
            for (axis, (dim, &size)) in dims.iter().zip(tensor.shape()).enumerate() {
                let Dim::Named(dim) = dim else { continue };
                let (expected, other) = *named.entry(dim).or_insert((size, &spec.name));
                if expected != size {
                    let (input, dim, other) = (spec.name.clone(), dim.clone(), other.to_owned());
                    let fault = Fault::InconsistentDim { input, axis, dim, expected, other, got: size };
                    return Err(Error::mismatch(model, id, fault));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, dtype, dims| TensorSpec { name: name.into(), dtype, dims: Some(dims), classes: vec![] };
        Signature {
            inputs: vec![
                spec("x", DataType::Fp32, vec![Dim::Named("N".into()), Dim::Fixed(4)]),
                spec("k", DataType::Int64, vec![Dim::Named("N".into())]),
            ],
            outputs: vec![spec("y", DataType::Fp32, vec![Dim::Named("N".into())])],
            batching: Batching::Proven(BatchAxes { inputs: vec![Some(0), Some(0)], outputs: vec![Some(0)] }),
        }
    }

    fn x(rows: usize) -> (String, Tensor) {
        ("x".into(), Tensor::zeros(DataType::Fp32, vec![rows, 4]))
    }

    fn k(rows: usize) -> (String, Tensor) {
        ("k".into(), Tensor::zeros(DataType::Int64, vec![rows]))
    }

    #[test]
    fn shapes_are_known_by_their_rows_if_nothing_else_varies() {
        let mut signature = signature();
        assert!(signature.only_rows_vary());
        signature.inputs[0].dims = Some(vec![Dim::Named("N".into()), Dim::Named("T".into())]);
        assert!(!signature.only_rows_vary());
        signature.inputs[0].dims = None;
        assert!(!signature.only_rows_vary());
    }

    #[test]
    fn inputs_come_out_in_the_models_order() {
        let tensors = signature().check_inputs("m", "", vec![k(3), x(3)]).unwrap();
        assert_eq!(tensors[0].dtype(), DataType::Fp32);
        assert_eq!(signature().batch_size(&tensors), 3);
    }

    #[test]
    fn each_mistake_names_what_was_expected_and_what_came() {
        let check = |inputs| signature().check_inputs("m", "7", inputs).unwrap_err().to_string();
        assert_eq!(check(vec![x(1)]), "[request id: 7] expected 2 inputs but got 1 inputs for model 'm', missing: 'k'");
        assert!(check(vec![x(1), x(1)]).contains("input 'x' is given twice"));
        let z = ("xx".to_owned(), Tensor::zeros(DataType::Fp32, vec![1, 4]));
        assert!(check(vec![z, k(1)]).contains("unexpected inference input 'xx' for model 'm', did you mean 'x'?"));
        let wide = ("x".to_owned(), Tensor::zeros(DataType::Fp32, vec![1, 5]));
        assert!(
            check(vec![wide, k(1)])
                .ends_with("unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [1,5]")
        );
        let typed = ("x".to_owned(), Tensor::zeros(DataType::Int32, vec![1, 4]));
        assert!(
            check(vec![typed, k(1)])
                .ends_with("inference input 'x' data-type is 'INT32', but model 'm' expects 'FP32'")
        );
        assert!(check(vec![x(2), k(3)]).contains("Expected dimension 0 ('N') to be 2 as in input 'x', got 3"));
    }
}
