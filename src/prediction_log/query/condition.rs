//! Conditions on rows, such as `out_score >= 0.5`.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, RecordBatch, Scalar, StringArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{CastOptions, and, cast_with_options, is_not_null, is_null, or, prep_null_mask_filter};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::QueryError;

/// A column and what is asked of it. A row whose column is null, or of a version without that column, only meets
/// `is null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub column: String,
    pub test: Test,
}

/// What is asked of a column. Literals are texts, read as the column's type once that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    Compare(Operator, String),
    In(Vec<String>),
    IsNull,
    IsNotNull,
}

/// How a column is held against a value. Floats are ordered as IEEE 754's totalOrder has it, where NaN is the greatest;
/// the two zeros are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer signs before those that they begin with.
const OPERATORS: [(&str, Operator); 7] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("==", Operator::Equal),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl FromStr for Condition {
    type Err = String;

    /// Reads `column op value`: `=`, `!=`, `<`, `<=`, `>`, `>=`, `in (a, b)`, `is null`, `is not null`. A value may stand in
    /// single or double quotes, and must where it holds `and`, `or` or one of those signs.
    fn from_str(text: &str) -> Result<Self, String> {
        let said = |odd: Odd| match odd {
            Odd::NoCondition => format!(
                "'{text}' is no condition: expected 'column op value' with =, !=, <, <=, >, >=, in (a, b), is null or is not null"
            ),
            Odd::Several => format!(
                "'{text}' seems to be several conditions: give each its own --where, and all of them must be met; there is no 'or' but in (a, b). A text that holds and, or, or one of the signs = < > stands in quotes: \"column = 'this or that'\""
            ),
        };
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).ok_or_else(|| said(Odd::NoCondition))?;
        let (column, rest) = text.split_at(end);
        if column.is_empty() {
            return Err(said(Odd::NoCondition));
        }
        Ok(Self { column: column.to_owned(), test: test(rest.trim()).map_err(said)? })
    }
}

/// Why a text is no condition.
enum Odd {
    NoCondition,
    Several,
}

fn test(text: &str) -> Result<Test, Odd> {
    for (sign, operator) in OPERATORS {
        if let Some(value) = text.strip_prefix(sign) {
            return Ok(Test::Compare(operator, literal(value.trim())?));
        }
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["is", "null"] => return Ok(Test::IsNull),
        ["is", "not", "null"] => return Ok(Test::IsNotNull),
        _ => {}
    }
    let list = text.get(..2).filter(|word| word.eq_ignore_ascii_case("in")).and_then(|_| text.get(2..));
    match list.and_then(|list| list.trim().strip_prefix('(')?.strip_suffix(')')) {
        Some(list) => Ok(Test::In(literals(list)?)),
        None if joins(text) => Err(Odd::Several),
        None => Err(Odd::NoCondition),
    }
}

/// Values with commas between them.
fn literals(mut list: &str) -> Result<Vec<String>, Odd> {
    let mut found = vec![];
    loop {
        list = list.trim_start();
        let start = quoted(list).map_or(0, |within| within.len() + 2);
        let end = list[start..].find(',').map_or(list.len(), |comma| start + comma);
        found.push(literal(list[..end].trim())?);
        let Some(more) = list.get(end + 1..) else { return Ok(found) };
        list = more;
    }
}

fn literal(value: &str) -> Result<String, Odd> {
    match quoted(value) {
        Some(within) if within.len() + 2 == value.len() => Ok(within.to_owned()),
        Some(_) => Err(Odd::Several),
        None if value.is_empty() => Err(Odd::NoCondition),
        None if joins(value) || value.contains(['=', '<', '>']) => Err(Odd::Several),
        None => Ok(value.to_owned()),
    }
}

/// What stands between the quote that a text begins with and the next one like it.
fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote).map(|(within, _)| within)
}

