//! How long runs take, by the size of their inputs.
//!
//! Learned from the runs themselves: a moving average for each half octave of input bytes. Bytes stand for rows and
//! for sequence lengths at the same time, and are known before anything is decided.

/// The weight of the newest run in the average.
const NEWEST: f64 = 0.15;
/// Runs of a size before its average is taken for known.
const KNOWN_AFTER: u32 = 4;
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
}

impl Default for ServiceTimes {
    fn default() -> Self {
        Self { buckets: [Bucket::default(); BUCKETS] }
    }
}

impl ServiceTimes {
    /// Takes in a run of inputs of so many bytes.
    pub fn record(&mut self, bytes: usize, run_s: f64) {
        let bucket = &mut self.buckets[bucket_of(bytes)];
        // The first runs count alike, so that one slow beginner is soon forgotten.
        let weight = NEWEST.max(1.0 / f64::from(bucket.runs + 1));
        bucket.mean_s += weight * (run_s - bucket.mean_s);
        bucket.runs = bucket.runs.saturating_add(1);
    }

    /// The time of runs of just this size; `None` before a few of them were seen.
    pub fn known_s(&self, bytes: usize) -> Option<f64> {
        let bucket = self.buckets[bucket_of(bytes)];
        (bucket.runs >= KNOWN_AFTER).then_some(bucket.mean_s)
    }

    /// The time that a run of this size should take: that of the nearest size seen, scaled by bytes if that was
    /// smaller. 0 before anything ran.
    pub fn estimate_s(&self, bytes: usize) -> f64 {
        let at = bucket_of(bytes);
        let seen = |index: &usize| self.buckets[*index].runs > 0;
        let below = (0..=at).rev().find(seen);
        let above = (at + 1..BUCKETS).find(seen);
        match (below, above) {
            (Some(below), _) if below == at => self.buckets[at].mean_s,
            (Some(below), None) => self.buckets[below].mean_s * ((at - below) as f64 / 2.0).exp2(),
            (Some(below), Some(above)) => {
                let (low, high) = (self.buckets[below].mean_s, self.buckets[above].mean_s);
                low + (high - low) * (at - below) as f64 / (above - below) as f64
            }
            (None, Some(above)) => self.buckets[above].mean_s,
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
        let mut times = ServiceTimes::default();
        assert_eq!((times.known_s(16), times.estimate_s(16)), (None, 0.0));
        for run_s in [0.1, 0.001, 0.001, 0.001] {
            times.record(16, run_s);
        }
        assert!((times.known_s(16).unwrap() - 0.02575).abs() < 1e-9, "the first runs count alike");
        for _ in 0..50 {
            times.record(16, 0.001);
        }
        assert!(times.known_s(16).unwrap() < 0.0011);
    }

    #[test]
    fn other_sizes_are_guessed_from_those_seen() {
        let mut times = ServiceTimes::default();
        times.record(1024, 0.002);
        assert_eq!(times.estimate_s(16), 0.002, "a smaller run takes no longer than the smallest seen");
        assert_eq!(times.estimate_s(4096), 0.008, "a larger one grows with its bytes");
        times.record(4096, 0.004);
        assert_eq!(times.estimate_s(2048), 0.003, "one between two lies between them");
    }
}
