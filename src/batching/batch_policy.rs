//! When a batch is cut from what waits, and how many rows it takes.
//!
//! Triton's dynamic batcher under Triton's names: a batch of the largest preferred size that can be formed is cut at
//! once; where none can, or none is preferred, what waits is taken as soon as the oldest has waited for
//! `max_queue_delay`, or the largest batch is full. Without a configuration the delay is zero, so that a batch is what
//! came while the workers were busy.

use std::time::Duration;

/// How batches of a version are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRules {
    /// Most rows of several requests in one run, 1 or more.
    pub cap: usize,
    /// Most rows of one request in one run, `cap` or more: larger requests are torn.
    pub whole: usize,
    /// Ascending, each within `cap`.
    pub preferred: Vec<usize>,
    pub max_queue_delay: Duration,
}

impl BatchRules {
    /// Every row by itself.
    pub fn unbatched() -> Self {
        Self { cap: 1, whole: 1, preferred: vec![], max_queue_delay: Duration::ZERO }
    }
}

/// Rows that may share a run and wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// At least 1.
    pub rows: usize,
    /// How long the oldest of them has waited.
    pub oldest: Duration,
    /// Time until the oldest must begin to meet its deadline.
    pub slack: Option<Duration>,
    /// Whether no more will come: the version is being let go.
    pub closed: bool,
}

/// What to do with the rows that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Run that many, now.
    Cut(usize),
    /// Look again after this time, or when more have come.
    Wait(Duration),
}

/// Decides. `best` says how many of so many rows run best together: a number from 1 to what it is given.
pub fn decide(waiting: Waiting, rules: &BatchRules, best: impl Fn(usize) -> usize) -> Decision {
    let Waiting { rows, oldest, slack, closed } = waiting;
    if let Some(&size) = rules.preferred.iter().rev().find(|&&size| size <= rows) {
        return Decision::Cut(size);
    }
    let delay = rules.max_queue_delay.saturating_sub(oldest).min(slack.unwrap_or(Duration::MAX));
    if rows < rules.cap && !delay.is_zero() && !closed {
        return Decision::Wait(delay);
    }
    Decision::Cut(best(rows.min(rules.cap)).clamp(1, rules.cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    fn rules(cap: usize, preferred: &[usize], delay_us: u32) -> BatchRules {
        BatchRules { cap, whole: cap, preferred: preferred.to_vec(), max_queue_delay: delay_us * US }
    }

    fn waiting(rows: usize, oldest_us: u32) -> Waiting {
        Waiting { rows, oldest: oldest_us * US, slack: None, closed: false }
    }

    #[test]
    fn a_batch_is_cut_as_triton_would() {
        let cases = [
            ("no delay: what waits", rules(8, &[], 0), waiting(3, 0), Decision::Cut(3)),
            ("never more than the cap", rules(8, &[], 0), waiting(20, 0), Decision::Cut(8)),
            ("a delay is waited for", rules(8, &[], 100), waiting(3, 40), Decision::Wait(60 * US)),
            ("and ends", rules(8, &[], 100), waiting(3, 100), Decision::Cut(3)),
            ("a full batch does not wait", rules(8, &[], 100), waiting(8, 0), Decision::Cut(8)),
            ("the largest preferred size at once", rules(8, &[2, 4], 100), waiting(5, 0), Decision::Cut(4)),
            ("none reached: the delay", rules(8, &[4], 100), waiting(3, 0), Decision::Wait(100 * US)),
            ("none reached, delay over: what waits", rules(8, &[4], 100), waiting(3, 200), Decision::Cut(3)),
            ("preferred without a delay", rules(8, &[4], 0), waiting(3, 0), Decision::Cut(3)),
            ("unbatched", BatchRules::unbatched(), waiting(9, 0), Decision::Cut(1)),
        ];
        for (name, rules, waiting, expected) in cases {
            assert_eq!(decide(waiting, &rules, |rows| rows), expected, "{name}");
        }
    }

    #[test]
    fn what_runs_best_together_is_cut_together() {
        let down_to_even = |rows: usize| if rows > 1 { rows / 2 * 2 } else { 1 };
        assert_eq!(decide(waiting(7, 0), &rules(8, &[], 0), down_to_even), Decision::Cut(6));
        assert_eq!(decide(waiting(1, 0), &rules(8, &[], 0), |_| 0), Decision::Cut(1), "at least one row");
    }

    #[test]
    fn a_delay_ends_where_it_would_cost_the_deadline() {
        let rules = rules(8, &[], 100);
        let hurried = |slack_us: u32| Waiting { slack: Some(slack_us * US), ..waiting(2, 10) };
        assert_eq!(decide(hurried(500), &rules, |rows| rows), Decision::Wait(90 * US));
        assert_eq!(decide(hurried(30), &rules, |rows| rows), Decision::Wait(30 * US));
        assert_eq!(decide(hurried(0), &rules, |rows| rows), Decision::Cut(2));
    }

    #[test]
    fn nothing_is_waited_for_once_no_more_can_come() {
        let last = Waiting { closed: true, ..waiting(2, 0) };
        assert_eq!(decide(last, &rules(8, &[4], 1000), |rows| rows), Decision::Cut(2));
    }
}
