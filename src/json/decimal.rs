//! Decimal digits -> numbers, eight digits at a time.
//!
//! What is read here is right or it is not read: a number whose value these short ways can't prove is left to
//! `str::parse`, which is slower and always right.

/// Powers of ten that are f64 without rounding.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Powers of ten that shift the digits of one word.
const SHIFTS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Whole numbers up to this one are f64 without rounding.
const LAST_EXACT_WHOLE: u64 = 1 << 53;

/// A finite number of JSON: `±digits · 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Below 2^63.
    digits: u64,
    exponent: i32,
    /// Neither a fraction nor an exponent was written.
    whole: bool,
}

impl Decimal {
    /// Reads the number at `at`, and where it ends. `None` where there is none, or one with more digits than fit.
    #[inline]
    pub fn read(text: &[u8], at: usize) -> Option<(Self, usize)> {
        let negative = *text.get(at)? == b'-';
        let start = at + usize::from(negative);
        let (mut digits, mut at) = whole_part(text, start)?;
        let mut exponent = 0;
        let end_of_whole = at;
        if text.get(at) == Some(&b'.') {
            let (fraction, end) = more_digits(text, at + 1, digits)?;
            exponent = -i32::try_from(end - (at + 1)).ok().filter(|&places| places > 0)?;
            (digits, at) = (fraction, end);
        }
        if matches!(text.get(at), Some(b'e' | b'E')) {
            let (power, end) = power(text, at + 1)?;
            (exponent, at) = (exponent + power, end);
        }
        let decimal = Self { negative, digits, exponent, whole: at == end_of_whole };
        (digits < 1 << 63).then_some((decimal, at))
    }

    /// The whole number, as it was written: `None` for `1.0` and `1e0`.
    #[inline]
    pub fn whole(self) -> Option<i64> {
        let value = self.digits as i64;
        self.whole.then_some(if self.negative { -value } else { value })
    }

    /// The nearest f64, where one rounding gives it: exact digits by an exact power of ten.
    ///
    /// W. D. Clinger, "How to Read Floating Point Numbers Accurately", PLDI 1990.
    #[inline]
    pub fn to_f64(self) -> Option<f64> {
        let value = self.scaled().filter(|_| self.digits <= LAST_EXACT_WHOLE)?;
        Some(if self.negative { -value } else { value })
    }

    /// The nearest f32, where an f64 near the number shows which one it is.
    ///
    /// The f64 was rounded at most twice, by 2^-53 of the number each time; together that is at most two units of its
    /// last place. Only where half-way between two f32 values lies that near may the number and the f64 round to
    /// different ones.
    #[inline]
    pub fn to_f32(self) -> Option<f32> {
        /// The bits of an f64 that an f32 has no room for, and their value half-way between two f32.
        const DROPPED: u64 = (1 << 29) - 1;
        const HALF_WAY: u64 = 1 << 28;
        const NEAR: u64 = 4;
        let value = self.scaled()?;
        let beside_half_way = (value.to_bits() & DROPPED).wrapping_sub(HALF_WAY - NEAR) > 2 * NEAR;
        // Digits of 1 or more by 10^-22 or more are never a subnormal f32, which would drop more bits.
        (beside_half_way && value <= f64::from(f32::MAX)).then_some(if self.negative { -value } else { value } as f32)
    }

    /// `digits · 10^exponent`: the digits rounded to f64, then the product.
    #[inline]
    fn scaled(self) -> Option<f64> {
        let digits = self.digits as i64 as f64;
        let power = *EXACT_POWERS.get(self.exponent.unsigned_abs() as usize)?;
        Some(if self.exponent < 0 { digits / power } else { digits * power })
    }
}

/// The digits before the point: `0`, or some that don't begin with one.
#[inline]
fn whole_part(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = text.get(at)?.wrapping_sub(b'0');
    let second = text.get(at + 1).map_or(u8::MAX, |byte| byte.wrapping_sub(b'0'));
    if first > 9 || (first == 0 && second <= 9) {
        return None;
    }
    // Fractions below ten are what most tensors hold. A branch that is foreseen lets the next number start early.
    if second > 9 { Some((u64::from(first), at + 1)) } else { more_digits(text, at, 0) }
}

/// Appends the digits at `at` to `digits`.
#[inline]
fn more_digits(text: &[u8], mut at: usize, mut digits: u64) -> Option<(u64, usize)> {
    loop {
        let (count, value) = leading_digits(word_at(text, at));
        digits = digits.checked_mul(SHIFTS[count])?.checked_add(value)?;
        at += count;
        if count < SHIFTS.len() - 1 {
            return Some((digits, at));
        }
    }
}

/// The power of ten behind an `e`, of at most four digits.
#[inline]
fn power(text: &[u8], at: usize) -> Option<(i32, usize)> {
    let negative = text.get(at) == Some(&b'-');
    let at = at + usize::from(matches!(text.get(at), Some(b'+' | b'-')));
    let (count, value) = leading_digits(word_at(text, at));
    let power = i32::try_from(value).ok().filter(|_| (1..=4).contains(&count))?;
    Some((if negative { -power } else { power }, at + count))
}

/// Eight bytes of the text, the first in the lowest place; zeros, which are no digits, beyond its end.
#[inline]
fn word_at(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => last_word(text, at),
    }
}

