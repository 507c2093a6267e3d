//! What an operator declares about a sequence axis, and how it fits a model.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::{InputPadding, PaddedInput};
use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, shape_text};

/// Which dimension may be padded, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct PaddingRule {
    /// The file's name for the dimension.
    pub dimension: String,
    /// Lengths to pad up to: ascending, from 1 to [`PaddingRule::MAX_BUCKET`].
    pub buckets: Vec<usize>,
    /// The input by which the model ignores what was added: it is padded with zeros.
    pub mask: Option<String>,
    /// The values that other inputs are padded with; 0 where none is given.
    pub pad: BTreeMap<String, f64>,
}

/// How a rule contradicts the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PaddingError {
    #[error(
        "sequence_padding.dimension: expected a dimension that the model's inputs name ({}), got '{got}'",
        known_text(known)
    )]
    UnknownDimension { known: Vec<String>, got: String },
    #[error(
        "sequence_padding.dimension: expected a dimension of the sequence, got '{dimension}', along which the rows of a batch lie"
    )]
    BatchDimension { dimension: String },
    #[error("sequence_padding.dimension: expected '{dimension}' on one axis of input '{input}', got {got}")]
    SeveralAxes { dimension: String, input: String, got: usize },
    #[error("sequence_padding.{key}: expected an input of the model ({}), got '{got}'", known_text(known))]
    UnknownInput { key: &'static str, known: Vec<String>, got: String },
    #[error("sequence_padding.{key}: expected an input with dimension '{dimension}', got '{input}' of shape {got}")]
    NotPadded { key: &'static str, dimension: String, input: String, got: String },
    #[error("sequence_padding.mask: expected an input of numbers, got '{input}' of BYTES")]
    MaskOfBytes { input: String },
    #[error("sequence_padding.pad: expected inputs other than the mask, which is padded with zeros, got '{input}'")]
    PaddedMask { input: String },
    #[error("sequence_padding.pad.{input}: expected {}, got {got}", value_text(*dtype))]
    Value { input: String, dtype: DataType, got: f64 },
}

impl PaddingRule {
    /// Most lengths to pad up to.
    pub const MAX_BUCKETS: usize = 64;
    /// Longest length to pad up to. The cost of attention grows with the square of it, and what is longer gains little
    /// from company.
    pub const MAX_BUCKET: usize = 4096;

    /// The padding of the inputs that this rule means for a model.
    ///
    /// # Errors
    /// `PaddingError` where it names what the model doesn't have, or can't be meant.
    pub fn fit(&self, signature: &Signature) -> Result<InputPadding, PaddingError> {
        let axes = self.axes(signature)?;
        let named = self.mask.iter().map(|mask| ("mask", mask)).chain(self.pad.keys().map(|input| ("pad", input)));
        for (key, input) in named {
            self.check_named(key, input, signature, &axes)?;
        }
        if let Some(mask) = self.mask.as_ref().filter(|mask| self.pad.contains_key(*mask)) {
            return Err(PaddingError::PaddedMask { input: mask.clone() });
        }
        let padded = |(spec, axis): (&TensorSpec, &Option<usize>)| {
            let Some(axis) = *axis else { return Ok(None) };
            let got = self.pad.get(&spec.name).copied().unwrap_or(0.0);
            let fault = || PaddingError::Value { input: spec.name.clone(), dtype: spec.dtype, got };
            PaddedInput::new(axis, spec.dtype, got).map(Some).ok_or_else(fault)
        };
        let inputs = signature.inputs.iter().zip(&axes).map(padded).collect::<Result<_, _>>()?;
        Ok(InputPadding { buckets: self.buckets.clone(), inputs })
    }

    /// The dimension's axis in each input.
    fn axes(&self, signature: &Signature) -> Result<Vec<Option<usize>>, PaddingError> {
        let is_it = |dim: &Dim| matches!(dim, Dim::Named(name) if *name == self.dimension);
        let mut axes = vec![];
        for spec in &signature.inputs {
            let mut found = dims(spec).enumerate().filter(|(_, dim)| is_it(dim)).map(|(axis, _)| axis);
            let first = found.next();
            let others = found.count();
            if others > 0 {
                let (dimension, input) = (self.dimension.clone(), spec.name.clone());
                return Err(PaddingError::SeveralAxes { dimension, input, got: 1 + others });
            }
            axes.push(first);
        }
        if axes.iter().all(Option::is_none) {
            let mut known: Vec<String> = vec![];
            for dim in signature.inputs.iter().flat_map(dims) {
                match dim {
                    Dim::Named(name) if !known.contains(name) => known.push(name.clone()),
                    _ => {}
                }
            }
            return Err(PaddingError::UnknownDimension { known, got: self.dimension.clone() });
        }
        let rows = signature.batch_axes().map(|axes| axes.inputs.as_slice()).unwrap_or_default();
        match rows.iter().zip(&axes).any(|(row, axis)| row.is_some() && row == axis) {
            true => Err(PaddingError::BatchDimension { dimension: self.dimension.clone() }),
            false => Ok(axes),
        }
    }

    /// Checks an input that the rule names.
    fn check_named(
        &self,
        key: &'static str,
        input: &str,
        signature: &Signature,
        axes: &[Option<usize>],
    ) -> Result<(), PaddingError> {
        let Some(position) = signature.inputs.iter().position(|spec| spec.name == input) else {
            let known = signature.inputs.iter().map(|spec| spec.name.clone()).collect();
            return Err(PaddingError::UnknownInput { key, known, got: input.to_owned() });
        };
        let spec = &signature.inputs[position];
        if axes[position].is_none() {
            let (dimension, got) = (self.dimension.clone(), shape_text(&spec.wire_shape()));
            return Err(PaddingError::NotPadded { key, dimension, input: input.to_owned(), got });
        }
        match (key, spec.dtype) {
            ("mask", DataType::Bytes) => Err(PaddingError::MaskOfBytes { input: input.to_owned() }),
            _ => Ok(()),
        }
    }
}

/// The bytes of one element of this value; `None` where the datatype doesn't have it. BYTES has the empty text as 0.
pub fn element(dtype: DataType, value: f64) -> Option<Vec<u8>> {
    /// The integer, if it is one that the datatype holds.
    fn whole<T: TryFrom<i128>>(value: f64) -> Option<T> {
        // Above, neighbouring integers are the same float.
        const EXACT: f64 = (1u64 << 53) as f64;
        (value.fract() == 0.0 && value.abs() <= EXACT).then(|| T::try_from(value as i128).ok())?
    }
    Some(match dtype {
        DataType::Bool => vec![whole::<u8>(value).filter(|&bit| bit <= 1)?],
        DataType::Int8 => whole::<i8>(value)?.to_le_bytes().to_vec(),
        DataType::Int16 => whole::<i16>(value)?.to_le_bytes().to_vec(),
        DataType::Int32 => whole::<i32>(value)?.to_le_bytes().to_vec(),
        DataType::Int64 => whole::<i64>(value)?.to_le_bytes().to_vec(),
        DataType::Uint8 => whole::<u8>(value)?.to_le_bytes().to_vec(),
        DataType::Uint16 => whole::<u16>(value)?.to_le_bytes().to_vec(),
        DataType::Uint32 => whole::<u32>(value)?.to_le_bytes().to_vec(),
        DataType::Uint64 => whole::<u64>(value)?.to_le_bytes().to_vec(),
        DataType::Fp16 => f16::from_f64(value).to_le_bytes().to_vec(),
        DataType::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        DataType::Fp32 => (value as f32).to_le_bytes().to_vec(),
        DataType::Fp64 => value.to_le_bytes().to_vec(),
        // The length of nothing.
        DataType::Bytes => (value == 0.0).then(|| vec![0; 4])?,
    })
}

fn dims(spec: &TensorSpec) -> impl Iterator<Item = &Dim> {
    spec.dims.iter().flatten()
}

fn known_text(known: &[String]) -> String {
    match known {
        [] => "there is none".to_owned(),
        known => known.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "),
    }
}

fn value_text(dtype: DataType) -> String {
    match dtype {
        DataType::Bytes => "no value for BYTES, which is padded with empty texts".to_owned(),
        dtype => format!("a value of {dtype}"),
    }
}