fn joins(text: &str) -> bool {
    text.split_whitespace().any(|word| word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or"))
}

impl Condition {
    /// Which rows meet it; never null.
    ///
    /// # Errors
    /// `Value` for a value that the column's type doesn't have, `Nested` for a column of lists.
    pub fn rows(&self, batch: &RecordBatch) -> Result<BooleanArray, QueryError> {
        let Some(column) = batch.column_by_name(&self.column) else {
            return Ok(BooleanArray::from(vec![self.test == Test::IsNull; batch.num_rows()]));
        };
        let met = match &self.test {
            Test::IsNull => is_null(column)?,
            Test::IsNotNull => is_not_null(column)?,
            _ if column.data_type().is_nested() => {
                return Err(QueryError::Nested { column: self.column.clone(), use_for: "compared" });
            }
            Test::Compare(operator, value) => compare(column, *operator, &self.value(value, column.data_type())?)?,
            Test::In(values) => {
                let mut met = BooleanArray::from(vec![false; batch.num_rows()]);
                for value in values {
                    let equal = compare(column, Operator::Equal, &self.value(value, column.data_type())?)?;
                    met = or(&met, &filled(equal))?;
                }
                met
            }
        };
        Ok(filled(met))
    }

    /// A literal as the column's type.
    fn value(&self, text: &str, kind: &DataType) -> Result<ArrayRef, QueryError> {
        let literal = StringArray::from(vec![text]);
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let read = match kind {
            // Names of zones need their data base; an offset is enough to read a time, and the type is then renamed.
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
                let offset = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
                cast_with_options(&literal, &offset, &options).map(|times| -> ArrayRef {
                    Arc::new(times.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(zone.clone()))
                })
            }
            kind => cast_with_options(&literal, kind, &options),
        };
        read.map_err(|_| QueryError::Value {
            column: self.column.clone(),
            kind: kind.to_string(),
            value: text.to_owned(),
        })
    }
}

/// Nothing is not met.
fn filled(met: BooleanArray) -> BooleanArray {
    if met.null_count() == 0 { met } else { prep_null_mask_filter(&met) }
}

fn compare(column: &ArrayRef, operator: Operator, value: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    use Operator::*;
    let plain = |operator: Operator, value: &dyn Datum| match operator {
        Equal => cmp::eq(column, value),
        NotEqual => cmp::neq(column, value),
        Less => cmp::lt(column, value),
        LessOrEqual => cmp::lt_eq(column, value),
        Greater => cmp::gt(column, value),
        GreaterOrEqual => cmp::gt_eq(column, value),
    };
    let Some([below, above]) = zeros(value)? else { return plain(operator, &Scalar::new(value.clone())) };
    let (below, above) = (Scalar::new(below), Scalar::new(above));
    match operator {
        Equal => and(&plain(GreaterOrEqual, &below)?, &plain(LessOrEqual, &above)?),
        NotEqual => or(&plain(Less, &below)?, &plain(Greater, &above)?),
        Less | GreaterOrEqual => plain(operator, &below),
        LessOrEqual | Greater => plain(operator, &above),
    }
}

/// Where the value is a float's zero: the lesser one and the greater one, of its type.
fn zeros(value: &ArrayRef) -> Result<Option<[ArrayRef; 2]>, ArrowError> {
    if !value.data_type().is_floating() {
        return Ok(None);
    }
    let options = CastOptions::default();
    let wide = cast_with_options(value, &DataType::Float64, &options)?;
    let number = wide.as_primitive::<Float64Type>();
    if number.is_null(0) || number.value(0) != 0.0 {
        return Ok(None);
    }
    let zero = |zero: f64| {
        let wide: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![zero]));
        cast_with_options(&wide, value.data_type(), &options)
    };
    Ok(Some([zero(-0.0)?, zero(0.0)?]))
}

#[cfg(test)]
mod tests {
    use arrow::array::Float32Array;

    use super::*;
    use crate::prediction_log::read::tests::fixture::{predictions, row};

