//! When a delivery that failed is tried again.

use std::time::Duration;

/// Exponential backoff with jitter, up to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Longest wait after the first failure.
    pub first: Duration,
    /// Longest wait of all.
    pub most: Duration,
    /// Age of an event at which it is given up.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            most: Duration::from_secs(15 * 60),
            give_up_after: Duration::from_secs(24 * 3600),
        }
    }
}

impl RetryPolicy {
    /// The wait after this many failures in a row (from 1 on), for an event of this age; `None`: give it up.
    ///
    /// The longest wait doubles with each failure up to `most`. The wait is between half of it and all of it, as
    /// `random` says (equal jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that
    /// receivers that come back are not met by everything at once.
    pub fn wait(&self, failures: u32, age: Duration, random: u32) -> Option<Duration> {
        if age >= self.give_up_after {
            return None;
        }
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.most);
        let half = longest / 2;
        Some(half + half.mul_f64(f64::from(random) / f64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_age() {
        let policy = RetryPolicy {
            first: Duration::from_secs(2),
            most: Duration::from_secs(60),
            give_up_after: Duration::from_secs(3600),
        };
        let young = Duration::from_secs(1);
        for (failures, shortest_s, longest_s) in
            [(1, 1, 2), (2, 2, 4), (3, 4, 8), (5, 16, 32), (6, 30, 60), (99, 30, 60)]
        {
            let wait = |random| policy.wait(failures, young, random).unwrap();
            assert_eq!(wait(0), Duration::from_secs(shortest_s), "{failures}");
            assert_eq!(wait(u32::MAX), Duration::from_secs(longest_s), "{failures}");
            assert!(wait(u32::MAX / 2) > wait(0) && wait(u32::MAX / 2) < wait(u32::MAX), "{failures}");
        }
        assert_eq!(policy.wait(1, Duration::from_secs(3600), 0), None);
        assert!(policy.wait(40, Duration::from_secs(3599), 0).is_some());
    }
}
