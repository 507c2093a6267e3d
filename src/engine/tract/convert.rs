//! Tensors of the gateway to tensors of tract and back.

use bytes::{Bytes, BytesMut};
use half::bf16;
use tract_onnx::prelude::{DatumType, Tensor as TractTensor, TractResult, tract_ndarray};

use crate::engine::RunError;
use crate::tensor::{DataType, Tensor, push_byte_element};

// Both sides keep fixed-width elements as the machine does; the gateway's are little-endian.
const _: () = assert!(cfg!(target_endian = "little"), "tensor bytes are handed over as they lie in memory");

/// tract's datatype for one of ours. It has no BF16; `clean_up` makes FLOAT of it in the graph.
pub fn datum_type(dtype: DataType) -> DatumType {
    match dtype {
        DataType::Bool => DatumType::Bool,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Uint8 => DatumType::U8,
        DataType::Uint16 => DatumType::U16,
        DataType::Uint32 => DatumType::U32,
        DataType::Uint64 => DatumType::U64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 | DataType::Bf16 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bytes => DatumType::String,
    }
}

/// A copy of the tensor, aligned as tract needs it.
///
/// # Errors
/// `BadInput` for BYTES that are not UTF-8, which tract's strings must be; it names the input and the element.
pub fn to_tract(name: &str, tensor: &Tensor) -> Result<TractTensor, RunError> {
    match tensor.dtype() {
        DataType::Bytes => strings(name, tensor),
        DataType::Bool => {
            // Any byte but 0 and 1 would be undefined behaviour as a `bool`.
            let values: Vec<bool> = tensor.data().iter().map(|&byte| byte != 0).collect();
            TractTensor::from_shape(tensor.shape(), &values).map_err(|error| RunError::Failed(error.to_string()))
        }
        DataType::Bf16 => {
            let values: Vec<f32> = tensor.elements::<bf16>().map(bf16::to_f32).collect();
            TractTensor::from_shape(tensor.shape(), &values).map_err(|error| RunError::Failed(error.to_string()))
        }
        dtype => {
            // SAFETY: `Tensor` holds exactly shape x width bytes, and every bit pattern is a value of these
            // integer and float types.
            let copied = unsafe { TractTensor::from_raw_dt(datum_type(dtype), tensor.shape(), tensor.data()) };
            copied.map_err(|error| RunError::Failed(error.to_string()))
        }
    }
}

/// The tensor in the datatype that the file declares: tract may compute another, such as its symbolic `TDim` for INT64.
pub fn from_tract(tensor: &TractTensor, declared: DataType) -> TractResult<Tensor> {
    let tensor = tensor.cast_to_dt(datum_type(declared))?;
    let data = match declared {
        DataType::Bytes => {
            let mut data = BytesMut::new();
            for text in tensor.try_as_plain_ram()?.as_slice::<String>()? {
                push_byte_element(&mut data, text.as_bytes());
            }
            data.freeze()
        }
        DataType::Bf16 => {
            let narrow = |&value: &f32| bf16::from_f32(value).to_le_bytes();
            tensor.try_as_plain_ram()?.as_slice::<f32>()?.iter().flat_map(narrow).collect()
        }
        _ => {
            tensor.try_as_plain_ram()?;
            Bytes::copy_from_slice(tensor.as_bytes())
        }
    };
    Ok(Tensor::from_raw(declared, tensor.shape().to_vec(), data)?)
}

fn strings(name: &str, tensor: &Tensor) -> Result<TractTensor, RunError> {
    let text = |(index, element): (usize, &[u8])| match std::str::from_utf8(element) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(RunError::BadInput(format!("input '{name}': element {index} is not UTF-8 text"))),
    };
    let texts = tensor.byte_elements().enumerate().map(text).collect::<Result<Vec<String>, _>>()?;
    tract_ndarray::ArrayD::from_shape_vec(tensor.shape(), texts)
        .map(TractTensor::from)
        .map_err(|error| RunError::Failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::prelude::tract_ndarray::arr1;
    use tract_onnx::tract_hir::internal::ToDim;

    #[test]
    fn every_datatype_comes_back_as_it_went() {
        for dtype in DataType::ALL {
            for shape in [vec![2, 3], vec![], vec![0, 4]] {
                let tensor = Tensor::zeros(dtype, shape);
                assert_eq!(from_tract(&to_tract("x", &tensor).unwrap(), dtype).unwrap(), tensor);
            }
        }
        let tensor = Tensor::from_elements(DataType::Bf16, vec![2], &[bf16::from_f32(-1.5), bf16::INFINITY]).unwrap();
        assert_eq!(from_tract(&to_tract("x", &tensor).unwrap(), DataType::Bf16).unwrap(), tensor);
    }

    #[test]
    fn text_must_be_utf8_and_the_error_names_the_element() {
        let tensor = Tensor::from_byte_elements(vec![2], &[&b"ok"[..], &[0xff]]).unwrap();
        let error = to_tract("s", &tensor).unwrap_err();
        assert_eq!(error, RunError::BadInput("input 's': element 1 is not UTF-8 text".into()));
    }

    #[test]
    fn a_bool_of_another_byte_is_true() {
        let tensor = Tensor::from_raw(DataType::Bool, vec![2], Bytes::from_static(&[0, 7])).unwrap();
        let back = from_tract(&to_tract("b", &tensor).unwrap(), DataType::Bool).unwrap();
        assert_eq!(back.data().as_ref(), [0, 1]);
    }

    #[test]
    fn symbolic_dimensions_come_out_as_int64() {
        let dims = TractTensor::from(arr1(&[3.to_dim(), 4.to_dim()]));
        let tensor = from_tract(&dims, DataType::Int64).unwrap();
        assert_eq!(tensor.elements::<i64>().collect::<Vec<_>>(), [3, 4]);
    }
}
