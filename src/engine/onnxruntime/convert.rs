//! Tensors of the gateway to values of ONNX Runtime and back.

use bytes::{Bytes, BytesMut};
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};

use crate::engine::RunError;
use crate::tensor::{DataType, Element, Tensor, push_byte_element};

// Both sides keep fixed-width elements as the machine does; the gateway's are little-endian.
const _: () = assert!(cfg!(target_endian = "little"), "tensor bytes are handed over as they lie in memory");

/// The datatype of the protocol for one of ONNX Runtime's; `None` where it has none.
pub fn datatype(of: TensorElementType) -> Option<DataType> {
    Some(match of {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// The tensor as a run takes it. Its bytes are lent, not copied, where they lie as the element type needs it.
///
/// # Errors
/// `BadInput` for BYTES that ONNX Runtime can't take: it copies strings up to a NUL, and they must be UTF-8 as everywhere
/// in ONNX. It names the input and the element.
pub fn to_value<'a>(name: &str, tensor: &'a Tensor) -> Result<SessionInputValue<'a>, RunError> {
    match tensor.dtype() {
        DataType::Bool => bools(tensor),
        DataType::Int8 => numbers::<i8>(tensor),
        DataType::Int16 => numbers::<i16>(tensor),
        DataType::Int32 => numbers::<i32>(tensor),
        DataType::Int64 => numbers::<i64>(tensor),
        DataType::Uint8 => numbers::<u8>(tensor),
        DataType::Uint16 => numbers::<u16>(tensor),
        DataType::Uint32 => numbers::<u32>(tensor),
        DataType::Uint64 => numbers::<u64>(tensor),
        DataType::Fp16 => numbers::<f16>(tensor),
        DataType::Bf16 => numbers::<bf16>(tensor),
        DataType::Fp32 => numbers::<f32>(tensor),
        DataType::Fp64 => numbers::<f64>(tensor),
        DataType::Bytes => strings(name, tensor),
    }
}

/// A value that holds its own elements, such as weights that several sessions share.
///
/// # Errors
/// The library's.
pub fn to_owned_value(tensor: &Tensor) -> Result<DynValue, RunError> {
    fn of<T: PrimitiveTensorElementType + Element + std::fmt::Debug + 'static>(
        tensor: &Tensor,
    ) -> Result<DynValue, RunError> {
        let values: Vec<T> = tensor.elements().collect();
        OrtTensor::from_array((tensor.shape(), values)).map(|value| value.into_dyn()).map_err(failed)
    }
    match tensor.dtype() {
        DataType::Int8 => of::<i8>(tensor),
        DataType::Int16 => of::<i16>(tensor),
        DataType::Int32 => of::<i32>(tensor),
        DataType::Int64 => of::<i64>(tensor),
        DataType::Uint8 => of::<u8>(tensor),
        DataType::Uint16 => of::<u16>(tensor),
        DataType::Uint32 => of::<u32>(tensor),
        DataType::Uint64 => of::<u64>(tensor),
        DataType::Fp16 => of::<f16>(tensor),
        DataType::Bf16 => of::<bf16>(tensor),
        DataType::Fp32 => of::<f32>(tensor),
        DataType::Fp64 => of::<f64>(tensor),
        DataType::Bool | DataType::Bytes => Err(RunError::Failed(format!("no weights of {}", tensor.dtype()))),
    }
}

