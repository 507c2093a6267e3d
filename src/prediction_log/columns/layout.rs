//! How a tensor lies in the columns of a row.

use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Fields};

use crate::prediction_log::settings::Redaction;
use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::DataType;

/// Which way a tensor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

impl Side {
    /// What its columns' names begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Input => "in_",
            Self::Output => "out_",
        }
    }

    /// The word in a column's metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "in",
            Self::Output => "out",
        }
    }
}

/// How a tensor is cut into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Rows lie along this axis.
    Axis(usize),
    /// All rows of the request have the whole of it.
    Shared,
    /// The request is one row, for no batch axis is proven.
    Whole,
}

/// A tensor as rows hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLayout {
    pub name: String,
    pub dtype: DataType,
    pub cut: Cut,
    /// Dimensions of one row, without the batch axis; an inner `None` varies, an outer one means not even the rank is known.
    pub row_dims: Option<Vec<Option<usize>>>,
}

impl TensorLayout {
    /// The layouts of a signature's inputs and outputs.
    pub fn of(signature: &Signature) -> (Vec<Self>, Vec<Self>) {
        let axes = signature.batch_axes();
        let layouts = |specs: &[TensorSpec], axes: Option<&[Option<usize>]>| {
            let cut = |at: usize| match axes {
                None => Cut::Whole,
                Some(axes) => axes.get(at).copied().flatten().map_or(Cut::Shared, Cut::Axis),
            };
            specs.iter().enumerate().map(|(at, spec)| Self::of_tensor(spec, cut(at))).collect()
        };
        (
            layouts(&signature.inputs, axes.map(|axes| axes.inputs.as_slice())),
            layouts(&signature.outputs, axes.map(|axes| axes.outputs.as_slice())),
        )
    }

    fn of_tensor(spec: &TensorSpec, cut: Cut) -> Self {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => Some(*size),
            Dim::Named(_) | Dim::Unknown => None,
        };
        let row_dims = spec.dims.as_ref().map(|dims| {
            let is_batch = |axis: usize| cut == Cut::Axis(axis);
            dims.iter().enumerate().filter(|(axis, _)| !is_batch(*axis)).map(|(_, dim)| size(dim)).collect()
        });
        Self { name: spec.name.clone(), dtype: spec.dtype, cut, row_dims }
    }

    /// Elements of a row, where its shape is known.
    pub fn row_elements(&self) -> Option<usize> {
        self.row_dims.as_ref()?.iter().try_fold(1usize, |product, dim| product.checked_mul((*dim)?))
    }

    /// How a column holds rows of this tensor of which it holds the whole.
    pub fn kind(&self, max_tensor_bytes: usize) -> Kind {
        let Some(dims) = &self.row_dims else { return Kind::Shaped };
        // A text takes at least its length.
        let element_bytes = self.dtype.size().unwrap_or(4);
        match self.row_elements() {
            Some(1) => Kind::Value,
            // Lists of a fixed size take their room where they are null too, so rows that are never written or that are
            // empty get the other kind.
            Some(count) if count > 0 && count <= max_tensor_bytes / element_bytes && i32::try_from(count).is_ok() => {
                Kind::Fixed(count)
            }
            Some(_) => Kind::List,
            None if dims.len() == 1 => Kind::List,
            None => Kind::Shaped,
        }
    }
}

/// How a column holds its part of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One element.
    Value,
    /// So many elements in row-major order: a list of a fixed size.
    Fixed(usize),
    /// Any number of elements.
    List,
    /// Elements and their shape: a struct of two lists.
    Shaped,
}

/// One column of a tensor's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub side: Side,
    /// Place of the tensor among the signature's inputs or outputs.
    pub tensor: usize,
    /// [`Kind::Value`]: which element of the row, in row-major order. Else 0.
    pub element: usize,
    /// Whether it is one of several columns of its tensor, by the names of `features`.
    pub is_feature: bool,
    pub kind: Kind,
    /// Of the tensor.
    pub dtype: DataType,
    pub redaction: Option<Redaction>,
}

impl Column {
    /// The type of the column in Arrow.
    pub fn arrow_type(&self) -> ArrowType {
        let element = self.element_type();
        let items = |element| Arc::new(Field::new("item", element, true));
        match self.kind {
            _ if self.redaction == Some(Redaction::Hmac) => ArrowType::Utf8,
            Kind::Value => element,
            Kind::Fixed(count) => ArrowType::FixedSizeList(items(element), count as i32),
            Kind::List => ArrowType::List(items(element)),
            Kind::Shaped => ArrowType::Struct(Fields::from(vec![
                Field::new("shape", ArrowType::List(items(ArrowType::Int64)), false),
                Field::new("data", ArrowType::List(items(element)), false),
            ])),
        }
    }

    /// The type of one element in Arrow.
    pub fn element_type(&self) -> ArrowType {
        match self.redaction {
            Some(Redaction::Hmac | Redaction::Mask { .. }) => ArrowType::Utf8,
            _ => element_type(self.dtype),
        }
    }
}

/// What elements of a datatype are in Arrow: half precision is widened, byte strings become text.
pub fn element_type(dtype: DataType) -> ArrowType {
    match dtype {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int8 => ArrowType::Int8,
        DataType::Int16 => ArrowType::Int16,
        DataType::Int32 => ArrowType::Int32,
        DataType::Int64 => ArrowType::Int64,
        DataType::Uint8 => ArrowType::UInt8,
        DataType::Uint16 => ArrowType::UInt16,
        DataType::Uint32 => ArrowType::UInt32,
        DataType::Uint64 => ArrowType::UInt64,
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 => ArrowType::Float32,
        DataType::Fp64 => ArrowType::Float64,
        DataType::Bytes => ArrowType::Utf8,
    }
}

/// Whether elements are numbers: neither texts nor truths.
pub fn is_number(dtype: DataType) -> bool {
    !matches!(dtype, DataType::Bool | DataType::Bytes)
}

/// Whether elements are numbers with a fraction.
pub fn is_float(dtype: DataType) -> bool {
    matches!(dtype, DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64)
}
