//! The body that is nothing but one tensor: a JSON head of length 0.

use bytes::{Bytes, BytesMut};

use super::infer_request::Decoded;
use super::infer_response::OutputForm;
use crate::error::{Error, Result};
use crate::inference::InferRequest;
use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor, push_byte_element, shape_text};

/// Makes the model's only input of the whole body; every output comes back binary.
///
/// One varying dimension follows from the body's size. Where the model has a batch axis beside it, the batch is 1. A
/// BYTES body is one element, without a length in front.
///
/// # Errors
/// `Invalid` for a model with more inputs or more varying dimensions, and for a size that no shape fits.
pub fn decode(body: Bytes, signature: &Signature) -> Result<Decoded> {
    let [spec] = signature.inputs.as_slice() else {
        return Err(Error::Invalid(format!(
            "a raw binary request expects a model with 1 input, got one with {}",
            signature.inputs.len()
        )));
    };
    let batch_axis = signature.batch_axes().and_then(|axes| axes.inputs.first().copied().flatten());
    let shape = shape(spec, batch_axis, body.len())?;
    let data = if spec.dtype == DataType::Bytes { one_element(&body) } else { body };
    let tensor = Tensor::from_raw(spec.dtype, shape, data)
        .map_err(|source| Error::InputTensor { input: spec.name.clone(), source })?;
    let request = InferRequest { inputs: vec![(spec.name.clone(), tensor)], ..InferRequest::default() };
    Ok(Decoded { request, form: OutputForm::All { binary: true } })
}

/// The shape of `spec` that `length` bytes fill.
fn shape(spec: &TensorSpec, batch_axis: Option<usize>, length: usize) -> Result<Vec<usize>> {
    let refused = |why: &str| {
        Error::Invalid(format!(
            "a raw binary request of {length} bytes for input '{}' of {} and shape {}: {why}",
            spec.name,
            spec.dtype,
            shape_text(&spec.wire_shape())
        ))
    };
    let dims = spec.dims.as_deref().ok_or_else(|| refused("expected a model that declares the input's shape"))?;
    let varying: Vec<usize> = (0..dims.len()).filter(|&axis| !matches!(dims[axis], Dim::Fixed(_))).collect();
    let free = match (varying.as_slice(), batch_axis) {
        ([], _) => None,
        ([axis], _) => Some(*axis),
        ([a, b], Some(batch)) if *a == batch || *b == batch => Some(if *a == batch { *b } else { *a }),
        _ => return Err(refused("expected at most one dimension that varies beside the batch")),
    };
    let fixed = dims.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 });
    let mut shape: Vec<usize> = fixed.collect();
    let (Some(axis), Some(size)) = (free, spec.dtype.size()) else { return Ok(shape) };
    let step = shape.iter().try_fold(size, |product, &dim| product.checked_mul(dim)).filter(|&step| step > 0);
    let step = step.ok_or_else(|| refused("expected a shape that holds elements"))?;
    if !length.is_multiple_of(step) {
        return Err(refused(&format!("expected a multiple of {step} bytes")));
    }
    shape[axis] = length / step;
    Ok(shape)
}

fn one_element(body: &[u8]) -> Bytes {
    let mut data = BytesMut::with_capacity(body.len() + 4);
    push_byte_element(&mut data, body);
    data.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{BatchAxes, Batching};

    fn signature(dtype: DataType, dims: Vec<Dim>, batch_axis: Option<usize>) -> Signature {
        let axes = BatchAxes { inputs: vec![batch_axis], outputs: vec![] };
        let inputs = vec![TensorSpec { name: "x".into(), dtype, dims: Some(dims), classes: vec![] }];
        Signature { inputs, outputs: vec![], batching: Batching::Proven(axes) }
    }

    fn decoded(signature: &Signature, length: usize) -> Result<Vec<usize>> {
        let decoded = decode(Bytes::from(vec![0; length]), signature)?;
        Ok(decoded.request.inputs[0].1.shape().to_vec())
    }

    #[test]
    fn one_varying_dimension_follows_from_the_size() {
        let rows = signature(DataType::Fp32, vec![Dim::Unknown, Dim::Fixed(2)], Some(0));
        assert_eq!(decoded(&rows, 8).unwrap(), [1, 2]);
        assert_eq!(decoded(&rows, 24).unwrap(), [3, 2]);
        assert!(decoded(&rows, 9).is_err());
        let wide = signature(DataType::Fp32, vec![Dim::Unknown, Dim::Named("W".into())], Some(0));
        assert_eq!(decoded(&wide, 12).unwrap(), [1, 3]);
        let free = signature(DataType::Fp32, vec![Dim::Unknown, Dim::Unknown], None);
        assert!(decoded(&free, 12).is_err());
        let fixed = signature(DataType::Int16, vec![Dim::Fixed(2)], None);
        assert_eq!(decoded(&fixed, 4).unwrap(), [2]);
        assert!(decoded(&fixed, 6).is_err());
        assert!(decoded(&signature(DataType::Fp32, vec![Dim::Unknown, Dim::Fixed(0)], None), 0).is_err());
    }

    #[test]
    fn bytes_are_one_element_without_a_length() {
        let text = signature(DataType::Bytes, vec![Dim::Unknown, Dim::Fixed(1)], Some(0));
        let decoded = decode(Bytes::from_static(b"hello"), &text).unwrap();
        let tensor = &decoded.request.inputs[0].1;
        assert_eq!(tensor.shape(), [1, 1]);
        assert_eq!(tensor.byte_elements().collect::<Vec<_>>(), [b"hello"]);
    }
}
