//! What a file's own schema says of a column: which tensor it is part of and how, so that a row can become tensors again
//! by the file alone.

use std::collections::HashMap;

use arrow::datatypes::Field;

use super::layout::{Column, Cut, Kind, Side, TensorLayout};
use crate::prediction_log::settings::Redaction;
use crate::tensor::{DataType, shape_text};

/// Name of the tensor as the model has it.
const TENSOR: &str = "headgate.tensor";
/// [`Side::name`].
const SIDE: &str = "headgate.side";
/// Datatype of the tensor, which the column's type does not always tell.
const DATATYPE: &str = "headgate.datatype";
/// Dimensions of a row as a list in JSON, -1 for one that varies; absent where the rank is not known.
const ROW_SHAPE: &str = "headgate.row_shape";
/// How the tensor is cut into rows: the number of an axis, [`SHARED`] or [`WHOLE`].
const CUT: &str = "headgate.cut";
const SHARED: &str = "shared";
const WHOLE: &str = "whole";
/// Of a feature: which element of the row, from 0.
const ELEMENT: &str = "headgate.element";
/// What was done to the values: `drop`, `hmac`, `round` or `mask`.
const REDACTION: &str = "headgate.redaction";

// The canonical extension type of Arrow for tensors of a fixed shape
// (https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor).
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";
const FIXED_SHAPE_TENSOR: &str = "arrow.fixed_shape_tensor";

/// A column as the schema of a file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notes {
    pub tensor: String,
    pub side: Side,
    pub dtype: DataType,
    /// `None`: not even the rank is known. -1: varies.
    pub row_shape: Option<Vec<i64>>,
    pub cut: Cut,
    /// `None`: the whole row.
    pub element: Option<usize>,
    pub redaction: Option<String>,
}

/// The field of a column.
pub fn field(column: &Column, tensor: &TensorLayout) -> Field {
    let mut notes = HashMap::new();
    let mut note = |key: &str, value: String| _ = notes.insert(key.to_owned(), value);
    note(TENSOR, tensor.name.clone());
    note(SIDE, column.side.name().to_owned());
    note(DATATYPE, tensor.dtype.name().to_owned());
    note(
        CUT,
        match tensor.cut {
            Cut::Axis(axis) => axis.to_string(),
            Cut::Shared => SHARED.to_owned(),
            Cut::Whole => WHOLE.to_owned(),
        },
    );
    if let Some(dims) = &tensor.row_dims {
        let sizes: Vec<i64> = dims.iter().map(|dim| dim.map_or(-1, |size| size as i64)).collect();
        note(ROW_SHAPE, shape_text(&sizes));
        let is_tensor = matches!(column.kind, Kind::Fixed(_)) && takes_extension(column);
        if is_tensor {
            note(EXTENSION_NAME, FIXED_SHAPE_TENSOR.to_owned());
            note(EXTENSION_METADATA, format!("{{\"shape\":{}}}", shape_text(&sizes)));
        }
    }
    if column.is_feature {
        note(ELEMENT, column.element.to_string());
    }
    if let Some(redaction) = &column.redaction {
        note(REDACTION, redaction_name(redaction).to_owned());
    }
    Field::new(&column.name, column.arrow_type(), true).with_metadata(notes)
}

/// Readers make arrays of what has the extension type, which they can do with numbers alone.
fn takes_extension(column: &Column) -> bool {
    super::layout::is_number(column.dtype)
        && !matches!(column.redaction, Some(Redaction::Hmac | Redaction::Mask { .. }))
}

/// The word for a rule, in a column's metadata and in faults.
pub fn redaction_name(redaction: &Redaction) -> &'static str {
    match redaction {
        Redaction::Drop => "drop",
        Redaction::Hmac => "hmac",
        Redaction::Round(_) => "round",
        Redaction::Mask { .. } => "mask",
    }
}

impl Notes {
    /// What a field says; `None` for a column that is part of no tensor.
    pub fn of(field: &Field) -> Option<Self> {
        let note = |key: &str| field.metadata().get(key).map(String::as_str);
        let side = match note(SIDE)? {
            "in" => Side::Input,
            "out" => Side::Output,
            _ => return None,
        };
        let cut = match note(CUT)? {
            SHARED => Cut::Shared,
            WHOLE => Cut::Whole,
            axis => Cut::Axis(axis.parse().ok()?),
        };
        let row_shape = note(ROW_SHAPE).map(serde_json::from_str).transpose().ok()?;
        let element = note(ELEMENT).map(str::parse).transpose().ok()?;
        Some(Self {
            tensor: note(TENSOR)?.to_owned(),
            side,
            dtype: DataType::from_name(note(DATATYPE)?)?,
            row_shape,
            cut,
            element,
            redaction: note(REDACTION).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_all_that_the_way_back_needs() {
        let tensor = TensorLayout {
            name: "input:0".into(),
            dtype: DataType::Fp16,
            cut: Cut::Axis(1),
            row_dims: Some(vec![Some(2), None]),
        };
        let column = Column {
            name: "in_input_0".into(),
            side: Side::Input,
            tensor: 0,
            element: 0,
            is_feature: false,
            kind: Kind::Shaped,
            dtype: DataType::Fp16,
            redaction: Some(Redaction::Round(2)),
        };
        let notes = Notes::of(&field(&column, &tensor)).unwrap();
        let expected = Notes {
            tensor: "input:0".into(),
            side: Side::Input,
            dtype: DataType::Fp16,
            row_shape: Some(vec![2, -1]),
            cut: Cut::Axis(1),
            element: None,
            redaction: Some("round".into()),
        };
        assert_eq!(notes, expected);
        assert_eq!(Notes::of(&Field::new("status", arrow::datatypes::DataType::Utf8, false)), None);
    }
}
