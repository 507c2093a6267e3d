//! Ends a storm of bad answers from the request's path: no controller, no disk and no lock stands in between.
//!
//! Each side of a split has a window over its last answers, a word of bits in one atomic. The decision is a function
//! over two such words.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::arm::Arm;

/// Bad answers among the candidate's last [`WINDOW`] that make a storm.
pub const STORM: u32 = 16;
/// Answers that a side remembers.
pub const WINDOW: u32 = 32;

/// Why the path took the candidate's share away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    pub cause: TripCause,
}

/// What the storm was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TripCause {
    /// Answers that were not finite, or out of range.
    InvalidOutputs,
    /// Runs that failed or panicked.
    ModelFailures,
}

impl TripCause {
    const ALL: [Self; 2] = [Self::InvalidOutputs, Self::ModelFailures];

    /// The word in journals and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidOutputs => "invalid_outputs",
            Self::ModelFailures => "model_failures",
        }
    }
}

/// The breaker of one split. Once it has tripped it stays so.
#[derive(Debug, Default)]
pub struct Breaker {
    /// By cause: the candidate's window and that of everybody else.
    candidate: [AtomicU64; 2],
    others: [AtomicU64; 2],
    /// 0, or the position of the cause plus 1.
    tripped: AtomicU8,
}

impl Breaker {
    /// Takes note of one answer: whether its outputs were `invalid`, or the run `failed`. Gives the trip if this answer
    /// was the one too many.
    pub fn note(&self, arm: Arm, invalid: bool, failed: bool) -> Option<Trip> {
        let windows = match arm {
            Arm::Candidate => &self.candidate,
            Arm::Stable | Arm::Control => &self.others,
            // Nobody waits for a copy's answer.
            Arm::Shadow => return None,
        };
        for (window, bad) in windows.iter().zip([invalid, failed]) {
            let pushed = |window: u64| Some(Window(window).pushed(bad).0);
            // Never refuses, so there is no failure to look at.
            let _ = window.fetch_update(Ordering::AcqRel, Ordering::Acquire, pushed);
        }
        if arm != Arm::Candidate || !(invalid || failed) || self.tripped().is_some() {
            return None;
        }
        let read = |window: &AtomicU64| Window(window.load(Ordering::Acquire));
        let storm = (0..)
            .zip(TripCause::ALL)
            .find(|(at, _): &(usize, TripCause)| is_storm(read(&self.candidate[*at]), read(&self.others[*at])));
        let (at, cause) = storm?;
        self.tripped.store(at as u8 + 1, Ordering::Release);
        Some(Trip { cause })
    }

    pub fn tripped(&self) -> Option<Trip> {
        let at = usize::from(self.tripped.load(Ordering::Acquire)).checked_sub(1)?;
        Some(Trip { cause: *TripCause::ALL.get(at)? })
    }
}

/// The last answers of one side: a bit each, set for a bad one, and above them how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Window(u64);

impl Window {
    fn pushed(self, bad: bool) -> Self {
        let bits = (self.0 as u32) << 1 | u32::from(bad);
        let length = (self.length() + 1).min(WINDOW);
        Self(u64::from(length) << 32 | u64::from(bits))
    }

    fn length(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn bad(self) -> u32 {
        (self.0 as u32).count_ones()
    }
}

/// Whether the candidate is in a storm that the other side is not in: at least [`STORM`] bad answers, and the others'
/// share of them below half of the candidate's.
fn is_storm(candidate: Window, others: Window) -> bool {
    // others.bad / others.length < candidate.bad / candidate.length / 2, without divisions
    let others_share = 2 * others.bad() * candidate.length();
    let candidate_share = candidate.bad() * others.length().max(1);
    candidate.bad() >= STORM && others_share < candidate_share
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a breaker says to answers written as letters: `c` and `C` of the candidate, `s` and `S` of stable, capitals
    /// for invalid ones; `F` a failed run of the candidate. Gives the answer's number at the trip.
    fn trip_at(answers: &str) -> Option<(usize, TripCause)> {
        let breaker = Breaker::default();
        answers.chars().enumerate().find_map(|(at, letter)| {
            let arm = if matches!(letter, 's' | 'S') { Arm::Stable } else { Arm::Candidate };
            let trip = breaker.note(arm, matches!(letter, 'C' | 'S'), letter == 'F')?;
            assert_eq!(breaker.tripped(), Some(trip));
            Some((at + 1, trip.cause))
        })
    }

    #[test]
    fn a_storm_trips_and_what_is_no_storm_does_not() {
        let (invalid, failures) = (TripCause::InvalidOutputs, TripCause::ModelFailures);
        for (name, answers, expected) in [
            ("an invalid answer each time", "C".repeat(40), Some((16, invalid))),
            ("a failure each time", "F".repeat(40), Some((16, failures))),
            ("beside a healthy stable", "sC".repeat(40), Some((32, invalid))),
            ("every second answer", "Cc".repeat(40), Some((31, invalid))),
            ("after a healthy time", "c".repeat(100) + &"C".repeat(40), Some((116, invalid))),
            ("stable as bad", "SC".repeat(200), None),
            ("stable half as bad", "SsCC".repeat(200), None),
            ("stable a third as bad", "SssCCC".repeat(20), Some((34, invalid))),
            ("scattered", "ccC".repeat(400), None),
            ("fifteen and no more", "C".repeat(15) + &"c".repeat(100), None),
            ("a mixture below the line of each", "CFcc".repeat(100), None),
            ("only stable", "S".repeat(100), None),
            ("nothing", String::new(), None),
        ] {
            assert_eq!(trip_at(&answers), expected, "{name}");
        }
    }

    #[test]
    fn copies_count_for_nobody_and_a_trip_is_told_once() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert_eq!(breaker.note(Arm::Shadow, true, true), None);
        }
        let trips = (0..100).filter(|_| breaker.note(Arm::Candidate, true, false).is_some()).count();
        assert_eq!((trips, breaker.tripped()), (1, Some(Trip { cause: TripCause::InvalidOutputs })));
    }
}
