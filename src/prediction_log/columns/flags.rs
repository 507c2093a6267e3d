//! The bits of a row's flags.

use half::{bf16, f16};

use crate::tensor::{DataType, Element};

/// A tensor was too large: its column is null.
pub const TRUNCATED: u32 = 1;
/// A column was redacted.
pub const REDACTED: u32 = 2;
/// An output holds NaN or infinity.
pub const NON_FINITE: u32 = 4;
/// An output lies outside the range that the model's settings declare.
pub const OUT_OF_RANGE: u32 = 8;
/// The disk is nearly full: the tensors' columns are null.
pub const PAYLOAD_DROPPED: u32 = 16;
/// Bytes that are not UTF-8 were replaced in a text.
pub const LOSSY_TEXT: u32 = 32;

/// Whether any of these elements is NaN or infinite. Only floats can be.
pub fn has_non_finite(dtype: DataType, raw: &[u8]) -> bool {
    // A float is not finite if all bits of its exponent are set. Without a way out of the loop it is done many at a time.
    fn any<T: Element>(raw: &[u8], is_bad: impl Fn(T) -> bool) -> bool {
        raw.chunks_exact(size_of::<T>()).fold(false, |bad, element| bad | is_bad(T::read_le(element)))
    }
    match dtype {
        DataType::Fp16 => any(raw, |bits: u16| bits & 0x7c00 == 0x7c00),
        DataType::Bf16 => any(raw, |bits: u16| bits & 0x7f80 == 0x7f80),
        DataType::Fp32 => any(raw, |bits: u32| bits & 0x7f80_0000 == 0x7f80_0000),
        DataType::Fp64 => any(raw, |bits: u64| bits & 0x7ff0_0000_0000_0000 == 0x7ff0_0000_0000_0000),
        _ => false,
    }
}

/// Whether any of these numbers lies outside a range whose ends are part of it. NaN is outside all; truths and texts have
/// no range.
pub fn leaves_range(dtype: DataType, raw: &[u8], (least, most): (f64, f64)) -> bool {
    fn any<T: Element>(raw: &[u8], number: impl Fn(T) -> f64, (least, most): (f64, f64)) -> bool {
        raw.chunks_exact(size_of::<T>()).any(|element| !(least..=most).contains(&number(T::read_le(element))))
    }
    let range = (least, most);
    match dtype {
        DataType::Bool | DataType::Bytes => false,
        DataType::Fp16 => any(raw, f16::to_f64, range),
        DataType::Bf16 => any(raw, bf16::to_f64, range),
        DataType::Fp32 => any(raw, |value: f32| value.into(), range),
        DataType::Fp64 => any(raw, |value: f64| value, range),
        DataType::Int8 => any(raw, |value: i8| value.into(), range),
        DataType::Int16 => any(raw, |value: i16| value.into(), range),
        DataType::Int32 => any(raw, |value: i32| value.into(), range),
        DataType::Int64 => any(raw, |value: i64| value as f64, range),
        DataType::Uint8 => any(raw, |value: u8| value.into(), range),
        DataType::Uint16 => any(raw, |value: u16| value.into(), range),
        DataType::Uint32 => any(raw, |value: u32| value.into(), range),
        DataType::Uint64 => any(raw, |value: u64| value as f64, range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn only_nan_and_infinity_are_not_finite() {
        let raw32 = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        assert!(!has_non_finite(DataType::Fp32, &raw32(&[0.0, f32::MAX, f32::MIN_POSITIVE, -1.0])));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(has_non_finite(DataType::Fp32, &raw32(&[1.0, bad])));
            assert!(has_non_finite(DataType::Fp64, &f64::from(bad).to_le_bytes()));
            assert!(has_non_finite(DataType::Fp16, &f16::from_f32(bad).to_le_bytes()));
            assert!(has_non_finite(DataType::Bf16, &bf16::from_f32(bad).to_le_bytes()));
        }
        assert!(!has_non_finite(DataType::Fp64, &f64::MAX.to_le_bytes()));
        assert!(!has_non_finite(DataType::Int32, &[255; 4]));
    }

    #[test]
    fn ranges_hold_their_ends_for_every_number() {
        for dtype in DataType::ALL {
            let zeros = Tensor::zeros(dtype, vec![2]);
            let has_range = !matches!(dtype, DataType::Bool | DataType::Bytes);
            assert!(!leaves_range(dtype, zeros.data(), (-1.0, 0.0)), "{dtype}");
            assert_eq!(leaves_range(dtype, zeros.data(), (1.0, f64::INFINITY)), has_range, "{dtype}");
        }
        assert!(leaves_range(DataType::Fp32, &f32::NAN.to_le_bytes(), (f64::NEG_INFINITY, f64::INFINITY)));
    }
}
