//! Tensors to and from the forms that the wire has for them.

use headgate::proto::inference::InferTensorContents;
use headgate::tensor::{DataType, Element, Tensor};

use super::json::Json;

/// The elements as a flat JSON list; `None` for BYTES that aren't UTF-8.
pub fn to_json(tensor: &Tensor) -> Option<String> {
    use DataType::*;
    let items: Vec<String> = match tensor.dtype() {
        Bool => tensor.elements::<u8>().map(|v| (v != 0).to_string()).collect(),
        Int8 => texts::<i8>(tensor),
        Int16 => texts::<i16>(tensor),
        Int32 => texts::<i32>(tensor),
        Int64 => texts::<i64>(tensor),
        Uint8 => texts::<u8>(tensor),
        Uint16 => texts::<u16>(tensor),
        Uint32 => texts::<u32>(tensor),
        Uint64 => texts::<u64>(tensor),
        Fp16 => tensor.elements::<half::f16>().map(|v| float_text(v.to_f32())).collect(),
        Bf16 => tensor.elements::<half::bf16>().map(|v| float_text(v.to_f32())).collect(),
        Fp32 => tensor.elements::<f32>().map(float_text).collect(),
        Fp64 => tensor.elements::<f64>().map(float_text).collect(),
        Bytes => {
            let quoted = |element| Some(serde_json::Value::from(std::str::from_utf8(element).ok()?).to_string());
            tensor.byte_elements().map(quoted).collect::<Option<_>>()?
        }
    };
    Some(format!("[{}]", items.join(",")))
}

/// A flat JSON list as a tensor.
pub fn from_json(dtype: DataType, shape: &[usize], data: &[Json]) -> Tensor {
    use DataType::*;
    let half = |item: &Json| item.text().parse::<f32>().unwrap();
    let tensor = match dtype {
        Bool => {
            let truth = |item: &Json| u8::from(*item == Json::Bool(true));
            assert!(data.iter().all(|item| matches!(item, Json::Bool(_))));
            elements(dtype, shape, data.iter().map(truth))
        }
        Int8 => parsed::<i8>(dtype, shape, data),
        Int16 => parsed::<i16>(dtype, shape, data),
        Int32 => parsed::<i32>(dtype, shape, data),
        Int64 => parsed::<i64>(dtype, shape, data),
        Uint8 => parsed::<u8>(dtype, shape, data),
        Uint16 => parsed::<u16>(dtype, shape, data),
        Uint32 => parsed::<u32>(dtype, shape, data),
        Uint64 => parsed::<u64>(dtype, shape, data),
        Fp16 => elements(dtype, shape, data.iter().map(|item| half::f16::from_f32(half(item)))),
        Bf16 => elements(dtype, shape, data.iter().map(|item| half::bf16::from_f32(half(item)))),
        Fp32 => parsed::<f32>(dtype, shape, data),
        Fp64 => parsed::<f64>(dtype, shape, data),
        Bytes => {
            let texts: Vec<&str> = data.iter().map(Json::text).collect();
            return Tensor::from_byte_elements(shape.to_vec(), &texts).unwrap();
        }
    };
    tensor.unwrap()
}

/// The elements in the typed field that the protocol has for them; `None` for FP16 and BF16, which have none.
pub fn to_contents(tensor: &Tensor) -> Option<InferTensorContents> {
    use DataType::*;
    let mut contents = InferTensorContents::default();
    match tensor.dtype() {
        Bool => contents.bool_contents = tensor.elements::<u8>().map(|v| v != 0).collect(),
        Int8 => contents.int_contents = tensor.elements::<i8>().map(i32::from).collect(),
        Int16 => contents.int_contents = tensor.elements::<i16>().map(i32::from).collect(),
        Int32 => contents.int_contents = tensor.elements::<i32>().collect(),
        Int64 => contents.int64_contents = tensor.elements::<i64>().collect(),
        Uint8 => contents.uint_contents = tensor.elements::<u8>().map(u32::from).collect(),
        Uint16 => contents.uint_contents = tensor.elements::<u16>().map(u32::from).collect(),
        Uint32 => contents.uint_contents = tensor.elements::<u32>().collect(),
        Uint64 => contents.uint64_contents = tensor.elements::<u64>().collect(),
        Fp32 => contents.fp32_contents = tensor.elements::<f32>().collect(),
        Fp64 => contents.fp64_contents = tensor.elements::<f64>().collect(),
        Bytes => contents.bytes_contents = tensor.byte_elements().map(bytes::Bytes::copy_from_slice).collect(),
        Fp16 | Bf16 => return None,
    }
    Some(contents)
}

/// The elements of a float tensor, `None` for any other.
pub fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    match tensor.dtype() {
        DataType::Fp16 => Some(tensor.elements::<half::f16>().map(f64::from).collect()),
        DataType::Bf16 => Some(tensor.elements::<half::bf16>().map(f64::from).collect()),
        DataType::Fp32 => Some(tensor.elements::<f32>().map(f64::from).collect()),
        DataType::Fp64 => Some(tensor.elements::<f64>().collect()),
        _ => None,
    }
}

/// The same tensor with every NaN as the one that JSON's `NaN` reads as: JSON has no form for a NaN's other bits.
pub fn with_plain_nans(tensor: &Tensor) -> Tensor {
    let shape = tensor.shape().to_vec();
    let plain = match tensor.dtype() {
        DataType::Fp16 => mended(tensor, shape, |v: half::f16| v.is_nan(), half::f16::NAN),
        DataType::Bf16 => mended(tensor, shape, |v: half::bf16| v.is_nan(), half::bf16::NAN),
        DataType::Fp32 => mended(tensor, shape, f32::is_nan, f32::NAN),
        DataType::Fp64 => mended(tensor, shape, f64::is_nan, f64::NAN),
        _ => return tensor.clone(),
    };
    plain.unwrap()
}

fn mended<T: Element>(
    tensor: &Tensor,
    shape: Vec<usize>,
    is_nan: impl Fn(T) -> bool,
    nan: T,
) -> Result<Tensor, headgate::tensor::TensorError> {
    elements(tensor.dtype(), &shape, tensor.elements::<T>().map(|v| if is_nan(v) { nan } else { v }))
}

fn texts<T: Element + ToString>(tensor: &Tensor) -> Vec<String> {
    tensor.elements::<T>().map(|v| v.to_string()).collect()
}

/// The shortest text that reads as the same value.
fn float_text<T: Into<f64> + Copy + std::fmt::Debug>(value: T) -> String {
    match value.into() {
        wide if wide.is_nan() => "NaN".to_owned(),
        wide if wide.is_infinite() => if wide > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => format!("{value:?}"),
    }
}

fn parsed<T>(dtype: DataType, shape: &[usize], data: &[Json]) -> Result<Tensor, headgate::tensor::TensorError>
where
    T: Element + std::str::FromStr<Err: std::fmt::Debug>,
{
    elements(dtype, shape, data.iter().map(|item| item.text().parse::<T>().unwrap()))
}

fn elements<T: Element>(
    dtype: DataType,
    shape: &[usize],
    values: impl Iterator<Item = T>,
) -> Result<Tensor, headgate::tensor::TensorError> {
    Tensor::from_elements(dtype, shape.to_vec(), &values.collect::<Vec<_>>())
}
