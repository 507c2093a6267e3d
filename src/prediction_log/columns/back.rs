//! The way back: the input tensors of a logged row, by the schema of its file alone.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use half::{bf16, f16};

use super::field_notes::Notes;
use super::flags;
use super::layout::{Cut, Side};
use super::standard::FLAGS;
use crate::signature::Signature;
use crate::tensor::{DataType, Element, Tensor, push_byte_element};

/// Why a row can't become a request again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayable {
    #[error("the batch has {rows} rows, and row {row} is asked for")]
    NoSuchRow { row: usize, rows: usize },
    #[error("input '{input}' was not logged")]
    Missing { input: String },
    #[error("column '{column}' was redacted ({rule})")]
    Redacted { column: String, rule: String },
    #[error("the disk was nearly full, and the row was written without its tensors")]
    PayloadDropped,
    #[error("input '{input}' was too large to be written")]
    Truncated { input: String },
    #[error("a text that was not UTF-8 was changed when it was written")]
    LossyText,
    #[error("column '{column}' does not hold what its own schema says: expected {expected}")]
    Malformed { column: String, expected: String },
}

/// The inputs of a row as a request of one row would bring them, in the signature's order. The schema says how columns make
/// tensors; the signature says which are wanted. Whether they fit the model is the signature's own check.
///
/// # Errors
/// `NotReplayable` with the reason.
pub fn tensors_of(
    batch: &RecordBatch,
    row: usize,
    signature: &Signature,
) -> Result<Vec<(String, Tensor)>, NotReplayable> {
    if row >= batch.num_rows() {
        return Err(NotReplayable::NoSuchRow { row, rows: batch.num_rows() });
    }
    let columns = input_columns(batch);
    let flags = row_flags(batch, row)?;
    let tensor = |name: &String| {
        let parts: Vec<&Part<'_>> = columns.iter().filter(|part| part.notes.tensor == *name).collect();
        let tensor = tensor_of(&parts, row, name, flags)?;
        Ok((name.clone(), tensor))
    };
    signature.inputs.iter().map(|spec| tensor(&spec.name)).collect()
}

/// A column that is part of an input.
struct Part<'a> {
    name: &'a str,
    notes: Notes,
    array: &'a ArrayRef,
}

impl Part<'_> {
    fn malformed(&self, expected: impl Into<String>) -> NotReplayable {
        NotReplayable::Malformed { column: self.name.to_owned(), expected: expected.into() }
    }
}

fn input_columns(batch: &RecordBatch) -> Vec<Part<'_>> {
    let schema = batch.schema_ref();
    let part = |(field, array)| {
        let field: &arrow::datatypes::FieldRef = field;
        Some(Part { name: field.name(), notes: Notes::of(field)?, array })
    };
    schema.fields().iter().zip(batch.columns()).filter_map(part).filter(|part| part.notes.side == Side::Input).collect()
}

fn row_flags(batch: &RecordBatch, row: usize) -> Result<u32, NotReplayable> {
    let flags = batch.column_by_name(FLAGS).and_then(|array| array.as_primitive_opt::<UInt32Type>());
    let flags = flags.filter(|flags| flags.is_valid(row));
    flags.map(|flags| flags.value(row)).ok_or_else(|| NotReplayable::Malformed {
        column: FLAGS.to_owned(),
        expected: "whole numbers of 32 bits".to_owned(),
    })
}

