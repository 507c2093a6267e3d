//! What becomes of values before they reach the disk.

use std::fmt::{self, Write as _};

use crate::hmac::{hex, hmac_sha256};
use crate::tensor::{DataType, Element};

/// A number to so many decimals, halves away from zero; negative decimals round to tens, hundreds and so on. A number that
/// is too large to have such decimals stays as it is, as do those that are not finite.
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals.abs());
    let rounded = if decimals >= 0 { (value * scale).round() / scale } else { (value / scale).round() * scale };
    // Adding zero takes the sign off a zero, which would tell that of the number.
    if rounded.is_finite() { rounded + 0.0 } else { value }
}

/// A whole number to tens, hundreds and so on by negative decimals, halves away from zero.
pub fn rounded_integer(value: i128, decimals: i32) -> i128 {
    // Beyond 10^38 nothing is left of any number here.
    let Some(unit) = 10i128.checked_pow(decimals.min(0).unsigned_abs()) else { return 0 };
    (value + value.signum() * (unit / 2)) / unit * unit
}

/// A text with `*` for all but its last `keep_last` characters, appended to `out`.
pub fn mask(text: &str, keep_last: usize, out: &mut String) {
    let hidden = text.chars().count().saturating_sub(keep_last);
    out.extend(std::iter::repeat_n('*', hidden));
    out.extend(text.chars().skip(hidden));
}

/// HMAC-SHA256 of a value under the log's key, in hexadecimal.
pub fn hmac_text(key: &[u8], value: &[u8]) -> String {
    hex(&hmac_sha256(key, &[value]))
}

/// One number or truth as text, appended to `out`: whole numbers in decimal, floats as the shortest text that reads back
/// the same. `raw` is the element as a tensor holds it; nothing is appended for BYTES.
pub fn number_text(dtype: DataType, raw: &[u8], out: &mut String) {
    // Writing to a String can't fail.
    let mut float = |number: &dyn fmt::Display| _ = write!(out, "{number}");
    let mut buffer = itoa::Buffer::new();
    let text = match dtype {
        DataType::Bool if raw == [0] => "false",
        DataType::Bool => "true",
        DataType::Int8 => buffer.format(i8::read_le(raw)),
        DataType::Int16 => buffer.format(i16::read_le(raw)),
        DataType::Int32 => buffer.format(i32::read_le(raw)),
        DataType::Int64 => buffer.format(i64::read_le(raw)),
        DataType::Uint8 => buffer.format(u8::read_le(raw)),
        DataType::Uint16 => buffer.format(u16::read_le(raw)),
        DataType::Uint32 => buffer.format(u32::read_le(raw)),
        DataType::Uint64 => buffer.format(u64::read_le(raw)),
        DataType::Fp16 => return float(&half::f16::read_le(raw)),
        DataType::Bf16 => return float(&half::bf16::read_le(raw)),
        DataType::Fp32 => return float(&f32::read_le(raw)),
        DataType::Fp64 => return float(&f64::read_le(raw)),
        DataType::Bytes => return,
    };
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_decimals_and_to_tens() {
        for (value, decimals, expected) in [
            (1.234, 2, 1.23),
            (1.235_1, 2, 1.24),
            (-1.5, 0, -2.0),
            (149.0, -2, 100.0),
            (150.0, -2, 200.0),
            (1e300, 15, 1e300),
        ] {
            assert_eq!(rounded(value, decimals), expected, "{value} to {decimals}");
        }
        assert!(rounded(f64::NAN, 2).is_nan());
        assert_eq!(rounded(f64::INFINITY, 2), f64::INFINITY);
        assert!(rounded(-0.01, 0).is_sign_positive(), "a zero's sign says nothing");
    }

    #[test]
    fn whole_numbers_are_rounded_to_tens() {
        for (value, decimals, expected) in [
            (14, -1, 10),
            (15, -1, 20),
            (-15, -1, -20),
            (7, 0, 7),
            (7, 2, 7),
            (99, -3, 0),
            (i128::from(u64::MAX), -15, 18_447_000_000_000_000_000),
        ] {
            assert_eq!(rounded_integer(value, decimals), expected, "{value} to {decimals}");
        }
        assert_eq!(rounded_integer(i128::from(i64::MAX), -100), 0);
    }

    #[test]
    fn a_mask_counts_characters_not_bytes() {
        let masked = |text: &str, keep_last| {
            let mut out = String::new();
            mask(text, keep_last, &mut out);
            out
        };
        assert_eq!(masked("4111111111111234", 4), "************1234");
        assert_eq!(masked("Zoë", 1), "**ë");
        assert_eq!(masked("ab", 4), "ab");
        assert_eq!(masked("ab", 0), "**");
    }

    /// The expected value was computed with Python's `hmac`.
    #[test]
    fn equal_values_have_equal_hashes_under_one_key() {
        let hash = hmac_text(b"key", b"The quick brown fox jumps over the lazy dog");
        assert_eq!(hash, "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
        assert_ne!(hmac_text(b"kez", b"a"), hmac_text(b"key", b"a"));
    }

    #[test]
    fn numbers_have_one_text() {
        let text = |dtype, raw: &[u8]| {
            let mut out = String::new();
            number_text(dtype, raw, &mut out);
            out
        };
        assert_eq!(text(DataType::Int64, &(-7i64).to_le_bytes()), "-7");
        assert_eq!(text(DataType::Uint8, &[200]), "200");
        assert_eq!(text(DataType::Fp32, &0.1f32.to_le_bytes()), "0.1");
        assert_eq!(text(DataType::Fp16, &half::f16::from_f32(1.5).to_le_bytes()), "1.5");
        assert_eq!(text(DataType::Bool, &[1]), "true");
    }
}
