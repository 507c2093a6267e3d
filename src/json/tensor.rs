//! A JSON array of any nesting -> a tensor, in one pass and without an allocation a number.

use std::fmt;

use super::element::{self, ElementFault, ReadElement};
use super::numbers::{self, ReadRun};
use super::reader::{JsonError, Kind, Reader};
use crate::budget::ByteLease;
use crate::error::Error;
use crate::tensor::{DataType, MAX_RANK, Tensor, TensorError, element_count, shape_text};

/// Tensor bytes that ride on what the body itself paid; more is taken from the budget. JSON may be a quarter of the
/// tensor it describes (`0,` for eight bytes).
const FREE_BYTES: usize = 64 << 10;

/// Reads the elements of one tensor, from one array or from one array a row.
pub struct TensorReader {
    dtype: DataType,
    read_element: ReadElement,
    read_run: ReadRun,
    data: Vec<u8>,
    elements: usize,
    /// `None` takes any number of elements.
    expected: Option<usize>,
    nesting: Nesting,
    paid: usize,
}

/// Why a JSON value is not the tensor it should be.
#[derive(Debug)]
pub enum TensorFault {
    Json(JsonError),
    Element {
        index: usize,
        dtype: DataType,
        fault: ElementFault,
    },
    Ragged(Ragged),
    TooManyDimensions,
    /// The nesting says another shape than the request.
    Nested {
        nested: Vec<usize>,
        shape: Vec<usize>,
    },
    Tensor(TensorError),
    Budget(Error),
}

/// Arrays side by side that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ragged {
    Lengths { depth: usize, first: usize, other: usize },
    Depths,
}

impl From<JsonError> for TensorFault {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl From<TensorError> for TensorFault {
    fn from(error: TensorError) -> Self {
        Self::Tensor(error)
    }
}

impl From<Ragged> for TensorFault {
    fn from(ragged: Ragged) -> Self {
        Self::Ragged(ragged)
    }
}

impl TensorFault {
    /// The request's error, naming the input.
    pub fn of_input(self, input: &str) -> Error {
        let input = input.to_owned();
        match self {
            Self::Json(error) => error.into(),
            Self::Element { fault: ElementFault::Json(error), .. } => error.into(),
            Self::Budget(error) => error,
            Self::Tensor(source) => Error::InputTensor { input, source },
            fault => Error::Invalid(format!("input '{input}': {fault}")),
        }
    }
}

impl fmt::Display for TensorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::Element { index, dtype, fault } => write!(f, "element {index} for {dtype}: {fault}"),
            Self::Ragged(Ragged::Lengths { depth, first, other }) => write!(
                f,
                "arrays at depth {depth} differ in length, {first} and {other} elements: expected the same number in each"
            ),
            Self::Ragged(Ragged::Depths) => {
                f.write_str("values lie at different depths of nesting: expected all at the same depth")
            }
            Self::TooManyDimensions => write!(f, "more than {MAX_RANK} arrays in one another"),
            Self::Nested { nested, shape } => write!(
                f,
                "data is nested as {}, expected it flat or nested as its shape {}",
                shape_text(nested),
                shape_text(shape)
            ),
            Self::Tensor(error) => error.fmt(f),
            Self::Budget(error) => error.fmt(f),
        }
    }
}

impl TensorReader {
    /// For a tensor whose shape the nesting will tell.
    pub fn of_any_shape(dtype: DataType) -> Self {
        Self {
            dtype,
            read_element: element::reader_of(dtype),
            read_run: numbers::run_of(dtype),
            data: Vec::new(),
            elements: 0,
            expected: None,
            nesting: Nesting::default(),
            paid: FREE_BYTES,
        }
    }