fn tensor_of(parts: &[&Part<'_>], row: usize, input: &str, row_flags: u32) -> Result<Tensor, NotReplayable> {
    let Some(first) = parts.first() else { return Err(NotReplayable::Missing { input: input.to_owned() }) };
    if let Some((part, rule)) = parts.iter().find_map(|part| Some((part, part.notes.redaction.clone()?))) {
        return Err(NotReplayable::Redacted { column: part.name.to_owned(), rule });
    }
    if parts.iter().any(|part| part.array.is_null(row)) {
        let input = input.to_owned();
        return Err(match row_flags {
            bits if bits & flags::PAYLOAD_DROPPED != 0 => NotReplayable::PayloadDropped,
            bits if bits & flags::TRUNCATED != 0 => NotReplayable::Truncated { input },
            _ => NotReplayable::Missing { input },
        });
    }
    let dtype = first.notes.dtype;
    if dtype == DataType::Bytes && row_flags & flags::LOSSY_TEXT != 0 {
        return Err(NotReplayable::LossyText);
    }
    let mut parts = parts.to_vec();
    parts.sort_by_key(|part| part.notes.element);
    let mut raw = Vec::new();
    let mut shape = known_shape(&first.notes);
    for part in parts {
        if let Some(sizes) = append_part(part, row, &mut raw)? {
            shape = shape.or(Some(sizes));
        }
    }
    let mut shape = shape.ok_or_else(|| first.malformed("a shape for its elements"))?;
    if let Cut::Axis(axis) = first.notes.cut {
        if axis > shape.len() {
            return Err(first.malformed(format!("at least {axis} dimensions")));
        }
        shape.insert(axis, 1);
    }
    Tensor::from_raw(dtype, shape, raw.into()).map_err(|fault| first.malformed(fault.to_string()))
}

/// The shape of a row, where it is the same for all rows.
fn known_shape(notes: &Notes) -> Option<Vec<usize>> {
    notes.row_shape.as_ref()?.iter().map(|&size| usize::try_from(size).ok()).collect()
}

/// Appends a column's elements as a tensor holds them. Returns the sizes of their dimensions, where the column has them.
fn append_part(part: &Part<'_>, row: usize, out: &mut Vec<u8>) -> Result<Option<Vec<usize>>, NotReplayable> {
    let values = |array: &dyn Array, out: &mut Vec<u8>| {
        let dtype = part.notes.dtype;
        append_values(array, dtype, out).ok_or_else(|| part.malformed(format!("elements of {dtype}")))
    };
    if let Some(lists) = part.array.as_fixed_size_list_opt() {
        return values(&lists.value(row), out).map(|()| None);
    }
    if let Some(lists) = part.array.as_list_opt::<i32>() {
        let elements = lists.value(row);
        return values(&elements, out).map(|()| Some(vec![elements.len()]));
    }
    if let Some(shaped) = part.array.as_struct_opt() {
        let lists = |name: &str| shaped.column_by_name(name).and_then(|array| array.as_list_opt::<i32>());
        let (Some(shapes), Some(data)) = (lists("shape"), lists("data")) else {
            return Err(part.malformed("lists of a shape and of data"));
        };
        values(&data.value(row), out)?;
        let sizes = shapes.value(row);
        let sizes = sizes.as_primitive_opt::<Int64Type>().ok_or_else(|| part.malformed("a shape of whole numbers"))?;
        let sizes = sizes.values().iter().map(|&size| usize::try_from(size)).collect::<Result<_, _>>();
        return sizes.map(Some).map_err(|_| part.malformed("a shape without negative sizes"));
    }
    values(&part.array.slice(row, 1), out).map(|()| None)
}

/// `None` where the array holds something else, or a null.
fn append_values(array: &dyn Array, dtype: DataType, out: &mut Vec<u8>) -> Option<()> {
    fn numbers<T: ArrowPrimitiveType, E: Element>(
        array: &dyn Array,
        out: &mut Vec<u8>,
        change: impl Fn(T::Native) -> E,
    ) -> Option<()> {
        let array = array.as_primitive_opt::<T>()?;
        array.values().iter().for_each(|&value| change(value).write_le(out));
        Some(())
    }
    if array.null_count() > 0 {
        return None;
    }
    match dtype {
        DataType::Bool => {
            let truths = array.as_boolean_opt()?;
            out.extend(truths.values().iter().map(u8::from));
            Some(())
        }
        DataType::Bytes => {
            let texts = array.as_string_opt::<i32>()?;
            (0..texts.len()).for_each(|at| push_byte_element(out, texts.value(at).as_bytes()));
            Some(())
        }
        DataType::Int8 => numbers::<Int8Type, i8>(array, out, |value| value),
        DataType::Int16 => numbers::<Int16Type, i16>(array, out, |value| value),
        DataType::Int32 => numbers::<Int32Type, i32>(array, out, |value| value),
        DataType::Int64 => numbers::<Int64Type, i64>(array, out, |value| value),
        DataType::Uint8 => numbers::<UInt8Type, u8>(array, out, |value| value),
        DataType::Uint16 => numbers::<UInt16Type, u16>(array, out, |value| value),
        DataType::Uint32 => numbers::<UInt32Type, u32>(array, out, |value| value),
        DataType::Uint64 => numbers::<UInt64Type, u64>(array, out, |value| value),
        DataType::Fp16 => numbers::<Float32Type, f16>(array, out, f16::from_f32),
        DataType::Bf16 => numbers::<Float32Type, bf16>(array, out, bf16::from_f32),
        DataType::Fp32 => numbers::<Float32Type, f32>(array, out, |value| value),
        DataType::Fp64 => numbers::<Float64Type, f64>(array, out, |value| value),
    }
}
