//! Tensors as they travel through the gateway: a datatype, a shape and little-endian bytes.
//!
//! One representation serves every wire and every engine. The bytes are those of the Open Inference Protocol's
//! raw form, so that a binary request becomes a tensor without a copy: fixed-width elements little-endian and
//! row-major, BYTES elements each behind a 4-byte little-endian length.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// Element type of a tensor, by its Open Inference Protocol name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Variable-length byte strings (ONNX `string`, Triton `TYPE_STRING`).
    Bytes,
}

impl DataType {
    /// Every datatype, in the order of the protocol's table.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's name, such as `FP32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The datatype of that protocol name, `None` for any other text.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of one element; `None` for BYTES, whose elements vary.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => Some(1),
            Self::Int16 | Self::Uint16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Int32 | Self::Uint32 | Self::Fp32 => Some(4),
            Self::Int64 | Self::Uint64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes, a shape and a datatype do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("shape {} has more elements than can be addressed", shape_text(shape))]
    ShapeOverflow { shape: Vec<i64> },
    #[error("shape {} has a negative dimension", shape_text(shape))]
    NegativeDimension { shape: Vec<i64> },
    #[error("shape has {got} dimensions, at most {limit} are accepted")]
    TooManyDimensions { got: usize, limit: usize },
    #[error("expected {expected} bytes for shape {} of {dtype}, got {got}", shape_text(shape))]
    ByteCount { expected: usize, got: usize, dtype: DataType, shape: Vec<usize> },
    #[error("expected {expected} elements for shape {}, got {got}", shape_text(shape))]
    ElementCount { expected: usize, got: usize, shape: Vec<usize> },
    #[error("element {index} of a BYTES tensor is cut off: {wanted} bytes announced, {left} left")]
    TruncatedElement { index: usize, wanted: usize, left: usize },
}

/// Longest shape accepted from a client; ONNX models seldom pass 6.
pub const MAX_RANK: usize = 32;

/// A shape as clients and operators read it: `[2,3]`.
pub fn shape_text<D: fmt::Display>(shape: &[D]) -> String {
    let dims: Vec<String> = shape.iter().map(D::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// Turns a shape from the wire into dimensions, checking sign, rank and that the element count fits `isize`.
///
/// # Errors
/// `NegativeDimension`, `TooManyDimensions` or `ShapeOverflow`.
pub fn parse_shape(wire: &[i64]) -> Result<Vec<usize>, TensorError> {
    if wire.len() > MAX_RANK {
        return Err(TensorError::TooManyDimensions { got: wire.len(), limit: MAX_RANK });
    }
    let shape = wire
        .iter()
        .map(|&dim| usize::try_from(dim))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TensorError::NegativeDimension { shape: wire.to_vec() })?;
    // Sixteen bytes an element is more than any datatype's width, so a byte count cannot overflow later. A zero
    // dimension doesn't excuse the others: an engine may multiply them in another order.
    shape
        .iter()
        .try_fold(16usize, |product, &dim| product.checked_mul(dim.max(1)))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(|| TensorError::ShapeOverflow { shape: wire.to_vec() })?;
    Ok(shape)
}

/// Number of elements of a checked shape; 1 for a scalar.
pub fn element_count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// An immutable tensor. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tensor {
    dtype: DataType,
    shape: Dims,
    data: Bytes,
}

/// Dimensions that lie in the tensor itself where they are few, so that a clone allocates nothing for them.
type Dims = SmallVec<[usize; 4]>;

impl Tensor {
    /// Wraps raw bytes: little-endian, row-major, BYTES elements behind 4-byte lengths.
    ///
    /// # Errors
    /// `ByteCount` when a fixed-width tensor has the wrong length, `ElementCount` or `TruncatedElement` when
    /// BYTES elements do not add up to the shape.
    pub fn from_raw(dtype: DataType, shape: Vec<usize>, data: Bytes) -> Result<Self, TensorError> {
        let count = element_count(&shape);
        match dtype.size() {
            Some(size) if data.len() != count * size => {
                Err(TensorError::ByteCount { expected: count * size, got: data.len(), dtype, shape })
            }
            Some(_) => Ok(Self { dtype, shape: Dims::from_slice(&shape), data }),
            None => {
                let got = count_byte_elements(&data)?;
                if got != count {
                    return Err(TensorError::ElementCount { expected: count, got, shape });
                }
                Ok(Self { dtype, shape: Dims::from_slice(&shape), data })
            }
        }
    }

    /// A BYTES tensor of the given elements in row-major order.
    ///
    /// # Errors
    /// `ElementCount` when the elements do not fill the shape.
    pub fn from_byte_elements<T: AsRef<[u8]>>(shape: Vec<usize>, elements: &[T]) -> Result<Self, TensorError> {
        let expected = element_count(&shape);
        if elements.len() != expected {
            return Err(TensorError::ElementCount { expected, got: elements.len(), shape });
        }
        let mut data = BytesMut::with_capacity(elements.iter().map(|e| e.as_ref().len() + 4).sum());
        for element in elements {
            push_byte_element(&mut data, element.as_ref());
        }
        Ok(Self { dtype: DataType::Bytes, shape: Dims::from_slice(&shape), data: data.freeze() })
    }