    /// Reads a whole tensor of a known shape: flat, or nested as the shape; a single value needs no array.
    ///
    /// # Errors
    /// `TensorFault`; more elements than the shape holds end the reading at once.
    pub fn read_shaped(
        dtype: DataType,
        shape: Vec<usize>,
        reader: &mut Reader<'_>,
        lease: &mut ByteLease,
    ) -> Result<Tensor, TensorFault> {
        let count = element_count(&shape);
        let mut tensor = Self { expected: Some(count), ..Self::of_any_shape(dtype) };
        // The text can't hold more elements than every second byte, whatever the shape claims.
        tensor.make_room(count.min(reader.remaining() / 2 + 1) * dtype.size().unwrap_or(4), lease)?;
        tensor.read_value(0, reader, lease)?;
        tensor.finish_shaped(shape)
    }

    /// Reads one value that lies within `depth` arrays of the tensor: 0 for the whole, 1 for a row of it.
    ///
    /// # Errors
    /// `TensorFault`, `Ragged` also where this value does not match the ones read before.
    pub fn read_value(
        &mut self,
        depth: usize,
        reader: &mut Reader<'_>,
        lease: &mut ByteLease,
    ) -> Result<(), TensorFault> {
        if reader.peek()? != Kind::Array {
            return self.read_scalar(depth, reader, lease);
        }
        self.nesting.open(depth)?;
        let mut length = 0;
        reader.array(|reader| {
            let run = self.read_run(depth + 1, reader)?;
            length += run.max(1);
            if run > 0 { Ok(()) } else { self.read_value(depth + 1, reader, lease) }
        })?;
        Ok(self.nesting.close(depth, length)?)
    }

    /// Reads the numbers that come next, as many as are expected and paid for. None where something else comes next.
    fn read_run(&mut self, depth: usize, reader: &mut Reader<'_>) -> Result<usize, TensorFault> {
        if reader.peek()? != Kind::Number {
            return Ok(0);
        }
        self.nesting.scalar(depth)?;
        let expected = self.expected.unwrap_or(usize::MAX).saturating_sub(self.elements);
        let paid = (self.paid - self.data.len()) / self.dtype.size().unwrap_or(4);
        let run = (self.read_run)(reader, &mut self.data, expected.min(paid));
        self.elements += run;
        Ok(run)
    }

    fn read_scalar(&mut self, depth: usize, reader: &mut Reader<'_>, lease: &mut ByteLease) -> Result<(), TensorFault> {
        self.nesting.scalar(depth)?;
        let index = self.elements;
        self.elements += 1;
        if self.expected.is_some_and(|expected| self.elements > expected) {
            // Counting on costs little and makes the error say how many came.
            return Ok(reader.skip_value()?);
        }
        (self.read_element)(reader, &mut self.data).map_err(|fault| TensorFault::Element {
            index,
            dtype: self.dtype,
            fault,
        })?;
        if self.data.len() > self.paid {
            self.make_room(self.data.len() * 2, lease)?;
        }
        Ok(())
    }

    /// The tensor of a known shape, where what was read fills it.
    fn finish_shaped(self, shape: Vec<usize>) -> Result<Tensor, TensorFault> {
        let expected = element_count(&shape);
        if self.elements != expected {
            return Err(TensorError::ElementCount { expected, got: self.elements, shape }.into());
        }
        let nested = self.nesting.shape();
        let flat = nested.len() <= 1;
        if !flat && nested != shape {
            return Err(TensorFault::Nested { nested, shape });
        }
        Ok(Tensor::from_raw(self.dtype, shape, self.data.into())?)
    }

    /// The tensor of the shape that the nesting told.
    ///
    /// # Errors
    /// `TensorFault::Tensor`.
    pub fn finish(self) -> Result<Tensor, TensorFault> {
        let shape = self.nesting.shape();
        Ok(Tensor::from_raw(self.dtype, shape, self.data.into())?)
    }

    /// As `finish`, for a tensor that was read in `rows` values of depth 1.
    ///
    /// # Errors
    /// As `finish`.
    pub fn finish_rows(mut self, rows: usize) -> Result<Tensor, TensorFault> {
        self.nesting.close(0, rows)?;
        self.finish()
    }

