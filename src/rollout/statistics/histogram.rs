//! Latencies in constant memory.

use serde::{Deserialize, Serialize};

/// Values below this have a bucket of their own; above, each power of two has half as many buckets.
const LINEAR: u64 = 1 << LINEAR_BITS;
const LINEAR_BITS: u32 = 7;
/// Larger values count as this one: 2^36 µs are 19 hours.
const MAX_VALUE: u64 = (1 << 36) - 1;
const BUCKETS: usize = bucket(MAX_VALUE) + 1;

/// A log-linear histogram of whole microseconds: 1,984 buckets (16 KiB), whose width is at most 1/64 of the value.
///
/// A quantile is given as the middle of its bucket, so it is off by at most 0.8 % of the value; its bucket's ends are
/// off by at most 1.6 %. Values above 19 hours count as 19 hours. In a checkpoint only the buckets in use are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct LatencyHistogram {
    buckets: Box<[u64]>,
    count: u64,
}

/// As it stands in a checkpoint: number of a bucket, and its count.
#[derive(Serialize, Deserialize)]
struct Saved(Vec<(u16, u64)>);

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0 }
    }
}

impl LatencyHistogram {
    /// One value, in µs.
    pub fn record(&mut self, value_us: u64) {
        self.buckets[bucket(value_us.min(MAX_VALUE))] += 1;
        self.count += 1;
    }

    /// Adds all values of another one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, in µs, that at least a share `p` of all values don't exceed: to the middle of its bucket.
    /// None without values.
    pub fn quantile(&self, p: f64) -> Option<u64> {
        self.bounds(p).map(|(low, high)| low + (high - low) / 2)
    }

    /// The least and the greatest value of the bucket that holds that quantile.
    pub(super) fn bounds(&self, p: f64) -> Option<(u64, u64)> {
        if self.count == 0 {
            return None;
        }
        let rank = ((p * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = 0;
        let at = self.buckets.iter().position(|count| {
            below += count;
            below >= rank
        })?;
        Some((least(at), least(at + 1) - 1))
    }
}

/// The bucket of a value.
const fn bucket(value: u64) -> usize {
    if value < LINEAR {
        return value as usize;
    }
    // The power of two, and the LINEAR_BITS − 1 bits after the first one.
    let shift = value.ilog2() + 1 - LINEAR_BITS;
    let half = LINEAR / 2;
    (half * shift as u64 + (value >> shift)) as usize
}

/// The least value of a bucket.
fn least(bucket: usize) -> u64 {
    let (bucket, half) = (bucket as u64, LINEAR / 2);
    if bucket < LINEAR {
        return bucket;
    }
    let shift = bucket / half - 1;
    (bucket - half * shift) << shift
}

impl From<Saved> for LatencyHistogram {
    fn from(Saved(pairs): Saved) -> Self {
        let mut histogram = Self::default();
        for (at, count) in pairs {
            if let Some(bucket) = histogram.buckets.get_mut(usize::from(at)) {
                *bucket += count;
                histogram.count += count;
            }
        }
        histogram
    }
}

impl From<LatencyHistogram> for Saved {
    fn from(histogram: LatencyHistogram) -> Self {
        let used = histogram.buckets.iter().zip(0..).filter(|(count, _)| **count > 0);
        Self(used.map(|(count, at)| (at, *count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_narrow_enough() {
        assert_eq!(BUCKETS, 1984);
        for value in (0..5000).chain((0..36).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, 3 << bit >> 1])) {
            let value = value.min(MAX_VALUE);
            let at = bucket(value);
            assert!(least(at) <= value && value < least(at + 1), "{value}");
            assert!((least(at + 1) - 1 - least(at)) as f64 <= value as f64 / 64.0, "{value}");
        }
    }

    #[test]
    fn quantiles_are_within_one_percent_and_merging_adds_up() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut values: Vec<u64> = (0..20_000).map(|_| f64::exp(16.0 * random.f64()) as u64).collect();
        let mut parts = [LatencyHistogram::default(), LatencyHistogram::default()];
        for (at, value) in values.iter().enumerate() {
            parts[at % 2].record(*value);
        }
        let [mut all, other] = parts;
        all.merge(&other);
        values.sort_unstable();
        assert_eq!(all.count(), 20_000);
        for p in [0.0, 0.001, 0.5, 0.9, 0.95, 0.99, 1.0] {
            let exact = values[((p * 20_000f64).ceil() as usize).max(1) - 1] as f64;
            let got = all.quantile(p).unwrap() as f64;
            assert!((got - exact).abs() <= 0.01 * exact, "p {p}: {got} for {exact}");
        }
    }

    #[test]
    fn nothing_is_out_of_range() {
        let mut histogram = LatencyHistogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.record(u64::MAX);
        histogram.record(0);
        assert_eq!(histogram.quantile(0.5), Some(0));
        assert!(histogram.quantile(1.0).unwrap() > MAX_VALUE / 100 * 99);
    }
}