    fn met(text: &str) -> Vec<usize> {
        let batch = predictions(&(0..6).map(row).collect::<Vec<_>>());
        let rows = text.parse::<Condition>().unwrap().rows(&batch).unwrap();
        (0..6).filter(|at| rows.value(*at)).collect()
    }

    #[test]
    fn each_operator_has_its_rows() {
        for (text, expected) in [
            ("seq = 3", vec![3]),
            ("seq == 3", vec![3]),
            ("seq!=3", vec![0, 1, 2, 4, 5]),
            ("seq<2", vec![0, 1]),
            (" seq <= 2 ", vec![0, 1, 2]),
            ("out_score > 0.03", vec![4, 5]),
            ("out_score >= 0.03", vec![3, 4, 5]),
            ("out_score = 0.03", vec![3]),
            ("out_label = odd", vec![1, 3, 5]),
            ("out_label = 'odd'", vec![1, 3, 5]),
            ("seq in (1, 4, 9)", vec![1, 4]),
            ("out_label in (\"even\",none)", vec![0, 2, 4]),
            ("out_label in ('a, b or c' , odd)", vec![1, 3, 5]),
            ("out_label != 'this or that'", vec![0, 1, 2, 3, 4, 5]),
            ("error is null", vec![0, 1, 2, 3, 4, 5]),
            ("error IS NOT NULL", vec![]),
            ("error = x", vec![]),
            ("error != x", vec![]),
            ("in_x is not null", vec![0, 1, 2, 3, 4, 5]),
            ("no_such is null", vec![0, 1, 2, 3, 4, 5]),
            ("no_such = 1", vec![]),
            ("ts >= 2026-03-01T07:00:04Z", vec![4, 5]),
        ] {
            assert_eq!(met(text), expected, "{text}");
        }
    }

    #[test]
    fn both_zeros_are_zero() {
        let column: ArrayRef = Arc::new(Float32Array::from(vec![-0.0, 0.0, 1.0, -1.0]));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        for (text, expected) in [
            ("x = 0", [true, true, false, false]),
            ("x != -0.0", [false, false, true, true]),
            ("x < 0", [false, false, false, true]),
            ("x <= -0.0", [true, true, false, true]),
            ("x > -0.0", [false, false, true, false]),
            ("x >= 0", [true, true, true, false]),
        ] {
            let rows = text.parse::<Condition>().unwrap().rows(&batch).unwrap();
            assert_eq!(rows.values().iter().collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn conditions_joined_in_one_text_are_refused_and_quotes_make_them_a_value() {
        for text in [
            "out_label = odd or seq = 3",
            "out_label = odd AND even",
            "out_label = 'odd' or out_label = 'even'",
            "request_id = a=b",
            "out_label in (odd) or seq = 3",
            "out_label in ('odd') and out_label in ('even')",
            "error is null or seq = 3",
        ] {
            let fault = text.parse::<Condition>().unwrap_err();
            assert!(fault.contains("its own --where") && fault.contains("stands in quotes"), "{text}: {fault}");
        }
        let value = |text: &str| match text.parse::<Condition>().unwrap().test {
            Test::Compare(_, value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(value("error = 'a = b or c'"), "a = b or c");
        assert_eq!(value("error = \"it's and\""), "it's and");
        assert_eq!(value("error = oriental sandals"), "oriental sandals");
        assert_eq!(value("error = 'tis"), "'tis");
        assert_eq!(value("error = ''"), "");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_what_was_expected() {
        for text in ["", "seq", "seq 3", "= 3", "seq =", "seq in 3", "seq in (", "seq in ()", "seq is nothing"] {
            let fault = text.parse::<Condition>().unwrap_err();
            assert!(fault.contains("column op value"), "{text}: {fault}");
        }
        let batch = predictions(&[row(0)]);
        let refused = |text: &str| text.parse::<Condition>().unwrap().rows(&batch).unwrap_err().to_string();
        assert!(refused("seq = three").contains("column 'seq' holds UInt64, and 'three' is none"));
        assert!(refused("in_x = 3").contains("column 'in_x' holds lists"));
    }
}
