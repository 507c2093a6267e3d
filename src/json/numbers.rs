//! Runs of numbers in an array, read in one loop over its bytes.
//!
//! A run takes what it knows to be right and ends in front of anything else: white space aside, an element that is no
//! plain number of the datatype, or no comma. The reader goes on from there and says what is wrong, if something is.

use super::decimal::Decimal;
use super::reader::{Reader, is_space};
use crate::tensor::{DataType, Element};

/// Reads elements, as many as the last argument allows, at least one of which comes next, and appends their bytes. Says how many they were;
/// the reader is left behind the last one, as it is behind any element of an array.
pub type ReadRun = fn(&mut Reader<'_>, &mut Vec<u8>, usize) -> usize;

/// The reader of a datatype's runs.
pub fn run_of(dtype: DataType) -> ReadRun {
    match dtype {
        DataType::Int8 => |reader, out, limit| run(reader, out, limit, whole::<i8>),
        DataType::Int16 => |reader, out, limit| run(reader, out, limit, whole::<i16>),
        DataType::Int32 => |reader, out, limit| run(reader, out, limit, whole::<i32>),
        DataType::Int64 => |reader, out, limit| run(reader, out, limit, Decimal::whole),
        DataType::Uint8 => |reader, out, limit| run(reader, out, limit, whole::<u8>),
        DataType::Uint16 => |reader, out, limit| run(reader, out, limit, whole::<u16>),
        DataType::Uint32 => |reader, out, limit| run(reader, out, limit, whole::<u32>),
        DataType::Uint64 => |reader, out, limit| run(reader, out, limit, whole::<u64>),
        DataType::Fp16 => |reader, out, limit| run(reader, out, limit, half_float),
        DataType::Bf16 => |reader, out, limit| run(reader, out, limit, brain_float),
        DataType::Fp32 => |reader, out, limit| run(reader, out, limit, Decimal::to_f32),
        DataType::Fp64 => |reader, out, limit| run(reader, out, limit, Decimal::to_f64),
        DataType::Bool | DataType::Bytes => |_, _, _| 0,
    }
}

/// Reads numbers of any kind and forgets them; otherwise as a [`ReadRun`] without a limit.
pub fn skip_run(reader: &mut Reader<'_>) -> usize {
    numbers(reader, usize::MAX, |_| Some(()))
}

#[inline(always)]
fn run<T: Element>(
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
    limit: usize,
    value_of: impl Fn(Decimal) -> Option<T>,
) -> usize {
    numbers(reader, limit, |decimal| value_of(decimal).map(|value| value.write_le(out)))
}

#[inline(always)]
fn numbers(reader: &mut Reader<'_>, limit: usize, mut take: impl FnMut(Decimal) -> Option<()>) -> usize {
    let text = reader.text;
    let mut next = after_space(text, reader.at);
    let mut read = 0;
    while read < limit {
        let Some((decimal, end)) = Decimal::read(text, next) else { break };
        let Some(()) = take(decimal) else { break };
        read += 1;
        reader.at = end;
        let comma = after_space(text, end);
        if text.get(comma) != Some(&b',') {
            break;
        }
        next = after_space(text, comma + 1);
    }
    read
}

#[inline]
fn after_space(text: &[u8], mut at: usize) -> usize {
    while text.get(at).copied().is_some_and(is_space) {
        at += 1;
    }
    at
}

#[inline]
fn whole<T: TryFrom<i64>>(decimal: Decimal) -> Option<T> {
    T::try_from(decimal.whole()?).ok()
}

#[inline]
fn half_float(decimal: Decimal) -> Option<half::f16> {
    decimal.to_f64().map(half::f16::from_f64).filter(|value| value.is_finite())
}

#[inline]
fn brain_float(decimal: Decimal) -> Option<half::bf16> {
    decimal.to_f64().map(half::bf16::from_f64).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(dtype: DataType, text: &str, limit: usize) -> (usize, usize, Vec<u8>) {
        let mut reader = Reader::new(text.as_bytes());
        let mut out = Vec::new();
        let read = run_of(dtype)(&mut reader, &mut out, limit);
        (read, reader.at, out)
    }

    #[test]
    fn a_run_ends_behind_its_last_element() {
        assert_eq!(run(DataType::Uint8, "1,2,3]", 9), (3, 5, vec![1, 2, 3]));
        assert_eq!(run(DataType::Uint8, " 1 ,\n2 ]", 9), (2, 6, vec![1, 2]));
        assert_eq!(run(DataType::Uint8, "1,2,3]", 2), (2, 3, vec![1, 2]));
        assert_eq!(run(DataType::Uint8, "1,2,]", 9), (2, 3, vec![1, 2]));
        assert_eq!(run(DataType::Uint8, "1 2]", 9), (1, 1, vec![1]));
        assert_eq!(run(DataType::Uint8, "1,2", 0), (0, 0, vec![]));
    }

    #[test]
    fn a_run_ends_in_front_of_what_is_no_element_of_the_datatype() {
        for (dtype, text) in [
            (DataType::Int8, "1,128"),
            (DataType::Uint8, "1,-1"),
            (DataType::Int32, "1,1.0"),
            (DataType::Int64, "1,9223372036854775808"),
            (DataType::Uint64, "1,-1"),
            (DataType::Fp16, "1,65520"),
            (DataType::Bf16, "1,3.4e38"),
            (DataType::Fp32, "1,3.5e38"),
            (DataType::Fp32, "1,NaN"),
            (DataType::Fp64, "1,null"),
        ] {
            let (read, at, _) = run(dtype, text, 9);
            assert_eq!((read, at), (1, 1), "{text} as {dtype}");
        }
        assert_eq!(run(DataType::Bool, "1,0", 9).0, 0);
        assert_eq!(run(DataType::Bytes, "1,0", 9).0, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..60), limit in 0usize..20) {
            for dtype in DataType::ALL {
                let mut reader = Reader::new(&text);
                let mut out = Vec::new();
                let read = run_of(dtype)(&mut reader, &mut out, limit);
                prop_assert!(read <= limit && reader.at <= text.len());
            }
        }
    }
}
