//! Logged outputs against those of now.

use arrow::array::RecordBatch;
use serde::Serialize;
use serde_json::Value;

use crate::cli::predict::values;
use crate::cli::predict::wire::Output;
use crate::prediction_log::columns::{Notes, Side};
use crate::prediction_log::query::cell;

/// Differences that are shown of one column.
const MAX_SHOWN: usize = 5;

/// How far numbers may lie apart and still be the same: `atol + rtol × |logged|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

/// One element that is not the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub column: String,
    /// In row-major order, from 0.
    pub element: usize,
    /// Null where there is no such element.
    pub logged: Value,
    pub now: Value,
}

/// What differs between a row's outputs and these, at most [`MAX_SHOWN`] elements a column. A column that was redacted, or
/// is null, is passed over.
///
/// # Errors
/// The reason, where no column can be compared.
pub fn compare(row: &RecordBatch, outputs: &[Output], tolerance: Tolerance) -> Result<Vec<Difference>, String> {
    let (mut differences, mut compared) = (vec![], 0);
    for (field, array) in row.schema().fields().iter().zip(row.columns()) {
        let Some(notes) = Notes::of(field).filter(|notes| notes.side == Side::Output) else { continue };
        let logged = cell(array, 0);
        if notes.redaction.is_some() || logged.is_null() {
            continue;
        }
        let Some(output) = outputs.iter().find(|output| output.name == notes.tensor) else {
            return Err(format!("the version has no output '{}'", notes.tensor));
        };
        compared += 1;
        let mut now = values::json(&output.tensor);
        if let Some(element) = notes.element {
            now = now.into_iter().skip(element).take(1).collect();
        }
        let logged = elements(logged);
        let differs = |element: &usize| !same(logged.get(*element), now.get(*element), tolerance);
        let found = (0..logged.len().max(now.len())).filter(differs).take(MAX_SHOWN);
        differences.extend(found.map(|element| Difference {
            column: field.name().clone(),
            element,
            logged: logged.get(element).cloned().unwrap_or_default(),
            now: now.get(element).cloned().unwrap_or_default(),
        }));
    }
    if compared == 0 {
        return Err("its outputs were not logged, or were redacted".to_owned());
    }
    Ok(differences)
}

/// The elements of a cell: itself, those of its list, or those of a tensor whose shape varies.
fn elements(cell: Value) -> Vec<Value> {
    match cell {
        Value::Array(elements) => elements,
        Value::Object(mut parts) => match parts.remove("data") {
            Some(Value::Array(elements)) => elements,
            _ => vec![],
        },
        value => vec![value],
    }
}

fn same(logged: Option<&Value>, now: Option<&Value>, tolerance: Tolerance) -> bool {
    let (Some(logged), Some(now)) = (logged, now) else { return false };
    if logged == now {
        return true;
    }
    match (logged.as_f64(), now.as_f64()) {
        (Some(a), Some(b)) if logged.is_f64() || now.is_f64() => {
            (a - b).abs() <= tolerance.atol + tolerance.rtol * a.abs()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_the_same_within_their_tolerance() {
        let tolerance = Tolerance { atol: 0.01, rtol: 0.1 };
        for (logged, now, expected) in [
            (json!(1.0), json!(1.1), true),
            (json!(1.0), json!(1.12), false),
            (json!("NaN"), json!("NaN"), true),
            (json!("NaN"), json!(1.0), false),
            (json!("a"), json!("b"), false),
            (json!(3), json!(4), false),
            (json!(true), json!(true), true),
        ] {
            assert_eq!(same(Some(&logged), Some(&now), tolerance), expected, "{logged} {now}");
        }
        assert!(!same(None, Some(&json!(1)), tolerance));
    }

    #[test]
    fn elements_are_those_of_the_tensor() {
        assert_eq!(elements(json!(1)), [json!(1)]);
        assert_eq!(elements(json!([1, 2])), [json!(1), json!(2)]);
        assert_eq!(elements(json!({"shape": [2], "data": [3, 4]})), [json!(3), json!(4)]);
    }
}
