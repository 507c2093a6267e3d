//! How long runs take, by the size of their inputs.
//!
//! Learned from the runs themselves: a moving average for each half octave of input bytes. Bytes stand for rows and
//! for sequence lengths at the same time, and are known before anything is decided.

use std::time::{Duration, Instant};

/// The weight of the newest run in the average.
const NEWEST: f64 = 0.15;
/// Runs of a size before its average is taken for known.
const KNOWN_AFTER: u32 = 4;
/// How long an average is known after the last run that it holds.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// A run counts for no more than this many times what is typical, so that one that lost its core to another process does
/// not pass for slow.
const CLIPPED_AT: f64 = 3.0;
const BUCKETS: usize = 96;

/// Run times in seconds by input bytes.
#[derive(Debug, Clone)]
pub struct ServiceTimes {
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    runs: u32,
    mean_s: f64,
    /// The mean of clipped times.
    typical_s: f64,
    last: Option<Instant>,
}

impl Default for ServiceTimes {
    fn default() -> Self {
        Self { buckets: [Bucket::default(); BUCKETS] }
    }
}

impl ServiceTimes {
    /// Takes in a run of inputs of so many bytes.
    pub fn record(&mut self, bytes: usize, run_s: f64, now: Instant) {
        let bucket = &mut self.buckets[bucket_of(bytes)];
        // The first runs count alike, so that one slow beginner is soon forgotten.
        let weight = NEWEST.max(1.0 / f64::from(bucket.runs + 1));
        bucket.mean_s += weight * (run_s - bucket.mean_s);
        let clipped_s = if bucket.runs == 0 { run_s } else { run_s.min(CLIPPED_AT * bucket.typical_s) };
        bucket.typical_s += weight * (clipped_s - bucket.typical_s);
        bucket.last = Some(now);
        bucket.runs = bucket.runs.saturating_add(1);
    }

    /// The mean time of runs of just this size; `None` before a few of them were seen, and where the last was too long
    /// ago: then it is time to see another.
    pub fn known_s(&self, bytes: usize, now: Instant) -> Option<f64> {
        let bucket = self.buckets[bucket_of(bytes)];
        let is_recent = bucket.last.is_some_and(|last| now.saturating_duration_since(last) < KNOWN_FOR);
        (bucket.runs >= KNOWN_AFTER && is_recent).then_some(bucket.mean_s)
    }

    /// What runs of just this size take if nothing disturbs them; `None` before a few of them were seen.
    pub fn typical_s(&self, bytes: usize) -> Option<f64> {
        let bucket = self.buckets[bucket_of(bytes)];
        (bucket.runs >= KNOWN_AFTER).then_some(bucket.typical_s)
    }

    /// The time that a run of this size should take if nothing disturbs it: that of the nearest size seen, scaled by bytes
    /// if that was smaller. 0 before anything ran.
    pub fn estimate_s(&self, bytes: usize) -> f64 {
        let at = bucket_of(bytes);
        let seen = |index: &usize| self.buckets[*index].runs > 0;
        let below = (0..=at).rev().find(seen);
        let above = (at + 1..BUCKETS).find(seen);
        match (below, above) {
            (Some(below), _) if below == at => self.buckets[at].typical_s,
            (Some(below), None) => self.buckets[below].typical_s * ((at - below) as f64 / 2.0).exp2(),
            (Some(below), Some(above)) => {
                let (low, high) = (self.buckets[below].typical_s, self.buckets[above].typical_s);
                low + (high - low) * (at - below) as f64 / (above - below) as f64
            }
            (None, Some(above)) => self.buckets[above].typical_s,
            (None, None) => 0.0,
        }
    }
}

/// Two buckets an octave.
fn bucket_of(bytes: usize) -> usize {
    let bytes = bytes.max(1);
    let octave = bytes.ilog2();
    let upper_half = octave > 0 && bytes >> (octave - 1) & 1 == 1;
    (2 * octave as usize + usize::from(upper_half)).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fall_into_half_octaves() {
        let buckets: Vec<usize> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16].map(bucket_of).to_vec();
        assert_eq!(buckets, [0, 0, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8]);
        assert_eq!(bucket_of(usize::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_size_is_known_once_it_was_seen_a_few_times() {
        let (mut times, now) = (ServiceTimes::default(), Instant::now());
        assert_eq!((times.known_s(16, now), times.typical_s(16), times.estimate_s(16)), (None, None, 0.0));
        for run_s in [0.1, 0.001, 0.001, 0.001] {
            times.record(16, run_s, now);
        }
        assert!((times.known_s(16, now).unwrap() - 0.02575).abs() < 1e-9, "the first runs count alike");
        for _ in 0..50 {
            times.record(16, 0.001, now);
        }
        assert!(times.known_s(16, now).unwrap() < 0.0011);
        assert_eq!(times.known_s(16, now + KNOWN_FOR), None, "it may have changed since");
    }

    #[test]
    fn one_run_that_was_disturbed_does_not_make_a_size_slow() {
        let (mut times, now) = (ServiceTimes::default(), Instant::now());
        for _ in 0..10 {
            times.record(16, 10e-6, now);
        }
        times.record(16, 0.004, now);
        assert!(times.typical_s(16).unwrap() < 14e-6, "clipped");
        assert!(times.known_s(16, now).unwrap() > 500e-6, "but the mean is the mean");
        for _ in 0..10 {
            times.record(16, 0.004, now);
        }
        assert!(times.typical_s(16).unwrap() > 100e-6, "what stays slow is soon seen");
    }

    #[test]
    fn other_sizes_are_guessed_from_those_seen() {
        let (mut times, now) = (ServiceTimes::default(), Instant::now());
        times.record(1024, 0.002, now);
        assert_eq!(times.estimate_s(16), 0.002, "a smaller run takes no longer than the smallest seen");
        assert_eq!(times.estimate_s(4096), 0.008, "a larger one grows with its bytes");
        times.record(4096, 0.004, now);
        assert_eq!(times.estimate_s(2048), 0.003, "one between two lies between them");
    }
}
