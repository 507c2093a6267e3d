//! Columns of a row as tensors of the Open Inference Protocol.

use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{
    DataType as ArrowType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use crate::prediction_log::columns::{Cut, Notes, Side};
use crate::tensor::DataType;

/// The tensors of one side, inputs or outputs, and the columns that hold them.
#[derive(Debug)]
pub struct Tensors {
    tensors: Vec<Tensor>,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    datatype: DataType,
    /// Where the axis of rows is, which one row has with size 1.
    axis: Option<usize>,
    /// Of one row; `None` where it varies.
    row_shape: Option<Vec<i64>>,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// One column has all of it.
    Whole(usize),
    /// Columns, each with the place of its one element in the row.
    Elements(Vec<(usize, usize)>),
}

impl Tensors {
    /// Finds them by what the schema's fields say. What redaction made a text of is a tensor of its own, named as its
    /// column.
    pub fn of(batch: &RecordBatch, side: Side) -> Self {
        let mut tensors: Vec<Tensor> = vec![];
        for (at, field) in batch.schema_ref().fields().iter().enumerate() {
            let Some(notes) = Notes::of(field).filter(|notes| notes.side == side) else { continue };
            let Notes { tensor: name, dtype: datatype, cut, row_shape, element, .. } = notes;
            let axis = if let Cut::Axis(axis) = cut { Some(axis) } else { None };
            if datatype != DataType::Bytes && is_text(field.data_type()) {
                let name = field.name().strip_prefix(side.prefix()).unwrap_or(field.name()).to_owned();
                let parts = Parts::Whole(at);
                tensors.push(Tensor { name, datatype: DataType::Bytes, axis: None, row_shape: None, parts });
                continue;
            }
            let Some(element) = element else {
                tensors.push(Tensor { name, datatype, axis, row_shape, parts: Parts::Whole(at) });
                continue;
            };
            let same = tensors.iter_mut().find_map(|tensor| match &mut tensor.parts {
                Parts::Elements(columns) if tensor.name == name => Some(columns),
                _ => None,
            });
            match same {
                Some(columns) => columns.push((at, element)),
                None => {
                    let parts = Parts::Elements(vec![(at, element)]);
                    tensors.push(Tensor { name, datatype, axis, row_shape, parts });
                }
            }
        }
        Self { tensors }
    }

    /// Appends a row's tensors as JSON, divided by commas. One that the row doesn't have is left out; an element that it
    /// doesn't have, or that JSON has no word for, is null.
    pub fn write(&self, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
        let mut first = true;
        for tensor in &self.tensors {
            let Some((shape, data)) = tensor.values(batch, row) else { continue };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend(b"{\"name\":");
            push_text(&tensor.name, out);
            _ = write!(out, ",\"datatype\":\"{}\",\"shape\":{shape:?},\"data\":[", tensor.datatype.name());
            out.extend(data);
            out.extend(b"]}");
        }
    }
}

impl Tensor {
    /// Shape and elements, as they stand between brackets; `None` if the row has none of it.
    fn values(&self, batch: &RecordBatch, row: usize) -> Option<(Vec<i64>, Vec<u8>)> {
        let (mut data, mut shape) = (vec![], None);
        let count = match &self.parts {
            Parts::Whole(at) => {
                let column = batch.column(*at);
                if column.is_null(row) {
                    return None;
                }
                let (elements, own_shape) = elements(column, row);
                shape = own_shape;
                push_elements((0..elements.len()).map(|element| Some((&elements, element))), &mut data);
                elements.len()
            }
            Parts::Elements(columns) => {
                if columns.iter().all(|(at, _)| batch.column(*at).is_null(row)) {
                    return None;
                }
                let product = self.row_shape.as_ref().and_then(|shape| product(shape));
                let highest = columns.iter().map(|(_, element)| element + 1).max().unwrap_or(0);
                let count = product.unwrap_or(highest).max(highest);
                let column = |element| columns.iter().find(|(_, place)| *place == element);
                push_elements((0..count).map(|element| Some((batch.column(column(element)?.0), row))), &mut data);
                count
            }
        };
        let known = self.row_shape.clone().filter(|shape| product(shape) == Some(count));
        let mut shape = shape.or(known).unwrap_or_else(|| vec![count as i64]);
        if let Some(axis) = self.axis.filter(|axis| *axis <= shape.len()) {
            shape.insert(axis, 1);
        }
        Some((shape, data))
    }
}

/// Elements of a shape; `None` if a size varies.
fn product(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?))
}

/// The elements of a value that is there, and its own shape where it has one.
fn elements(column: &ArrayRef, row: usize) -> (ArrayRef, Option<Vec<i64>>) {
    match column.data_type() {
        ArrowType::List(_) => (column.as_list::<i32>().value(row), None),
        ArrowType::FixedSizeList(..) => (column.as_fixed_size_list().value(row), None),
        ArrowType::Struct(_) => {
            let parts = column.as_struct();
            let part = |name| parts.column_by_name(name).map(|list| elements(list, row).0);
            let shape = part("shape").and_then(|sizes| Some(sizes.as_primitive_opt::<Int64Type>()?.values().to_vec()));
            (part("data").unwrap_or_else(|| column.slice(row, 0)), shape)
        }
        _ => (column.slice(row, 1), None),
    }
}

fn is_text(data_type: &ArrowType) -> bool {
    match data_type {
        ArrowType::Utf8 => true,
        ArrowType::List(items) | ArrowType::FixedSizeList(items, _) => is_text(items.data_type()),
        ArrowType::Struct(fields) => fields.iter().any(|field| field.name() == "data" && is_text(field.data_type())),
        _ => false,
    }
}

fn push_elements<'a>(elements: impl Iterator<Item = Option<(&'a ArrayRef, usize)>>, out: &mut Vec<u8>) {
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match element {
            Some((array, index)) if array.is_valid(index) => push_element(array, index, out),
            _ => out.extend(b"null"),
        }
    }
}

fn push_element(array: &ArrayRef, at: usize, out: &mut Vec<u8>) {
    macro_rules! whole {
        ($type:ty) => {
            out.extend(itoa::Buffer::new().format(array.as_primitive::<$type>().value(at)).as_bytes())
        };
    }
    macro_rules! float {
        ($type:ty) => {{
            let value = array.as_primitive::<$type>().value(at);
            if value.is_finite() {
                out.extend(ryu::Buffer::new().format_finite(value).as_bytes());
            } else {
                out.extend(b"null");
            }
        }};
    }
    match array.data_type() {
        ArrowType::Boolean => out.extend(array.as_boolean().value(at).to_string().as_bytes()),
        ArrowType::Int8 => whole!(Int8Type),
        ArrowType::Int16 => whole!(Int16Type),
        ArrowType::Int32 => whole!(Int32Type),
        ArrowType::Int64 => whole!(Int64Type),
        ArrowType::UInt8 => whole!(UInt8Type),
        ArrowType::UInt16 => whole!(UInt16Type),
        ArrowType::UInt32 => whole!(UInt32Type),
        ArrowType::UInt64 => whole!(UInt64Type),
        ArrowType::Float32 => float!(Float32Type),
        ArrowType::Float64 => float!(Float64Type),
        ArrowType::Utf8 => push_text(array.as_string::<i32>().value(at), out),
        _ => out.extend(b"null"),
    }
}

/// Appends a text as JSON.
pub fn push_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory can't fail.
    _ = serde_json::to_writer(out, text);
}
