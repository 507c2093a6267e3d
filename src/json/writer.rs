//! Tensors -> JSON: flat for the Open Inference Protocol, nested for TF Serving and generate.
//!
//! Floats are written in the shortest form that reads back to the same bits; not finite ones as `NaN`, `Infinity` and
//! `-Infinity`, which the protocol's clients read.

use std::slice::ChunksExact;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tensor::{ByteElements, DataType, Element, Tensor};

/// How BYTES elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BytesStyle {
    /// As strings; an element that is not UTF-8 can't be written.
    Text,
    /// As `{"b64": "<base64>"}`.
    Base64,
    /// As strings, as base64 where an element is not UTF-8.
    TextOrBase64,
}

/// A BYTES element that has no JSON form in the asked style.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotText {
    /// Position in row-major order.
    pub index: usize,
}

/// Writes every element into one flat array, whatever the shape.
///
/// # Errors
/// `NotText` in `BytesStyle::Text`.
pub fn write_flat(out: &mut Vec<u8>, tensor: &Tensor, style: BytesStyle) -> Result<(), NotText> {
    write_nested(out, &mut Elements::new(tensor, style), &[tensor.element_count()])
}

/// Writes the next elements as arrays nested by `shape`; for the empty shape a single value.
///
/// # Errors
/// As `write_flat`.
pub fn write_nested(out: &mut Vec<u8>, elements: &mut Elements<'_>, shape: &[usize]) -> Result<(), NotText> {
    let Some((&length, inner)) = shape.split_first() else {
        return elements.write_next(out);
    };
    out.push(b'[');
    for i in 0..length {
        if i > 0 {
            out.push(b',');
        }
        write_nested(out, elements, inner)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// Writes a whole number.
pub fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The elements of a tensor, written one after the other in row-major order.
pub struct Elements<'a> {
    source: Source<'a>,
    style: BytesStyle,
    index: usize,
}

enum Source<'a> {
    Fixed(ChunksExact<'a, u8>, fn(&mut Vec<u8>, &[u8])),
    Bytes(ByteElements<'a>),
}

impl<'a> Elements<'a> {
    pub fn new(tensor: &'a Tensor, style: BytesStyle) -> Self {
        let source = match tensor.dtype().size() {
            None => Source::Bytes(tensor.byte_elements()),
            Some(size) => Source::Fixed(tensor.data().chunks_exact(size), writer_of(tensor.dtype())),
        };
        Self { source, style, index: 0 }
    }

    /// Writes the next element; nothing once all are written.
    fn write_next(&mut self, out: &mut Vec<u8>) -> Result<(), NotText> {
        match &mut self.source {
            Source::Fixed(chunks, write) => {
                if let Some(element) = chunks.next() {
                    write(out, element);
                }
            }
            Source::Bytes(elements) => {
                if let Some(element) = elements.next() {
                    write_bytes(out, element, self.style).map_err(|()| NotText { index: self.index })?;
                }
            }
        }
        self.index += 1;
        Ok(())
    }
}

fn writer_of(dtype: DataType) -> fn(&mut Vec<u8>, &[u8]) {
    match dtype {
        DataType::Bool => |out, element| out.extend_from_slice(if element[0] == 0 { b"false" } else { b"true" }),
        DataType::Int8 => |out, element| write_integer(out, i8::read_le(element)),
        DataType::Int16 => |out, element| write_integer(out, i16::read_le(element)),
        DataType::Int32 => |out, element| write_integer(out, i32::read_le(element)),
        DataType::Int64 => |out, element| write_integer(out, i64::read_le(element)),
        DataType::Uint8 => |out, element| write_integer(out, u8::read_le(element)),
        DataType::Uint16 => |out, element| write_integer(out, u16::read_le(element)),
        DataType::Uint32 => |out, element| write_integer(out, u32::read_le(element)),
        DataType::Uint64 => |out, element| write_integer(out, u64::read_le(element)),
        DataType::Fp16 => |out, element| write_float(out, f32::from(half::f16::read_le(element))),
        DataType::Bf16 => |out, element| write_float(out, f32::from(half::bf16::read_le(element))),
        DataType::Fp32 => |out, element| write_float(out, f32::read_le(element)),
        DataType::Fp64 => |out, element| write_float(out, f64::read_le(element)),
        // BYTES elements have no fixed width; `Elements` walks them itself.
        DataType::Bytes => |_, _| (),
    }
}

fn write_float<F: ryu::Float>(out: &mut Vec<u8>, value: F) {
    let mut buffer = ryu::Buffer::new();
    out.extend_from_slice(match buffer.format(value) {
        "NaN" => b"NaN",
        "inf" => b"Infinity",
        "-inf" => b"-Infinity",
        finite => finite.as_bytes(),
    });
}

fn write_bytes(out: &mut Vec<u8>, element: &[u8], style: BytesStyle) -> Result<(), ()> {
    match (std::str::from_utf8(element), style) {
        (Ok(text), BytesStyle::Text | BytesStyle::TextOrBase64) => write_string(out, text),
        (Err(_), BytesStyle::Text) => return Err(()),
        _ => {
            out.extend_from_slice(b"{\"b64\":\"");
            out.extend_from_slice(STANDARD.encode(element).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::ByteBudget;
    use crate::json::Reader;
    use crate::json::tensor::TensorReader;

    fn flat(tensor: &Tensor) -> String {
        let mut out = Vec::new();
        write_flat(&mut out, tensor, BytesStyle::Text).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_short_and_special_ones_are_tokens() {
        let values = [0.1f32, -0.0, 1e20, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let tensor = Tensor::from_elements(DataType::Fp32, vec![2, 3], &values).unwrap();
        assert_eq!(flat(&tensor), "[0.1,-0.0,1e20,NaN,Infinity,-Infinity]");
    }

    #[test]
    fn bytes_that_are_no_text_need_base64() {
        let tensor = Tensor::from_byte_elements(vec![2], &[&b"a\n\"\x01"[..], b"\xff"]).unwrap();
        let write = |style| {
            let mut out = Vec::new();
            write_flat(&mut out, &tensor, style).map(|()| String::from_utf8(out).unwrap())
        };
        assert_eq!(write(BytesStyle::Text), Err(NotText { index: 1 }));
        assert_eq!(write(BytesStyle::TextOrBase64).unwrap(), r#"["a\n\"\u0001",{"b64":"/w=="}]"#);
        assert_eq!(write(BytesStyle::Base64).unwrap(), r#"[{"b64":"YQoiAQ=="},{"b64":"/w=="}]"#);
    }

    #[test]
    fn nested_by_shape() {
        let tensor = Tensor::from_elements(DataType::Uint8, vec![2, 1, 2], &[1u8, 2, 3, 4]).unwrap();
        let mut out = Vec::new();
        write_nested(&mut out, &mut Elements::new(&tensor, BytesStyle::Text), tensor.shape()).unwrap();
        assert_eq!(out, b"[[[1,2]],[[3,4]]]");
    }

    /// Raw bytes made valid for their datatype: BOOL is 0 or 1, and every NaN is the one that text reads back to.
    fn canonical(dtype: DataType, raw: Vec<u8>) -> Tensor {
        let size = dtype.size().unwrap_or(1);
        let count = raw.len() / size;
        let raw = &raw[..count * size];
        let tensor = |data: Vec<u8>| Tensor::from_raw(dtype, vec![count], data.into()).unwrap();
        let floats = |nan: &[u8], is_nan: fn(&[u8]) -> bool| {
            raw.chunks(size).flat_map(|e| if is_nan(e) { nan.to_vec() } else { e.to_vec() }).collect()
        };
        match dtype {
            DataType::Bool => tensor(raw.iter().map(|b| b & 1).collect()),
            DataType::Fp16 => {
                tensor(floats(&half::f16::from_f64(f64::NAN).to_le_bytes(), |e| half::f16::read_le(e).is_nan()))
            }
            DataType::Bf16 => {
                tensor(floats(&half::bf16::from_f64(f64::NAN).to_le_bytes(), |e| half::bf16::read_le(e).is_nan()))
            }
            DataType::Fp32 => tensor(floats(&f32::NAN.to_le_bytes(), |e| f32::read_le(e).is_nan())),
            DataType::Fp64 => tensor(floats(&f64::NAN.to_le_bytes(), |e| f64::read_le(e).is_nan())),
            DataType::Bytes => {
                let texts: Vec<String> = raw.chunks(3).map(|e| String::from_utf8_lossy(e).into_owned()).collect();
                Tensor::from_byte_elements(vec![texts.len()], &texts).unwrap()
            }
            _ => tensor(raw.to_vec()),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_to_the_same_bits(
            position in 0..DataType::ALL.len(),
            raw in proptest::collection::vec(any::<u8>(), 0..128),
        ) {
            let tensor = canonical(DataType::ALL[position], raw);
            let text = flat(&tensor);
            let mut lease = ByteBudget::new(1 << 20).lease();
            let mut reader = Reader::new(text.as_bytes());
            let shape = tensor.shape().to_vec();
            let back = TensorReader::read_shaped(tensor.dtype(), shape, &mut reader, &mut lease).unwrap();
            prop_assert_eq!(back.data(), tensor.data());
        }

        #[test]
        fn strings_are_those_that_serde_json_reads(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