#[cold]
fn last_word(text: &[u8], at: usize) -> u64 {
    text.iter().skip(at).take(8).rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// How many of the word's eight bytes are digits up to the first that is none, and the number that they are.
///
/// The bytes are added up as pairs, then fours, then all eight: D. Lemire, "Number Parsing at a Gigabyte per Second",
/// 2021, section 7.
#[inline]
fn leading_digits(word: u64) -> (usize, u64) {
    const PAIR: u64 = 0x0000_00ff_0000_00ff;
    let values = word ^ 0x3030_3030_3030_3030;
    // The high bit of a byte is set from ten on. A byte that overflows into the next is itself no digit.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() / 8;
    // Digits move to the end of the word, and zeros lead them.
    let digits = values.unbounded_shl(64 - 8 * count);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let high = (pairs & PAIR).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & PAIR).wrapping_mul(1 + (10_000 << 32));
    (count as usize, high.wrapping_add(low) >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Option<Decimal> {
        Decimal::read(text.as_bytes(), 0).map(|(decimal, end)| {
            assert_eq!(end, text.len(), "{text}");
            decimal
        })
    }

    /// What the short ways read, they read as `str::parse` does, to the bit.
    fn agrees(text: &str) {
        let Some(decimal) = decimal(text) else { return };
        if let Some(value) = decimal.to_f32() {
            assert_eq!(value.to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text} as f32");
        }
        if let Some(value) = decimal.to_f64() {
            assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text} as f64");
        }
        if let Some(value) = decimal.whole() {
            assert_eq!(Ok(value), text.parse::<i64>(), "{text} as a whole number");
        }
    }

    #[test]
    fn the_numbers_of_most_tensors_take_the_short_way() {
        for text in ["0.123456", "-0.5", "12.75", "0", "-0", "-0.0", "3e4", "1.5E-7", "0.12345678806304932", "1e-10"] {
            assert!(decimal(text).and_then(Decimal::to_f32).is_some(), "{text}");
            agrees(text);
        }
        for text in ["0.123456", "-0.5", "255", "0.1234567890123456", "1e22", "-0"] {
            assert!(decimal(text).and_then(Decimal::to_f64).is_some(), "{text}");
            agrees(text);
        }
        for (text, value) in [("-0", 0), ("255", 255), ("-9223372036854775807", -i64::MAX)] {
            assert_eq!(decimal(text).and_then(Decimal::whole), Some(value));
        }
    }

    #[test]
    fn what_is_no_number_of_json_is_not_read() {
        for text in ["", "-", "+1", ".5", "1.", "-.5", "01", "-00", "1e", "1e+", "1.e5", "NaN", "-Infinity", "a"] {
            assert_eq!(Decimal::read(text.as_bytes(), 0), None, "{text}");
        }
        for (text, end) in [("1,2", 1), ("12345678,", 8), ("1.5x", 3), ("1e5e5", 3), ("1.2.3", 3), ("0]", 1)] {
            assert_eq!(Decimal::read(text.as_bytes(), 0).map(|(_, end)| end), Some(end), "{text}");
        }
        assert_eq!(decimal("1.0").and_then(Decimal::whole), None);
        assert_eq!(decimal("1e0").and_then(Decimal::whole), None);
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        for text in ["9223372036854775808", "-9223372036854775808", "0.12345678901234567890123", "1e12345"] {
            assert_eq!(Decimal::read(text.as_bytes(), 0), None, "{text}");
        }
        for text in ["1e39", "3.5e38", "1e-45", "16777217", "1.00000005960464477539"] {
            assert_eq!(decimal(text).and_then(Decimal::to_f32), None, "{text}");
        }
        for text in ["9007199254740993", "1e23", "1e-23", "1e309"] {
            assert_eq!(decimal(text).and_then(Decimal::to_f64), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_decimal_is_read_as_str_parse_reads_it(
            text in r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,3})?",
        ) {
            agrees(&text);
        }

        #[test]
        fn short_decimals_are_read_as_str_parse_reads_them(text in r"-?[0-9](\.[0-9]{1,9})?(e-?[0-9])?") {
            agrees(&text);
        }

        #[test]
        fn every_float_reads_back(bits in any::<u64>()) {
            let (double, single) = (f64::from_bits(bits), f32::from_bits(bits as u32));
            for text in [format!("{double}"), format!("{double:e}"), format!("{single}"), format!("{single:e}")] {
                agrees(&text);
            }
            // The range of weights, pixels and probabilities.
            let near_one = f64::from_bits(bits >> 12 | 1023 << 52) - 1.5;
            for text in [format!("{near_one}"), format!("{}", near_one as f32), format!("{near_one:.6}")] {
                agrees(&text);
            }
        }

        #[test]
        fn half_way_between_two_f32(high in any::<u32>(), exponent in 953u64..1150, off in -9i64..10, tail in 0u64..1000) {
            // An f64 in the range of f32, a few units of its last place from half-way.
            let half_way = exponent << 52 | u64::from(high >> 9) << 29 | 1 << 28;
            let near = f64::from_bits(half_way.wrapping_add_signed(off));
            for text in [format!("{near}"), format!("{near:e}"), format!("{near:.12e}"), format!("{near:.18e}")] {
                agrees(&text);
            }
            if near.fract() != 0.0 {
                agrees(&format!("{near}{tail}"));
            }
        }

        #[test]
        fn whole_numbers_half_way_between_two_f32(mantissa in (1u64 << 23)..(1 << 24), shift in 1u32..39, off in -2i64..3) {
            let half_way = (2 * mantissa + 1) << (shift - 1);
            let near = half_way.wrapping_add_signed(off);
            for text in [format!("{near}"), format!("{near}.0"), format!("{near}e-3"), format!("{near}.000001")] {
                agrees(&text);
            }
        }

        #[test]
        fn whole_numbers_of_any_length(text in "-?(0|[1-9][0-9]{0,24})") {
            agrees(&text);
            if let (None, Ok(value)) = (decimal(&text).and_then(Decimal::whole), text.parse::<i64>()) {
                prop_assert_eq!(value, i64::MIN, "the only one that is left to str::parse");
            }
        }
    }
}