    /// All zeros, or empty strings for BYTES.
    pub fn zeros(dtype: DataType, shape: Vec<usize>) -> Self {
        // Four zero bytes are the length prefix of an empty string.
        let bytes = element_count(&shape) * dtype.size().unwrap_or(4);
        Self { dtype, shape: Dims::from_slice(&shape), data: Bytes::from(vec![0; bytes]) }
    }

    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The raw bytes, as `from_raw` takes them.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    pub fn into_data(self) -> Bytes {
        self.data
    }

    pub fn element_count(&self) -> usize {
        element_count(&self.shape)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// `ElementCount` when the new shape holds another number of elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        let got = self.element_count();
        let expected = element_count(&shape);
        if got != expected {
            return Err(TensorError::ElementCount { expected, got, shape });
        }
        Ok(Self { shape: Dims::from_slice(&shape), ..self })
    }

    /// The elements of a BYTES tensor in row-major order; nothing for other datatypes.
    pub fn byte_elements(&self) -> ByteElements<'_> {
        ByteElements { rest: if self.dtype == DataType::Bytes { &self.data } else { &[] } }
    }

    /// Fixed-width elements in row-major order, read as `T`. The caller has matched `T` to the datatype.
    ///
    /// # Panics
    /// When `T`'s width is not the datatype's.
    pub fn elements<'a, T: Element + 'a>(&'a self) -> impl ExactSizeIterator<Item = T> + 'a {
        assert_eq!(self.dtype.size(), Some(size_of::<T>()), "{} read with another width", self.dtype);
        self.data.chunks_exact(size_of::<T>()).map(T::read_le)
    }

    /// A tensor of fixed-width elements.
    ///
    /// # Errors
    /// `ByteCount` when the values do not fill the shape.
    pub fn from_elements<T: Element>(dtype: DataType, shape: Vec<usize>, values: &[T]) -> Result<Self, TensorError> {
        let mut data = Vec::with_capacity(size_of_val(values));
        for value in values {
            value.write_le(&mut data);
        }
        Self::from_raw(dtype, shape, data.into())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ({} bytes)", self.dtype, shape_text(&self.shape), self.data.len())
    }
}

/// Appends one BYTES element with its length.
pub fn push_byte_element(out: &mut impl BufMut, element: &[u8]) {
    out.put_u32_le(element.len() as u32);
    out.put_slice(element);
}

/// Iterator over the elements of a BYTES tensor, whose framing was checked when the tensor was made.
pub struct ByteElements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ByteElements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(element)
    }
}

fn count_byte_elements(data: &[u8]) -> Result<usize, TensorError> {
    let (mut rest, mut index) = (data, 0);
    while !rest.is_empty() {
        let Some((length, tail)) = rest.split_first_chunk::<4>() else {
            return Err(TensorError::TruncatedElement { index, wanted: 4, left: rest.len() });
        };
        let wanted = u32::from_le_bytes(*length) as usize;
        let Some((_, tail)) = tail.split_at_checked(wanted) else {
            return Err(TensorError::TruncatedElement { index, wanted, left: tail.len() });
        };
        rest = tail;
        index += 1;
    }
    Ok(index)
}

/// A fixed-width element that can be read from and written to little-endian bytes.
pub trait Element: Copy {
    fn read_le(bytes: &[u8]) -> Self;
    fn write_le(self, out: &mut Vec<u8>);
}

macro_rules! impl_element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            fn read_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("chunks_exact yields the element's width"))
            }
            fn write_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
impl_element!(u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, half::f16, half::bf16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_must_fill_the_shape() {
        let ok = Tensor::from_raw(DataType::Fp32, vec![2, 2], Bytes::from(vec![0; 16]));
        assert_eq!(ok.unwrap().element_count(), 4);
        let err = Tensor::from_raw(DataType::Fp32, vec![2, 2], Bytes::from(vec![0; 12])).unwrap_err();
        assert_eq!(err.to_string(), "expected 16 bytes for shape [2,2] of FP32, got 12");
    }

    #[test]
    fn byte_elements_round_trip_with_nul_bytes() {
        let tensor = Tensor::from_byte_elements(vec![3], &[&b"a\0b"[..], b"", b"xyz"]).unwrap();
        let back: Vec<&[u8]> = tensor.byte_elements().collect();
        assert_eq!(back, [&b"a\0b"[..], b"", b"xyz"]);
    }

    #[test]
    fn byte_elements_that_are_cut_off_are_refused() {
        let err = Tensor::from_raw(DataType::Bytes, vec![1], Bytes::from_static(&[5, 0, 0, 0, b'a'])).unwrap_err();
        assert_eq!(err, TensorError::TruncatedElement { index: 0, wanted: 5, left: 1 });
    }

    #[test]
    fn shapes_from_the_wire_are_checked_before_anything_is_allocated() {
        assert_eq!(parse_shape(&[2, 0]).unwrap(), [2, 0]);
        assert!(matches!(parse_shape(&[-1]), Err(TensorError::NegativeDimension { .. })));
        assert!(matches!(parse_shape(&[i64::MAX, 2]), Err(TensorError::ShapeOverflow { .. })));
        assert!(matches!(parse_shape(&[0, i64::MAX, i64::MAX]), Err(TensorError::ShapeOverflow { .. })));
        assert!(matches!(parse_shape(&[1; 1000]), Err(TensorError::TooManyDimensions { .. })));
    }

    #[test]
    fn names_and_datatypes_agree_both_ways() {
        for dtype in DataType::ALL {
            assert_eq!(DataType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DataType::from_name("fp32"), None);
    }
}
