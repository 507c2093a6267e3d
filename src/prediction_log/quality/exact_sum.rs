//! A sum from which can be taken away what was added.

use std::collections::BTreeMap;

/// Bits of the exponent that one slot spans.
const SLOT_BITS: i32 = 32;
/// Bits of a double's mantissa, the hidden one among them.
const MANTISSA_BITS: i32 = 53;
/// Exponent of the last bit of the smallest doubles.
const LEAST_EXPONENT: i32 = -1074;

/// The exact sum of doubles: the same in whatever order they come, and nothing after each was taken away again, which
/// a sum of doubles is not.
///
/// After R. Neal, *Fast exact summation using small and large superaccumulators* (arXiv 1505.05571): a double is an
/// integer of 53 bits times a power of two, and integers whose powers lie within 32 bits of each other are added in one
/// 128-bit slot. A slot has room for 2^42 of them. Terms of like size share two or three slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExactSum {
    /// By the exponent divided by 32; never 0.
    slots: BTreeMap<i32, i128>,
}

impl ExactSum {
    /// Adds a finite number; any other is left out.
    pub fn add(&mut self, term: f64) {
        self.change(term, 1);
    }

    /// Takes away a number that was added.
    pub fn subtract(&mut self, term: f64) {
        self.change(term, -1);
    }

    fn change(&mut self, term: f64, sign: i128) {
        let Some((mantissa, exponent)) = parts(term) else { return };
        let at = exponent.div_euclid(SLOT_BITS);
        let slot = self.slots.entry(at).or_default();
        *slot += sign * (mantissa << exponent.rem_euclid(SLOT_BITS));
        if *slot == 0 {
            self.slots.remove(&at);
        }
    }

    /// The sum, right to about 1 part in 10^15 of its largest slot.
    pub fn value(&self) -> f64 {
        // In two steps: the whole power may be smaller than any double.
        let half = |at: i32| 2f64.powi(at * SLOT_BITS / 2);
        let scaled = |(at, slot): (&i32, &i128)| *slot as f64 * half(*at) * half(*at);
        self.slots.iter().rev().map(scaled).sum()
    }
}

/// A finite number as an integer times a power of two; `None` for 0 and for what is not finite.
fn parts(number: f64) -> Option<(i128, i32)> {
    if !number.is_finite() || number == 0.0 {
        return None;
    }
    let bits = number.to_bits();
    let exponent = ((bits >> (MANTISSA_BITS - 1)) & 0x7ff) as i32;
    let fraction = i128::from(bits & ((1 << (MANTISSA_BITS - 1)) - 1));
    let (mantissa, exponent) = match exponent {
        0 => (fraction, LEAST_EXPONENT),
        exponent => (fraction | 1 << (MANTISSA_BITS - 1), exponent - 1 + LEAST_EXPONENT),
    };
    Some((if number < 0.0 { -mantissa } else { mantissa }, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(terms: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        terms.iter().for_each(|term| sum.add(*term));
        sum
    }

    #[test]
    fn small_terms_are_not_lost_beside_large_ones() {
        let mut of_all = sum(&[1e16, 1.0, -1e16, 1e-300]);
        of_all.subtract(1e-300);
        assert_eq!(of_all.value(), 1.0);
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[f64::NAN, f64::INFINITY, 0.0]), ExactSum::default());
        assert_eq!(sum(&[f64::MIN_POSITIVE / 4.0, f64::MAX]).value(), f64::MAX);
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_and_what_was_added_can_be_taken_away(
            terms in prop::collection::vec(prop::num::f64::ANY, 1..40),
            turn in any::<prop::sample::Index>(),
        ) {
            let mut turned = terms.clone();
            turned.rotate_left(turn.index(terms.len()));
            turned.reverse();
            let mut of_all = sum(&terms);
            prop_assert_eq!(&sum(&turned), &of_all);
            terms.iter().for_each(|term| of_all.subtract(*term));
            prop_assert_eq!(of_all, ExactSum::default());
        }

        #[test]
        fn one_term_is_its_own_sum(term in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL) {
            prop_assert_eq!(sum(&[term]).value(), term);
        }
    }
}
