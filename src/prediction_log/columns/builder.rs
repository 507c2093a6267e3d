//! One column of a tensor's values on its way into an Arrow array.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Int64Array, ListArray, NullBufferBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, FieldRef};

use super::elements::Elements;
use super::layout::{Column, Kind};
use super::slices::{Slices, text_bytes};
use crate::prediction_log::redaction::{hmac_text, number_text};
use crate::prediction_log::settings::Redaction;
use crate::tensor::DataType;

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    AsIs,
    /// Bytes that are not UTF-8 were replaced.
    Lossy,
    /// There was no room, or it is not what the column holds: null.
    Left,
}

#[derive(Debug)]
pub struct ColumnBuilder {
    kind: Kind,
    element: usize,
    dtype: DataType,
    redaction: Option<Redaction>,
    elements: Elements,
    nulls: NullBufferBuilder,
    /// Where each row's elements begin, and where the last row's end; for lists.
    ends: Vec<i32>,
    shapes: Vec<i64>,
    shape_ends: Vec<i32>,
}

impl ColumnBuilder {
    pub fn new(column: &Column) -> Self {
        Self {
            // A hash is one text, whatever it is of.
            kind: if column.redaction == Some(Redaction::Hmac) { Kind::Value } else { column.kind },
            element: column.element,
            dtype: column.dtype,
            redaction: column.redaction,
            elements: Elements::new(column.dtype, column.redaction),
            nulls: NullBufferBuilder::new(0),
            ends: vec![0],
            shapes: Vec::new(),
            shape_ends: vec![0],
        }
    }

    /// Appends a row of a tensor.
    pub fn push(&mut self, slices: &Slices<'_>, row: usize, column: &Column, hmac_key: &[u8]) -> Appended {
        if self.redaction == Some(Redaction::Drop) {
            self.push_null();
            return Appended::AsIs;
        }
        let fits = match column.kind {
            Kind::Value => self.element < slices.row_elements(),
            Kind::Fixed(count) => count == slices.row_elements(),
            Kind::List | Kind::Shaped => true,
        };
        let bytes = || match column.kind {
            Kind::Value => slices.element(row, self.element).len(),
            _ => slices.row_bytes(row),
        };
        if !fits || !self.elements.has_room(bytes()) {
            self.push_null();
            return Appended::Left;
        }
        self.nulls.append_non_null();
        if self.redaction == Some(Redaction::Hmac) {
            let text = self.hash(slices, row, column.kind, hmac_key);
            self.elements.append_text(&text);
            return Appended::AsIs;
        }
        let lossy = match self.kind {
            Kind::Value => self.elements.append(slices.element(row, self.element)),
            _ => self.elements.append(&slices.row(row)),
        };
        if matches!(self.kind, Kind::List | Kind::Shaped) {
            self.end_list();
        }
        if self.kind == Kind::Shaped {
            self.shapes.extend(slices.row_shape().map(|size| size as i64));
            self.shape_ends.push(self.shapes.len() as i32);
        }
        if lossy { Appended::Lossy } else { Appended::AsIs }
    }

    pub fn push_null(&mut self) {
        self.nulls.append_null();
        match self.kind {
            Kind::Value => self.elements.append_blank(1),
            Kind::Fixed(count) => self.elements.append_blank(count),
            Kind::List => self.end_list(),
            Kind::Shaped => {
                self.end_list();
                self.shape_ends.push(self.shapes.len() as i32);
            }
        }
    }

    /// A single value's hash is that of its text, so that a number has the same one whatever its width; that of more is of
    /// the row's bytes.
    fn hash(&self, slices: &Slices<'_>, row: usize, kind: Kind, key: &[u8]) -> String {
        match (kind, self.dtype) {
            (Kind::Value, DataType::Bytes) => hmac_text(key, text_bytes(slices.element(row, self.element))),
            (Kind::Value, dtype) => {
                let mut text = String::new();
                number_text(dtype, slices.element(row, self.element), &mut text);
                hmac_text(key, text.as_bytes())
            }
            _ => hmac_text(key, &slices.row(row)),
        }
    }

    fn end_list(&mut self) {
        // `has_room` has seen to it that it fits.
        self.ends.push(self.elements.len() as i32);
    }

    pub fn bytes(&self) -> usize {
        let counts = self.ends.len() + self.shape_ends.len();
        self.elements.bytes() + counts * size_of::<i32>() + self.shapes.len() * size_of::<i64>()
    }

    /// The column's array. Begins anew.
    pub fn finish(&mut self, field: &Field) -> ArrayRef {
        let nulls = self.nulls.finish();
        let rows_of = |ends: &mut Vec<i32>| OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
        match field.data_type() {
            ArrowType::FixedSizeList(item, count) => {
                let values = self.elements.finish(None);
                Arc::new(FixedSizeListArray::new(item.clone(), *count, values, nulls))
            }
            ArrowType::List(item) => {
                let ends = rows_of(&mut self.ends);
                Arc::new(ListArray::new(item.clone(), ends, self.elements.finish(None), nulls))
            }
            ArrowType::Struct(fields) => {
                let item = |field: &FieldRef| match field.data_type() {
                    ArrowType::List(item) => item.clone(),
                    _ => field.clone(),
                };
                let shapes = Arc::new(Int64Array::from(std::mem::take(&mut self.shapes)));
                let shapes = ListArray::new(item(&fields[0]), rows_of(&mut self.shape_ends), shapes, None);
                let data = ListArray::new(item(&fields[1]), rows_of(&mut self.ends), self.elements.finish(None), None);
                let parts: Vec<ArrayRef> = vec![Arc::new(shapes), Arc::new(data)];
                Arc::new(StructArray::new(fields.clone(), parts, nulls))
            }
            _ => self.finish_values(nulls),
        }
    }

    fn finish_values(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        self.ends.truncate(1);
        self.elements.finish(nulls)
    }
}
