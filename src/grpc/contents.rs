//! Typed contents: elements in the field that their datatype names.

use std::fmt::Display;

use crate::error::{Error, Result};
use crate::inference::printable;
use crate::proto::inference::InferTensorContents;
use crate::tensor::{DataType, Element, Tensor, TensorError, element_count};

/// Makes a tensor of typed contents.
///
/// # Errors
/// `Invalid` for elements in another datatype's field, out of the datatype's range or of a datatype that has no field;
/// `InputTensor` where they don't fill the shape.
pub fn tensor(input: &str, dtype: DataType, shape: Vec<usize>, contents: &InferTensorContents) -> Result<Tensor> {
    let field = field(dtype);
    let filled = fields(contents);
    if let Some((other, _)) = filled.into_iter().find(|(name, count)| *count > 0 && Some(*name) != field) {
        let expected = field.unwrap_or("raw_input_contents");
        return Err(Error::invalid(format!(
            "input '{}' of datatype {dtype} expects its elements in {expected}, got {other}",
            printable(input)
        )));
    }
    let got = filled.into_iter().map(|(_, count)| count).sum();
    let expected = element_count(&shape);
    if got != expected {
        return Err(wrong_tensor(input, TensorError::ElementCount { expected, got, shape }));
    }
    let build = Build { input, dtype };
    let made = match dtype {
        DataType::Bool => {
            let bytes: Vec<u8> = contents.bool_contents.iter().map(|&value| value.into()).collect();
            Tensor::from_raw(dtype, shape, bytes.into())
        }
        DataType::Int8 => build.narrowed::<_, i8>(shape, &contents.int_contents)?,
        DataType::Int16 => build.narrowed::<_, i16>(shape, &contents.int_contents)?,
        DataType::Int32 => Tensor::from_elements(dtype, shape, &contents.int_contents),
        DataType::Int64 => Tensor::from_elements(dtype, shape, &contents.int64_contents),
        DataType::Uint8 => build.narrowed::<_, u8>(shape, &contents.uint_contents)?,
        DataType::Uint16 => build.narrowed::<_, u16>(shape, &contents.uint_contents)?,
        DataType::Uint32 => Tensor::from_elements(dtype, shape, &contents.uint_contents),
        DataType::Uint64 => Tensor::from_elements(dtype, shape, &contents.uint64_contents),
        DataType::Fp32 => Tensor::from_elements(dtype, shape, &contents.fp32_contents),
        DataType::Fp64 => Tensor::from_elements(dtype, shape, &contents.fp64_contents),
        DataType::Bytes => Tensor::from_byte_elements(shape, &contents.bytes_contents),
        // Only an empty tensor comes this far.
        DataType::Fp16 | DataType::Bf16 => Ok(Tensor::zeros(dtype, shape)),
    };
    made.map_err(|source| wrong_tensor(input, source))
}

/// The error of bytes or elements that do not make the tensor `input`.
pub fn wrong_tensor(input: &str, source: TensorError) -> Error {
    Error::InputTensor { input: printable(input), source }
}

/// The field that holds a datatype's elements; `None` for those that only travel raw.
fn field(dtype: DataType) -> Option<&'static str> {
    match dtype {
        DataType::Bool => Some("bool_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some("int_contents"),
        DataType::Int64 => Some("int64_contents"),
        DataType::Uint8 | DataType::Uint16 | DataType::Uint32 => Some("uint_contents"),
        DataType::Uint64 => Some("uint64_contents"),
        DataType::Fp16 | DataType::Bf16 => None,
        DataType::Fp32 => Some("fp32_contents"),
        DataType::Fp64 => Some("fp64_contents"),
        DataType::Bytes => Some("bytes_contents"),
    }
}

/// Every field with the number of its elements.
fn fields(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

struct Build<'a> {
    input: &'a str,
    dtype: DataType,
}