/// An output in the datatype that the file declares for it.
///
/// # Errors
/// `Failed` where it is none, or of another datatype.
pub fn from_value(name: &str, value: &DynValue, declared: DataType) -> Result<Tensor, RunError> {
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(RunError::Failed(format!("output '{name}' is no tensor but {}", value.dtype())));
    };
    if datatype(*ty) != Some(declared) {
        return Err(RunError::Failed(format!("output '{name}' is of {ty}, the file declares {declared}")));
    }
    let shape: Vec<usize> = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    let data = match declared {
        DataType::Bool => bytes_of::<bool>(value),
        DataType::Int8 => bytes_of::<i8>(value),
        DataType::Int16 => bytes_of::<i16>(value),
        DataType::Int32 => bytes_of::<i32>(value),
        DataType::Int64 => bytes_of::<i64>(value),
        DataType::Uint8 => bytes_of::<u8>(value),
        DataType::Uint16 => bytes_of::<u16>(value),
        DataType::Uint32 => bytes_of::<u32>(value),
        DataType::Uint64 => bytes_of::<u64>(value),
        DataType::Fp16 => bytes_of::<f16>(value),
        DataType::Bf16 => bytes_of::<bf16>(value),
        DataType::Fp32 => bytes_of::<f32>(value),
        DataType::Fp64 => bytes_of::<f64>(value),
        DataType::Bytes => value.try_extract_strings().map(|(_, texts)| {
            let mut data = BytesMut::new();
            texts.iter().for_each(|text| push_byte_element(&mut data, text.as_bytes()));
            data.freeze()
        }),
    };
    let data = data.map_err(|cause| RunError::Failed(format!("output '{name}': {}", one_line(&cause))))?;
    Tensor::from_raw(declared, shape, data).map_err(|cause| RunError::Failed(format!("output '{name}': {cause}")))
}

/// An error of the library as one of a run.
pub fn failed<R>(cause: ort::Error<R>) -> RunError {
    RunError::Failed(one_line(&cause))
}

/// Longest text of the library that is shown, in characters.
const MAX_CAUSE_CHARS: usize = 400;

/// The library's text on one line, without the file and line of its source that it begins with.
pub fn one_line<R>(cause: &ort::Error<R>) -> String {
    let words: Vec<&str> =
        cause.message().split_whitespace().filter(|word| !word.starts_with("/onnxruntime_src/")).collect();
    let text = words.join(" ");
    match text.char_indices().nth(MAX_CAUSE_CHARS) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn numbers<T>(tensor: &Tensor) -> Result<SessionInputValue<'_>, RunError>
where
    T: PrimitiveTensorElementType + Element + std::fmt::Debug + 'static,
{
    // SAFETY: every bit pattern is a value of these integer and float types.
    let (before, values, after) = unsafe { tensor.data().align_to::<T>() };
    if before.is_empty() && after.is_empty() {
        return TensorRef::from_array_view((tensor.shape(), values)).map(SessionInputValue::from).map_err(failed);
    }
    // The bytes begin in the middle of a request's body.
    let values: Vec<T> = tensor.elements().collect();
    OrtTensor::from_array((tensor.shape(), values)).map(SessionInputValue::from).map_err(failed)
}

fn bools(tensor: &Tensor) -> Result<SessionInputValue<'_>, RunError> {
    // Any byte but 0 and 1 would be undefined behaviour as a `bool`.
    let values: Vec<bool> = tensor.data().iter().map(|&byte| byte != 0).collect();
    OrtTensor::from_array((tensor.shape(), values)).map(SessionInputValue::from).map_err(failed)
}

fn strings<'a>(name: &str, tensor: &Tensor) -> Result<SessionInputValue<'a>, RunError> {
    let mut texts = vec![];
    for (index, element) in tensor.byte_elements().enumerate() {
        let why = match std::str::from_utf8(element) {
            Ok(text) if !text.contains('\0') => {
                texts.push(text.to_owned());
                continue;
            }
            Ok(_) => "holds a NUL, which the onnxruntime engine can't take",
            Err(_) => "is not UTF-8 text",
        };
        return Err(RunError::BadInput(format!("input '{name}': element {index} {why}")));
    }
    OrtTensor::from_string_array((tensor.shape(), &texts[..])).map(SessionInputValue::from).map_err(failed)
}

fn bytes_of<T: PrimitiveTensorElementType>(value: &DynValue) -> ort::Result<Bytes> {
    let (_, values) = value.try_extract_tensor::<T>()?;
    // SAFETY: the bytes of a slice of plain numbers or of `bool`s, which have no padding.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    Ok(Bytes::copy_from_slice(bytes))
}
