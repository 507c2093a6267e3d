//! A tensor's elements as people and programs read them.

use half::{bf16, f16};
use serde_json::Value;

use crate::tensor::{DataType, Element, Tensor};

/// The elements as JSON, in row-major order. NaN and infinities become strings; bytes that are no UTF-8 are replaced.
pub fn json(tensor: &Tensor) -> Vec<Value> {
    fn each<'a, T: Element + 'a>(tensor: &'a Tensor, value: impl Fn(T) -> Value) -> Vec<Value> {
        tensor.elements::<T>().map(value).collect()
    }
    match tensor.dtype() {
        DataType::Bool => each(tensor, |value: u8| Value::Bool(value != 0)),
        DataType::Int8 => each::<i8>(tensor, Value::from),
        DataType::Int16 => each::<i16>(tensor, Value::from),
        DataType::Int32 => each::<i32>(tensor, Value::from),
        DataType::Int64 => each::<i64>(tensor, Value::from),
        DataType::Uint8 => each::<u8>(tensor, Value::from),
        DataType::Uint16 => each::<u16>(tensor, Value::from),
        DataType::Uint32 => each::<u32>(tensor, Value::from),
        DataType::Uint64 => each::<u64>(tensor, Value::from),
        DataType::Fp16 => each(tensor, |value: f16| float(value.to_f32())),
        DataType::Bf16 => each(tensor, |value: bf16| float(value.to_f32())),
        DataType::Fp32 => each(tensor, float),
        DataType::Fp64 => each(tensor, double),
        DataType::Bytes => {
            tensor.byte_elements().map(|bytes| Value::String(String::from_utf8_lossy(bytes).into_owned())).collect()
        }
    }
}

/// The elements as text; strings in quotes.
pub fn text(tensor: &Tensor) -> Vec<String> {
    let text = |value: Value| match value {
        Value::String(word) if tensor.dtype() != DataType::Bytes => word,
        value => value.to_string(),
    };
    json(tensor).into_iter().map(text).collect()
}

/// The shortest decimal that reads as this FP32: the FP64 of the same value would show digits that it doesn't have.
fn float(value: f32) -> Value {
    if value.is_finite() { double(value.to_string().parse().unwrap_or(f64::from(value))) } else { double(value.into()) }
}

fn double(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => Value::from("NaN"),
        None if value > 0.0 => Value::from("Infinity"),
        None => Value::from("-Infinity"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_the_digits_they_have() {
        let tensor = Tensor::from_elements(DataType::Fp32, vec![4], &[0.1f32, f32::NAN, f32::NEG_INFINITY, 1e30]);
        assert_eq!(text(&tensor.unwrap()), ["0.1", "NaN", "-Infinity", "1e+30"]);
        let tensor = Tensor::from_elements(DataType::Fp16, vec![1], &[f16::from_f32(0.5)]).unwrap();
        assert_eq!(json(&tensor), [Value::from(0.5)]);
        let tensor = Tensor::from_elements(DataType::Uint64, vec![1], &[u64::MAX]).unwrap();
        assert_eq!(text(&tensor), ["18446744073709551615"]);
        let tensor = Tensor::from_elements(DataType::Bool, vec![2], &[0u8, 1]).unwrap();
        assert_eq!(text(&tensor), ["false", "true"]);
    }

    #[test]
    fn strings_stand_in_quotes() {
        let tensor = Tensor::from_byte_elements(vec![2], &["NaN", "a\"b"]).unwrap();
        assert_eq!(text(&tensor), ["\"NaN\"", "\"a\\\"b\""]);
    }
}
