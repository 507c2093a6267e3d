//! How long labels take: the share of predictions whose label came within an hour, a day and a week.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The times that are shown, in seconds, and their words.
const WITHIN: [(&str, i64); 3] = [("1h", 3600), ("1d", 24 * 3600), ("7d", 7 * 24 * 3600)];
/// Predictions that are younger than a time are held by spans of its 32nd part, so that they begin to count when they are
/// that old, at most one span later.
const SPANS: i64 = 32;

/// One version's curve in one arm.
#[derive(Debug, Default)]
pub struct Delays([Curve; WITHIN.len()]);

#[derive(Debug, Default)]
struct Curve {
    /// Predictions that are as old as the time.
    old: Count,
    /// The others, by span; at most [`SPANS`] and the one that begins.
    young: BTreeMap<i64, Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    predictions: u64,
    in_time: u64,
}

/// Within which of the times a prediction's label has come, a bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CameWithin(u8);

/// The share of predictions whose label came within a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelDelay {
    /// `1h`, `1d` or `7d`.
    pub within: String,
    /// Predictions that are at least so old.
    pub predictions: u64,
    /// Of these, whose label came in that time; `None` where there are none.
    pub share: Option<f64>,
}

impl Delays {
    /// A prediction was answered then; Unix time in µs, as all times here.
    pub fn answered(&mut self, at_us: i64) {
        for (curve, (_, within_s)) in self.0.iter_mut().zip(WITHIN) {
            curve.young.entry(span(at_us, within_s)).or_default().predictions += 1;
        }
    }

    /// Its label has come. May be told again, and of an earlier time: the shortest counts.
    pub fn labelled(&mut self, at_us: i64, came_us: i64, came: &mut CameWithin) {
        for (bit, (curve, (_, within_s))) in self.0.iter_mut().zip(WITHIN).enumerate() {
            if came.0 & 1 << bit == 0 && came_us.saturating_sub(at_us) <= within_s * 1_000_000 {
                came.0 |= 1 << bit;
                curve.young.get_mut(&span(at_us, within_s)).unwrap_or(&mut curve.old).in_time += 1;
            }
        }
    }

    /// It is not held any more: whether its label will come in time will never be known.
    pub fn forget(&mut self, at_us: i64, came: CameWithin) {
        for (bit, (curve, (_, within_s))) in self.0.iter_mut().zip(WITHIN).enumerate() {
            if came.0 & 1 << bit == 0
                && let Some(count) = curve.young.get_mut(&span(at_us, within_s))
            {
                count.predictions = count.predictions.saturating_sub(1);
            }
        }
    }

    /// Time passes.
    pub fn pass(&mut self, now_us: i64) {
        for (curve, (_, within_s)) in self.0.iter_mut().zip(WITHIN) {
            while let Some(entry) = curve.young.first_entry()
                && now_us.saturating_sub(within_s * 1_000_000) >= end_us(*entry.key(), within_s)
            {
                let count = entry.remove();
                curve.old.predictions += count.predictions;
                curve.old.in_time += count.in_time;
            }
        }
    }

    pub fn report(&self) -> Vec<LabelDelay> {
        let of = |(curve, (word, _)): (&Curve, (&str, i64))| {
            let Count { predictions, in_time } = curve.old;
            let share = (predictions > 0).then(|| in_time as f64 / predictions as f64);
            LabelDelay { within: word.to_owned(), predictions, share }
        };
        self.0.iter().zip(WITHIN).map(of).collect()
    }
}

fn span_us(within_s: i64) -> i64 {
    within_s * 1_000_000 / SPANS
}

fn span(at_us: i64, within_s: i64) -> i64 {
    at_us.div_euclid(span_us(within_s))
}

fn end_us(span: i64, within_s: i64) -> i64 {
    span.saturating_add(1).saturating_mul(span_us(within_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * 1_000_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn shown(delays: &Delays) -> Vec<(u64, Option<f64>)> {
        delays.report().into_iter().map(|of| (of.predictions, of.share)).collect()
    }

    #[test]
    fn a_share_is_that_of_predictions_which_are_old_enough() {
        let mut delays = Delays::default();
        // Labels after half an hour, half a day, three days and never.
        let came_us = [Some(HOUR / 2), Some(DAY / 2), Some(3 * DAY), None];
        for came_us in came_us {
            delays.answered(0);
            if let Some(came_us) = came_us {
                delays.labelled(0, came_us, &mut CameWithin::default());
            }
        }
        delays.pass(HOUR - 1);
        assert_eq!(shown(&delays), [(0, None); 3]);
        delays.pass(HOUR + 2 * MINUTE);
        assert_eq!(shown(&delays), [(4, Some(0.25)), (0, None), (0, None)]);
        delays.answered(HOUR);
        delays.pass(8 * DAY);
        assert_eq!(shown(&delays), [(5, Some(0.2)), (5, Some(0.4)), (5, Some(0.6))]);
    }

    #[test]
    fn the_shortest_delay_counts_once_whenever_it_is_told() {
        let mut delays = Delays::default();
        delays.answered(0);
        delays.pass(8 * DAY);
        let mut came = CameWithin::default();
        delays.labelled(0, 2 * DAY, &mut came);
        assert_eq!(shown(&delays), [(1, Some(0.0)), (1, Some(0.0)), (1, Some(1.0))]);
        (0..2).for_each(|_| delays.labelled(0, HOUR, &mut came));
        delays.labelled(0, 9 * DAY, &mut came);
        assert_eq!(shown(&delays), [(1, Some(1.0)); 3]);
    }

    #[test]
    fn what_is_forgotten_too_early_to_know_is_left_out() {
        let mut delays = Delays::default();
        (0..2).for_each(|_| delays.answered(0));
        let mut came = CameWithin::default();
        delays.labelled(0, MINUTE, &mut came);
        delays.pass(2 * HOUR);
        delays.forget(0, came);
        delays.forget(0, CameWithin::default());
        delays.pass(8 * DAY);
        assert_eq!(shown(&delays), [(2, Some(0.5)), (1, Some(1.0)), (1, Some(1.0))], "the hour was over");
    }

    #[test]
    fn spans_do_not_pile_up() {
        let mut delays = Delays::default();
        for minute in 0..20_000 {
            delays.answered(minute * MINUTE);
            delays.pass(minute * MINUTE);
            assert!(delays.0.iter().all(|curve| curve.young.len() <= SPANS as usize + 2));
        }
    }
}
