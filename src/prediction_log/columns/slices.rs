//! A tensor's rows, as slices of its bytes.

use std::borrow::Cow;

use super::layout::Cut;
use crate::tensor::{DataType, Tensor};

/// Where the elements of a BYTES tensor begin. Kept from tensor to tensor for its memory.
#[derive(Debug, Default)]
pub struct Starts(Vec<usize>);

/// The rows of one tensor of a request. Bytes of a row are those of a tensor: little-endian, row-major, texts each behind
/// their length.
#[derive(Debug, Clone, Copy)]
pub struct Slices<'a> {
    data: &'a [u8],
    shape: &'a [usize],
    cut: Cut,
    /// Bytes of an element; 0 for BYTES.
    width: usize,
    /// BYTES: the start of each element, and the end of the last.
    starts: &'a [usize],
    /// Runs of elements that lie side by side, for each row.
    outer: usize,
    /// Elements of a run.
    inner: usize,
    /// Rows that lie between two runs of a row; 1 where rows share the tensor.
    stride: usize,
}

impl<'a> Slices<'a> {
    /// `None` for a tensor that does not hold so many rows.
    pub fn of(tensor: &'a Tensor, cut: Cut, rows: usize, starts: &'a mut Starts) -> Option<Self> {
        let shape = tensor.shape();
        let (outer, inner, stride) = match cut {
            Cut::Axis(axis) => {
                if *shape.get(axis)? != rows {
                    return None;
                }
                (shape[..axis].iter().product(), shape[axis + 1..].iter().product(), rows)
            }
            Cut::Shared | Cut::Whole => (1, tensor.element_count(), 1),
        };
        let width = tensor.dtype().size().unwrap_or(0);
        if tensor.dtype() == DataType::Bytes {
            starts.0.clear();
            starts.0.push(0);
            let mut end = 0;
            starts.0.extend(tensor.byte_elements().map(|element| {
                end += 4 + element.len();
                end
            }));
        }
        Some(Self { data: tensor.data(), shape, cut, width, starts: &starts.0, outer, inner, stride })
    }

    /// Elements of each row.
    pub fn row_elements(&self) -> usize {
        self.outer * self.inner
    }

    /// Sizes of each row's dimensions.
    pub fn row_shape(&self) -> impl Iterator<Item = usize> + '_ {
        self.shape.iter().enumerate().filter(|(axis, _)| self.cut != Cut::Axis(*axis)).map(|(_, &size)| size)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self, row: usize) -> usize {
        if self.width > 0 {
            return self.row_elements() * self.width;
        }
        (0..self.outer).map(|run| self.run(row, run).len()).sum()
    }

    /// The bytes of a row; borrowed where they lie side by side.
    pub fn row(&self, row: usize) -> Cow<'a, [u8]> {
        if self.outer == 1 {
            return Cow::Borrowed(self.run(row, 0));
        }
        let mut gathered = Vec::with_capacity(self.row_bytes(row));
        (0..self.outer).for_each(|run| gathered.extend_from_slice(self.run(row, run)));
        Cow::Owned(gathered)
    }

    /// The bytes of one element of a row, which is less than [`Self::row_elements`].
    pub fn element(&self, row: usize, element: usize) -> &'a [u8] {
        let start = self.place(row, element / self.inner) + element % self.inner;
        self.between(start, start + 1)
    }

    fn run(&self, row: usize, run: usize) -> &'a [u8] {
        let start = self.place(row, run);
        self.between(start, start + self.inner)
    }

    /// The first element of a row's run.
    fn place(&self, row: usize, run: usize) -> usize {
        let row = if matches!(self.cut, Cut::Axis(_)) { row } else { 0 };
        (run * self.stride + row) * self.inner
    }

    fn between(&self, start: usize, end: usize) -> &'a [u8] {
        if self.width > 0 {
            &self.data[start * self.width..end * self.width]
        } else {
            &self.data[self.starts[start]..self.starts[end]]
        }
    }
}

/// The text of an element of BYTES, without its length.
pub fn text_bytes(element: &[u8]) -> &[u8] {
    element.get(4..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(shape: Vec<usize>) -> Tensor {
        let values: Vec<i8> = (0..shape.iter().product::<usize>() as i8).collect();
        Tensor::from_elements(DataType::Int8, shape, &values).unwrap()
    }

    #[test]
    fn rows_along_the_first_axis_are_slices_of_the_tensor() {
        let (tensor, mut starts) = (counted(vec![2, 3]), Starts::default());
        let slices = Slices::of(&tensor, Cut::Axis(0), 2, &mut starts).unwrap();
        assert!(matches!(slices.row(1), Cow::Borrowed([3, 4, 5])));
        assert_eq!((slices.row_elements(), slices.row_bytes(0)), (3, 3));
        assert_eq!(slices.element(1, 2), [5]);
    }

    #[test]
    fn rows_along_another_axis_are_gathered() {
        let (tensor, mut starts) = (counted(vec![2, 3, 2]), Starts::default());
        let slices = Slices::of(&tensor, Cut::Axis(1), 3, &mut starts).unwrap();
        assert_eq!(*slices.row(1), [2, 3, 8, 9]);
        assert_eq!(slices.row_shape().collect::<Vec<_>>(), [2, 2]);
        assert_eq!(slices.element(1, 2), [8]);
    }

    #[test]
    fn texts_are_sliced_with_their_lengths() {
        let texts = Tensor::from_byte_elements(vec![2, 2], &["a", "bcd", "", "ef"]).unwrap();
        let mut starts = Starts::default();
        let slices = Slices::of(&texts, Cut::Axis(1), 2, &mut starts).unwrap();
        assert_eq!(*slices.row(0), [1, 0, 0, 0, b'a', 0, 0, 0, 0]);
        assert_eq!((slices.row_bytes(0), slices.row_bytes(1)), (9, 13));
        assert_eq!(text_bytes(slices.element(1, 1)), b"ef");
    }

    #[test]
    fn a_shared_tensor_is_part_of_every_row() {
        let (tensor, mut starts) = (counted(vec![3]), Starts::default());
        let slices = Slices::of(&tensor, Cut::Shared, 5, &mut starts).unwrap();
        assert_eq!((slices.row(0), slices.row(4)), (slices.row(1), slices.row(0)));
        assert!(Slices::of(&tensor, Cut::Axis(0), 5, &mut Starts::default()).is_none());
        assert!(Slices::of(&tensor, Cut::Axis(1), 1, &mut Starts::default()).is_none());
    }
}
