//! One tensor element: JSON value -> little-endian bytes, by datatype.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reader::{JsonError, Kind, Number, Reader};
use crate::inference::printable;
use crate::tensor::{DataType, Element, push_byte_element};

/// Reads one element and appends its bytes.
pub type ReadElement = fn(&mut Reader<'_>, &mut Vec<u8>) -> Result<(), ElementFault>;

/// Why a value is not an element of its tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementFault {
    Json(JsonError),
    WrongKind {
        expected: &'static str,
        got: Kind,
    },
    /// A number with a fraction or an exponent, or one that is not finite, where a whole one belongs.
    NotWhole {
        got: String,
    },
    OutOfRange {
        got: String,
    },
    BadBase64,
}

impl From<JsonError> for ElementFault {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl fmt::Display for ElementFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::WrongKind { expected, got } => write!(f, "expected {expected}, got {}", kind_text(*got)),
            Self::NotWhole { got } => write!(f, "expected a whole number, got {got}"),
            Self::OutOfRange { got } => write!(f, "{got} is out of range"),
            Self::BadBase64 => f.write_str("expected base64 in \"b64\""),
        }
    }
}

/// The reader of a datatype's elements.
pub fn reader_of(dtype: DataType) -> ReadElement {
    match dtype {
        DataType::Bool => truth,
        DataType::Int8 => whole::<i8>,
        DataType::Int16 => whole::<i16>,
        DataType::Int32 => whole::<i32>,
        DataType::Int64 => whole::<i64>,
        DataType::Uint8 => whole::<u8>,
        DataType::Uint16 => whole::<u16>,
        DataType::Uint32 => whole::<u32>,
        DataType::Uint64 => whole::<u64>,
        DataType::Fp16 => |reader, out| half(reader, out, half::f16::from_f64),
        DataType::Bf16 => |reader, out| half(reader, out, half::bf16::from_f64),
        DataType::Fp32 => float::<f32>,
        DataType::Fp64 => float::<f64>,
        DataType::Bytes => bytes,
    }
}

fn number<'a>(reader: &mut Reader<'a>, expected: &'static str) -> Result<Number<'a>, ElementFault> {
    match reader.peek()? {
        Kind::Number => Ok(reader.number()?),
        got => Err(ElementFault::WrongKind { expected, got }),
    }
}

fn whole<T: Element + FromStr>(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), ElementFault> {
    let text = match number(reader, "a whole number")? {
        // Unsigned types read no sign.
        Number::Whole("-0") => "0",
        Number::Whole(text) => text,
        other => return Err(ElementFault::NotWhole { got: number_text(other) }),
    };
    let value: T = text.parse().map_err(|_| ElementFault::OutOfRange { got: printable(text) })?;
    value.write_le(out);
    Ok(())
}

/// A float, correctly rounded from its decimal text. A finite text never becomes infinite: it is out of range.
fn float<T: Element + FromStr + Into<f64>>(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), ElementFault> {
    let read = number(reader, "a number")?;
    let text = match read {
        Number::Whole(text) | Number::Decimal(text) => text,
        Number::Nan => "NaN",
        Number::Infinity { negative: false } => "inf",
        Number::Infinity { negative: true } => "-inf",
    };
    let value: Option<T> = text.parse().ok();
    let value = value.ok_or_else(|| ElementFault::OutOfRange { got: printable(text) })?;
    let finite = matches!(read, Number::Whole(_) | Number::Decimal(_));
    if finite && value.into().is_infinite() {
        return Err(ElementFault::OutOfRange { got: printable(text) });
    }
    value.write_le(out);
    Ok(())
}

/// A 16-bit float, rounded from the nearest f64.
fn half<T: Element + Into<f64>>(
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
    round: fn(f64) -> T,
) -> Result<(), ElementFault> {
    let read = number(reader, "a number")?;
    let value = match read {
        Number::Whole(text) | Number::Decimal(text) => {
            let exact: f64 = text.parse().unwrap_or(f64::INFINITY);
            let value = round(exact);
            if value.into().is_infinite() {
                return Err(ElementFault::OutOfRange { got: printable(text) });
            }
            value
        }
        Number::Nan => round(f64::NAN),
        Number::Infinity { negative: false } => round(f64::INFINITY),
        Number::Infinity { negative: true } => round(f64::NEG_INFINITY),
    };
    value.write_le(out);
    Ok(())
}

fn truth(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), ElementFault> {
    let value = match reader.peek()? {
        Kind::Bool => reader.bool()?,
        Kind::Number => match reader.number()? {
            Number::Whole("0") => false,
            Number::Whole("1") => true,
            other => return Err(ElementFault::OutOfRange { got: number_text(other) }),
        },
        got => return Err(ElementFault::WrongKind { expected: "true or false", got }),
    };
    out.push(u8::from(value));
    Ok(())
}