    /// Pays for tensor bytes up to `total` before they are allocated.
    fn make_room(&mut self, total: usize, lease: &mut ByteLease) -> Result<(), TensorFault> {
        if total > self.paid {
            lease.grow((total - self.paid) as u64).map_err(TensorFault::Budget)?;
            self.paid = total;
        }
        self.data.reserve_exact(total - self.data.len());
        Ok(())
    }
}

/// The shape as the brackets tell it.
#[derive(Debug, Default)]
struct Nesting {
    /// By depth: the length of the first array there, `None` while that is still open.
    lengths: Vec<Option<usize>>,
    /// Depth at which the values lie, once one was seen.
    value_depth: Option<usize>,
}

impl Nesting {
    fn open(&mut self, depth: usize) -> Result<(), TensorFault> {
        if self.value_depth.is_some_and(|values| depth >= values) {
            return Err(Ragged::Depths.into());
        }
        if depth >= MAX_RANK {
            return Err(TensorFault::TooManyDimensions);
        }
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, None);
        }
        Ok(())
    }

    fn scalar(&mut self, depth: usize) -> Result<(), Ragged> {
        match self.value_depth {
            Some(values) if values == depth => Ok(()),
            None if self.lengths.len() <= depth => {
                self.value_depth = Some(depth);
                Ok(())
            }
            _ => Err(Ragged::Depths),
        }
    }

    fn close(&mut self, depth: usize, length: usize) -> Result<(), Ragged> {
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, None);
        }
        match self.lengths[depth].replace(length) {
            Some(first) if first != length => Err(Ragged::Lengths { depth, first, other: length }),
            _ => Ok(()),
        }
    }

    fn shape(&self) -> Vec<usize> {
        self.lengths.iter().map(|length| length.unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::ByteBudget;

    fn shaped(shape: &[usize], text: &str) -> Result<Tensor, String> {
        let mut lease = ByteBudget::new(1 << 20).lease();
        TensorReader::read_shaped(DataType::Int32, shape.to_vec(), &mut Reader::new(text.as_bytes()), &mut lease)
            .map_err(|fault| fault.of_input("x").to_string())
    }

    fn any_shape(text: &str) -> Result<Vec<usize>, String> {
        let mut lease = ByteBudget::new(1 << 20).lease();
        let mut tensor = TensorReader::of_any_shape(DataType::Int32);
        let read = tensor.read_value(0, &mut Reader::new(text.as_bytes()), &mut lease);
        let tensor = read.and_then(|()| tensor.finish()).map_err(|fault| fault.of_input("x").to_string())?;
        Ok(tensor.shape().to_vec())
    }

    #[test]
    fn data_is_flat_or_nested_as_its_shape() {
        let values: Vec<i32> = shaped(&[2, 2], "[1,2,3,4]").unwrap().elements().collect();
        assert_eq!(values, [1, 2, 3, 4]);
        assert!(shaped(&[2, 2], "[[1,2],[3,4]]").is_ok());
        assert!(shaped(&[], "7").is_ok());
        assert!(shaped(&[1, 1], "[7]").is_ok());
        assert!(shaped(&[0, 4], "[]").is_ok());
        assert!(shaped(&[2, 0], "[[],[]]").is_ok());
        let err = shaped(&[4, 1], "[[1,2],[3,4]]").unwrap_err();
        assert_eq!(err, "input 'x': data is nested as [2,2], expected it flat or nested as its shape [4,1]");
    }

    #[test]
    fn a_wrong_count_says_how_many_came() {
        for (text, got) in [("[1,2,3]", 3), ("[1,2,3,4,5]", 5), ("[]", 0)] {
            let err = shaped(&[2, 2], text).unwrap_err();
            assert_eq!(err, format!("input 'x': expected 4 elements for shape [2,2], got {got}"));
        }
        assert!(shaped(&[1 << 40], "[1]").unwrap_err().contains("got 1"));
    }

    #[test]
    fn an_element_out_of_range_is_named() {
        let err = shaped(&[2], "[1,3000000000]").unwrap_err();
        assert_eq!(err, "input 'x': element 1 for INT32: 3000000000 is out of range");
    }

    #[test]
    fn the_nesting_tells_the_shape() {
        assert_eq!(any_shape("7").unwrap(), [0usize; 0]);
        assert_eq!(any_shape("[]").unwrap(), [0]);
        assert_eq!(any_shape("[[],[]]").unwrap(), [2, 0]);
        assert_eq!(any_shape("[[[1],[2]]]").unwrap(), [1, 2, 1]);
    }

    #[test]
    fn ragged_arrays_are_refused() {
        for ragged in ["[[1],[2,3]]", "[[1],2]", "[1,[2]]", "[[],1]", "[[],[1]]", "[[[]],[]]", "[[1],[]]"] {
            assert!(any_shape(ragged).is_err(), "{ragged}");
        }
        let deep = format!("{}{}", "[".repeat(MAX_RANK + 1), "]".repeat(MAX_RANK + 1));
        assert!(any_shape(&deep).is_err());
    }

    #[test]
    fn a_tensor_larger_than_its_text_is_paid_for() {
        let text = format!("[{}0]", "0,".repeat(100_000));
        let mut lease = ByteBudget::new(500_000).lease();
        let mut tensor = TensorReader::of_any_shape(DataType::Int64);
        let fault = tensor.read_value(0, &mut Reader::new(text.as_bytes()), &mut lease).unwrap_err();
        assert!(matches!(fault, TensorFault::Budget(Error::OutOfBudget { .. })));
    }

    /// The shape, the data and what they cost, or the error; with runs or element by element.
    fn outcome(
        dtype: DataType,
        text: &str,
        shape: Option<&[usize]>,
        runs: bool,
    ) -> Result<(Vec<usize>, Vec<u8>, u64), String> {
        let budget = ByteBudget::new(1 << 20);
        let mut lease = budget.lease();
        let mut reader = Reader::new(text.as_bytes());
        let mut tensor = TensorReader::of_any_shape(dtype);
        tensor.expected = shape.map(element_count);
        // So that what is paid for ends within a run.
        tensor.paid = 20;
        if !runs {
            tensor.read_run = |_, _, _| 0;
        }
        let read = tensor.read_value(0, &mut reader, &mut lease).and_then(|()| Ok(reader.finish()?));
        let tensor = read.and_then(|()| match shape {
            Some(shape) => tensor.finish_shaped(shape.to_vec()),
            None => tensor.finish(),
        });
        let tensor = tensor.map_err(|fault| fault.of_input("x").to_string())?;
        Ok((tensor.shape().to_vec(), tensor.data().to_vec(), budget.in_use()))
    }

    /// Mostly numbers, now and then anything else that may stand in an array.
    fn element() -> impl Strategy<Value = String> {
        let odd = [
            "NaN",
            "-Infinity",
            "01",
            "1.",
            "1e39",
            "1e-50",
            "65520",
            "18446744073709551615",
            "9223372036854775808",
            "0.123456789012345678901234",
            "true",
            "null",
            "\"a\"",
            "[]",
            "[1]",
            "",
        ];
        prop_oneof![
            10 => "(0|-0|1|12|-3|100)",
            5 => r"-?[0-9]\.[0-9]{1,17}",
            1 => proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn runs_change_neither_values_nor_costs_nor_errors(
            dtype in proptest::sample::select(DataType::ALL.to_vec()),
            rows in proptest::collection::vec(proptest::collection::vec(element(), 2..4), 1..4),
            nested in any::<bool>(),
            separator in proptest::sample::select(vec![",", ", ", " ,\n", ",", ";"]),
            shape in proptest::sample::select(vec![None, Some(vec![4]), Some(vec![2, 2]), Some(vec![6]), Some(vec![2, 3])]),
        ) {
            let rows: Vec<String> = rows.iter().map(|row| row.join(separator)).collect();
            let text = if nested { format!("[[{}]]", rows.join("],[")) } else { format!("[{}]", rows.join(",")) };
            prop_assert_eq!(outcome(dtype, &text, shape.as_deref(), true), outcome(dtype, &text, shape.as_deref(), false));
        }
    }
}
