//! What turned out, and how much it counts.

use super::outcome::Truth;

/// Parts of 1 in which a weight is held: sums of whole numbers are the same in any order, and nothing is left of what was
/// taken away again.
const PARTS: f64 = 1e6;
/// The largest weight that counts as it is.
const MOST: f64 = 1e6;

/// How much a label counts, to a millionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u64);

impl Weight {
    /// Of a label that came without one.
    pub const ONE: Self = Self(PARTS as u64);

    /// Of what was told: to the nearest millionth, at most a million.
    pub fn of(told: Option<f64>) -> Self {
        // NaN and what is negative, which are refused before they get here, become 0.
        told.map_or(Self::ONE, |weight| Self((weight.min(MOST) * PARTS).round() as u64))
    }

    pub fn value(self) -> f64 {
        self.0 as f64 / PARTS
    }

    pub fn parts(self) -> u64 {
        self.0
    }
}

/// A sum of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightSum(u128);

impl WeightSum {
    /// Adds a weight, or takes one away that was added.
    pub fn change(&mut self, weight: Weight, adds: bool) {
        let parts = u128::from(weight.0);
        self.0 = if adds { self.0.saturating_add(parts) } else { self.0.saturating_sub(parts) };
    }

    pub fn value(self) -> f64 {
        self.0 as f64 / PARTS
    }

    /// Its share of another; `None` where that is 0.
    pub fn share_of(self, all: Self) -> Option<f64> {
        (all.0 > 0).then(|| self.0 as f64 / all.0 as f64)
    }
}

/// What turned out of a prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    pub truth: Truth,
    pub weight: Weight,
}

impl From<Truth> for Label {
    /// Of weight 1.
    fn from(truth: Truth) -> Self {
        Self { truth, weight: Weight::ONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_held_to_a_millionth_and_up_to_a_million() {
        let value = |told| Weight::of(Some(told)).value();
        assert_eq!([0.0, 0.25, 1.0, 1e-7, 1e9].map(value), [0.0, 0.25, 1.0, 0.0, 1e6]);
        assert_eq!((Weight::of(None), Weight::of(Some(1.0))), (Weight::ONE, Weight::ONE));
    }
}