/// A string as its UTF-8, or TF Serving's `{"b64": "<base64>"}` for bytes that are no text.
fn bytes(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), ElementFault> {
    match reader.peek()? {
        Kind::String => push_byte_element(out, reader.string()?.as_bytes()),
        Kind::Object => push_byte_element(out, &base64_object(reader)?),
        got => return Err(ElementFault::WrongKind { expected: "a string", got }),
    }
    Ok(())
}

fn base64_object(reader: &mut Reader<'_>) -> Result<Vec<u8>, ElementFault> {
    let mut decoded = None;
    reader.object(|key, reader| match (key, &decoded) {
        ("b64", None) => {
            decoded = Some(STANDARD.decode(reader.string()?.as_bytes()).map_err(|_| ElementFault::BadBase64)?);
            Ok(())
        }
        _ => Err(ElementFault::WrongKind { expected: "a string or {\"b64\": …}", got: Kind::Object }),
    })?;
    decoded.ok_or(ElementFault::WrongKind { expected: "a string or {\"b64\": …}", got: Kind::Object })
}

fn number_text(number: Number<'_>) -> String {
    match number {
        Number::Whole(text) | Number::Decimal(text) => printable(text),
        Number::Nan => "NaN".to_owned(),
        Number::Infinity { negative: false } => "Infinity".to_owned(),
        Number::Infinity { negative: true } => "-Infinity".to_owned(),
    }
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "an object",
        Kind::Array => "an array",
        Kind::String => "a string",
        Kind::Number => "a number",
        Kind::Bool => "true or false",
        Kind::Null => "null",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: DataType, text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        reader_of(dtype)(&mut Reader::new(text.as_bytes()), &mut out).map_err(|fault| fault.to_string())?;
        Ok(out)
    }

    #[test]
    fn whole_numbers_are_checked_against_their_type() {
        assert_eq!(read(DataType::Int8, "-128"), Ok(vec![0x80]));
        assert_eq!(read(DataType::Uint64, "18446744073709551615"), Ok(vec![0xff; 8]));
        assert_eq!(read(DataType::Uint8, "-0"), Ok(vec![0]));
        assert_eq!(read(DataType::Int8, "128"), Err("128 is out of range".into()));
        assert_eq!(read(DataType::Uint8, "-1"), Err("-1 is out of range".into()));
        assert_eq!(read(DataType::Int32, "1.0"), Err("expected a whole number, got 1.0".into()));
        assert_eq!(read(DataType::Int32, "NaN"), Err("expected a whole number, got NaN".into()));
        assert_eq!(read(DataType::Int32, "\"1\""), Err("expected a whole number, got a string".into()));
        assert_eq!(read(DataType::Fp32, "null"), Err("expected a number, got null".into()));
    }

    #[test]
    fn floats_are_rounded_once_and_never_overflow_silently() {
        assert_eq!(read(DataType::Fp32, "0.1"), Ok(0.1f32.to_le_bytes().into()));
        assert_eq!(read(DataType::Fp32, "-0.0"), Ok((-0.0f32).to_le_bytes().into()));
        assert_eq!(read(DataType::Fp64, "-Infinity"), Ok(f64::NEG_INFINITY.to_le_bytes().into()));
        assert_eq!(read(DataType::Fp16, "65504"), Ok(half::f16::MAX.to_le_bytes().into()));
        for (dtype, text) in [(DataType::Fp32, "3.5e38"), (DataType::Fp64, "1e309"), (DataType::Fp16, "65520")] {
            assert_eq!(read(dtype, text), Err(format!("{text} is out of range")));
        }
    }

    #[test]
    fn truth_and_bytes() {
        assert_eq!(read(DataType::Bool, "true"), Ok(vec![1]));
        assert_eq!(read(DataType::Bool, "0"), Ok(vec![0]));
        assert!(read(DataType::Bool, "2").is_err());
        assert_eq!(read(DataType::Bytes, "\"é\""), Ok(vec![2, 0, 0, 0, 0xc3, 0xa9]));
        assert_eq!(read(DataType::Bytes, r#"{"b64":"/wA="}"#), Ok(vec![2, 0, 0, 0, 0xff, 0]));
        for bad in [r#"{"b64":"!"}"#, r#"{"b65":"/w=="}"#, "{}", "1"] {
            assert!(read(DataType::Bytes, bad).is_err(), "{bad}");
        }
    }
}