impl Build<'_> {
    /// Elements that the wire carries wider than they are.
    fn narrowed<W, N>(&self, shape: Vec<usize>, wide: &[W]) -> Result<Result<Tensor, TensorError>>
    where
        W: Copy + Display,
        N: TryFrom<W> + Element,
    {
        let narrow = |(index, &value): (usize, &W)| {
            N::try_from(value).map_err(|_| {
                let (input, dtype) = (printable(self.input), self.dtype);
                Error::invalid(format!("input '{input}': element {index} is {value}, which {dtype} can't hold"))
            })
        };
        let values: Vec<N> = wide.iter().enumerate().map(narrow).collect::<Result<_>>()?;
        Ok(Tensor::from_elements(self.dtype, shape, &values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_datatype_that_has_a_field_is_read_from_it() {
        let contents = |edit: fn(&mut InferTensorContents)| {
            let mut contents = InferTensorContents::default();
            edit(&mut contents);
            contents
        };
        let cases: [(DataType, InferTensorContents, &[u8]); 12] = [
            (DataType::Bool, contents(|c| c.bool_contents = vec![true, false]), &[1, 0]),
            (DataType::Int8, contents(|c| c.int_contents = vec![-128, 127]), &[0x80, 0x7f]),
            (DataType::Int16, contents(|c| c.int_contents = vec![-2, 256]), &[0xfe, 0xff, 0, 1]),
            (DataType::Int32, contents(|c| c.int_contents = vec![-1, 1]), &[255, 255, 255, 255, 1, 0, 0, 0]),
            (
                DataType::Int64,
                contents(|c| c.int64_contents = vec![2, 0]),
                &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (DataType::Uint8, contents(|c| c.uint_contents = vec![0, 255]), &[0, 255]),
            (DataType::Uint16, contents(|c| c.uint_contents = vec![65535, 1]), &[255, 255, 1, 0]),
            (DataType::Uint32, contents(|c| c.uint_contents = vec![u32::MAX, 1]), &[255, 255, 255, 255, 1, 0, 0, 0]),
            (
                DataType::Uint64,
                contents(|c| c.uint64_contents = vec![1, 0]),
                &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (DataType::Fp32, contents(|c| c.fp32_contents = vec![1.0, -0.0]), &[0, 0, 0x80, 0x3f, 0, 0, 0, 0x80]),
            (
                DataType::Fp64,
                contents(|c| c.fp64_contents = vec![1.0, 0.0]),
                &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                DataType::Bytes,
                contents(|c| c.bytes_contents = vec![Bytes::from_static(b"a\0"), Bytes::new()]),
                &[2, 0, 0, 0, b'a', 0, 0, 0, 0, 0],
            ),
        ];
        for (dtype, contents, expected) in cases {
            let tensor = tensor("x", dtype, vec![2], &contents).unwrap();
            assert_eq!(tensor.data(), expected, "{dtype}");
        }
    }

    #[test]
    fn an_element_that_does_not_fit_is_named() {
        let contents = InferTensorContents { int_contents: vec![0, 300], ..Default::default() };
        let error = tensor("x", DataType::Int8, vec![2], &contents).unwrap_err();
        assert_eq!(error.to_string(), "input 'x': element 1 is 300, which INT8 can't hold");
        let contents = InferTensorContents { uint_contents: vec![65_536], ..Default::default() };
        assert!(tensor("x", DataType::Uint16, vec![1], &contents).is_err());
    }

    #[test]
    fn elements_in_another_field_are_refused() {
        let contents = InferTensorContents { fp64_contents: vec![1.0], ..Default::default() };
        let error = tensor("x", DataType::Fp32, vec![1], &contents).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 'x' of datatype FP32 expects its elements in fp32_contents, got fp64_contents"
        );
        let contents = InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
        let error = tensor("x", DataType::Fp16, vec![1], &contents).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 'x' of datatype FP16 expects its elements in raw_input_contents, got fp32_contents"
        );
    }

    #[test]
    fn the_elements_must_fill_the_shape() {
        let contents = InferTensorContents { fp32_contents: vec![1.0; 3], ..Default::default() };
        let error = tensor("x", DataType::Fp32, vec![2, 2], &contents).unwrap_err();
        assert_eq!(error.to_string(), "input 'x': expected 4 elements for shape [2,2], got 3");
        assert!(tensor("x", DataType::Bf16, vec![1], &InferTensorContents::default()).is_err());
        assert!(tensor("x", DataType::Bf16, vec![0], &InferTensorContents::default()).is_ok());
    }
}
