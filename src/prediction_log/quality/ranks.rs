//! The area under the ROC curve, from scores in bins.

use super::label::Weight;

/// Bins of the scores' log-odds.
pub const BINS: usize = 1024;
/// Log-odds beyond this share the outermost bins: scores within 1.1e-7 of 0 or 1.
const MOST_LOG_ODDS: f64 = 16.0;

/// How the scores of positives and negatives lie to each other.
///
/// The bins are even in the log-odds, 1/32 wide, so that scores near 0 and near 1, where most of a good model's lie, are
/// still told apart. Within a bin a positive and a negative count as a tie, so the area is off by at most
/// [`Area::error`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranks {
    /// Weights of the negatives and positives of each bin; empty before the first score.
    bins: Vec<[u64; 2]>,
}

/// An area under the ROC curve (the probability that a positive scores above a negative), and how far the true one may
/// be from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub estimate: f64,
    /// Half the share of pairs whose scores fall in the same bin.
    pub error: f64,
}

impl Ranks {
    /// Adds a score from 0 to 1, or takes one away that was added.
    pub fn change(&mut self, score: f64, is_positive: bool, weight: Weight, adds: bool) {
        if self.bins.is_empty() {
            self.bins = vec![[0; 2]; BINS];
        }
        let sum = &mut self.bins[bin(score)][usize::from(is_positive)];
        *sum = if adds { sum.saturating_add(weight.parts()) } else { sum.saturating_sub(weight.parts()) };
        if !adds && self.bins.iter().all(|bin| *bin == [0; 2]) {
            self.bins = vec![];
        }
    }

    /// `None` before there is a positive and a negative.
    pub fn area(&self) -> Option<Area> {
        let (mut below, mut wins, mut ties, mut positives) = (0.0, 0.0, 0.0, 0.0);
        for [negative, positive] in &self.bins {
            let (negative, positive) = (*negative as f64, *positive as f64);
            wins += positive * below;
            ties += positive * negative;
            below += negative;
            positives += positive;
        }
        let pairs = positives * below;
        (pairs > 0.0).then(|| Area { estimate: (wins + ties / 2.0) / pairs, error: ties / 2.0 / pairs })
    }
}

fn bin(score: f64) -> usize {
    let log_odds = (score / (1.0 - score)).ln();
    let place = (log_odds + MOST_LOG_ODDS) / (2.0 * MOST_LOG_ODDS) * BINS as f64;
    // NaN becomes 0, infinities the ends.
    (place as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_that_tells_all_apart_has_an_area_of_one() {
        let mut ranks = Ranks::default();
        for at in 0..50 {
            ranks.change(0.001 * f64::from(at), false, Weight::ONE, true);
            ranks.change(1.0 - 0.001 * f64::from(at), true, Weight::ONE, true);
        }
        assert_eq!(ranks.area(), Some(Area { estimate: 1.0, error: 0.0 }));
    }

    #[test]
    fn scores_of_one_bin_are_ties_and_the_error_says_so() {
        let mut ranks = Ranks::default();
        (0..10).for_each(|at| ranks.change(0.5, at % 2 == 0, Weight::ONE, true));
        assert_eq!(ranks.area(), Some(Area { estimate: 0.5, error: 0.5 }));
    }

    #[test]
    fn one_kind_alone_has_no_area_and_nothing_is_left_of_what_was_taken_away() {
        let mut ranks = Ranks::default();
        ranks.change(0.0, true, Weight::ONE, true);
        ranks.change(1.0, true, Weight::ONE, true);
        assert_eq!(ranks.area(), None);
        ranks.change(0.0, true, Weight::ONE, false);
        ranks.change(1.0, true, Weight::ONE, false);
        assert_eq!(ranks, Ranks::default());
    }

    #[test]
    fn bins_rise_with_the_score() {
        let scores = [0.0, 1e-9, 1e-6, 0.001, 0.1, 0.5, 0.9, 0.999, 1.0 - 1e-6, 1.0];
        let bins = scores.map(bin);
        assert!(bins.is_sorted() && bins[0] == 0 && bins[9] == BINS - 1, "{bins:?}");
    }
}
