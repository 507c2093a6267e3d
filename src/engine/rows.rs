//! Rows of a batch: the slices of a tensor along its batch axis.

use bytes::{Bytes, BytesMut};

use crate::tensor::{DataType, Tensor, element_count, push_byte_element};

/// The tensors one behind the other along `axis`; `None` when there are none, or they differ in anything else than the
/// size of that axis.
pub fn concat_rows(parts: &[Tensor], axis: usize) -> Option<Tensor> {
    let first = parts.first()?;
    let fits = |part: &Tensor| {
        let (a, b) = (part.shape(), first.shape());
        part.dtype() == first.dtype()
            && a.len() == b.len()
            && axis < a.len()
            && a[..axis] == b[..axis]
            && a[axis + 1..] == b[axis + 1..]
    };
    if !parts.iter().all(fits) {
        return None;
    }
    let mut shape = first.shape().to_vec();
    shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
    let cut: Vec<Slabs> = parts.iter().map(|part| Slabs::new(part, axis)).collect();
    let mut data = BytesMut::with_capacity(parts.iter().map(|part| part.data().len()).sum());
    for slab in 0..element_count(&shape[..axis]) {
        for (slabs, part) in cut.iter().zip(parts) {
            slabs.copy(slab, 0, part.shape()[axis], &mut data);
        }
    }
    Some(whole(first.dtype(), shape, data.freeze()))
}

/// `count` rows from `start` on along `axis`. They share the tensor's bytes where they lie together in them.
///
/// # Panics
/// When the tensor has no such axis or not so many rows.
pub fn slice_rows(tensor: &Tensor, axis: usize, start: usize, count: usize) -> Tensor {
    assert!(start + count <= tensor.shape()[axis], "rows {start}+{count} of {tensor:?}");
    let mut shape = tensor.shape().to_vec();
    shape[axis] = count;
    if let (Some(size), 1) = (tensor.dtype().size(), element_count(&shape[..axis])) {
        // Rows that lie together are shared, not copied.
        let row = element_count(&shape[axis + 1..]) * size;
        let data = tensor.data().slice(start * row..(start + count) * row);
        return whole(tensor.dtype(), shape, data);
    }
    let slabs = Slabs::new(tensor, axis);
    let mut data = BytesMut::new();
    for slab in 0..element_count(&shape[..axis]) {
        slabs.copy(slab, start, count, &mut data);
    }
    whole(tensor.dtype(), shape, data.freeze())
}

fn whole(dtype: DataType, shape: Vec<usize>, data: Bytes) -> Tensor {
    Tensor::from_raw(dtype, shape, data).expect("as many elements were copied as the shape holds")
}

/// A tensor seen as slabs: one for each index of the axes before the batch axis, each with all its rows.
enum Slabs<'a> {
    /// Bytes, with the size of a slab and of a row.
    Fixed { data: &'a [u8], slab: usize, row: usize },
    /// Elements of BYTES, with their number in a slab and in a row.
    Varying { elements: Vec<&'a [u8]>, slab: usize, row: usize },
}

impl<'a> Slabs<'a> {
    fn new(tensor: &'a Tensor, axis: usize) -> Self {
        let row = element_count(&tensor.shape()[axis + 1..]);
        let slab = row * tensor.shape()[axis];
        match tensor.dtype().size() {
            Some(size) => Self::Fixed { data: tensor.data(), slab: slab * size, row: row * size },
            None => Self::Varying { elements: tensor.byte_elements().collect(), slab, row },
        }
    }

    fn copy(&self, index: usize, start: usize, count: usize, out: &mut BytesMut) {
        match self {
            Self::Fixed { data, slab, row } => {
                let begin = index * slab + start * row;
                out.extend_from_slice(&data[begin..begin + count * row]);
            }
            Self::Varying { elements, slab, row } => {
                let begin = index * slab + start * row;
                for element in &elements[begin..begin + count * row] {
                    push_byte_element(out, element);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(shape: &[usize], from: i32) -> Tensor {
        let values: Vec<i32> = (from..from + element_count(shape) as i32).collect();
        Tensor::from_elements(DataType::Int32, shape.to_vec(), &values).unwrap()
    }

    #[test]
    fn what_was_joined_along_any_axis_comes_apart_again() {
        for axis in 0..3 {
            let (mut left, mut right) = (vec![2, 3, 4], vec![2, 3, 4]);
            (left[axis], right[axis]) = (1, 2);
            let parts = [ints(&left, 0), ints(&right, 100)];
            let both = concat_rows(&parts, axis).unwrap();
            assert_eq!(both.shape()[axis], 3);
            assert_eq!(slice_rows(&both, axis, 0, 1), parts[0]);
            assert_eq!(slice_rows(&both, axis, 1, 2), parts[1]);
            assert_eq!(slice_rows(&both, axis, 3, 0).element_count(), 0);
        }
    }

    #[test]
    fn text_of_any_length_is_joined_by_element() {
        let part = |texts: [&str; 2]| Tensor::from_byte_elements(vec![2, 1], &texts).unwrap();
        let both = concat_rows(&[part(["a", "long"]), part(["", "b"])], 1).unwrap();
        assert_eq!(both.byte_elements().collect::<Vec<_>>(), [&b"a"[..], b"", b"long", b"b"]);
    }

    #[test]
    fn tensors_that_do_not_fit_are_not_joined() {
        assert!(concat_rows(&[], 0).is_none());
        assert!(concat_rows(&[ints(&[2, 3], 0), ints(&[2, 4], 0)], 0).is_none());
        assert!(concat_rows(&[ints(&[], 0)], 0).is_none());
    }
}
