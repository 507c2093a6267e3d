//! From a key to an arm: the same in every replica, release and language.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::arm::Arm;
use super::dial::{BASIS_POINTS, Weights};

/// The salt that belongs to a rollout's text (its id, or what the spec says) on a route: XXH3 of both, one after the
/// other.
pub fn salt(text: &str, route: &str) -> u64 {
    xxh3_64(&[text.as_bytes(), route.as_bytes()].concat())
}

/// The hash of a key: XXH3 with the salt as its seed.
pub fn hash(salt: u64, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, salt)
}

/// The bucket of a key, 0 to 9,999.
pub fn bucket(salt: u64, key: &[u8]) -> u16 {
    bucket_of(hash(salt, key))
}

/// The bucket of a hash: the high half of its product with 10,000 (Lemire, "Fast random integer generation in an
/// interval", arXiv 1805.10941), 0 to 9,999.
pub fn bucket_of(hash: u64) -> u16 {
    ((u128::from(hash) * u128::from(BASIS_POINTS)) >> 64) as u16
}

/// The arm that a bucket falls to. The candidate grows from below and the control from above, so that a larger share
/// takes no key away from the candidate.
pub fn arm_of(bucket: u16, weights: Weights) -> Arm {
    if bucket < weights.candidate() {
        Arm::Candidate
    } else if bucket >= BASIS_POINTS - weights.control() {
        Arm::Control
    } else {
        Arm::Stable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// Computed by another implementation (python-xxhash): what replicas and releases must agree on.
    const GOLDEN: &str = include_str!("../../tests/golden/buckets.json");

    fn number(value: &Value) -> u64 {
        value.as_str().unwrap().parse().unwrap()
    }

    #[test]
    fn salts_hashes_and_buckets_are_those_of_an_independent_implementation() {
        let golden: Value = serde_json::from_str(GOLDEN).unwrap();
        let (salts, buckets) = (golden["salts"].as_array().unwrap(), golden["buckets"].as_array().unwrap());
        assert!(salts.len() >= 5 && buckets.len() >= 200);
        for row in salts {
            let (text, route) = (row["text"].as_str().unwrap(), row["route"].as_str().unwrap());
            assert_eq!(salt(text, route), number(&row["salt"]), "{row}");
        }
        for row in buckets {
            let (salt, key) = (number(&row["salt"]), row["key"].as_str().unwrap().as_bytes());
            assert_eq!(hash(salt, key), number(&row["hash"]), "{row}");
            assert_eq!(u64::from(bucket(salt, key)), row["bucket"].as_u64().unwrap(), "{row}");
        }
    }

    #[test]
    fn the_ends_of_the_hash_are_the_ends_of_the_buckets() {
        assert_eq!((bucket_of(0), bucket_of(u64::MAX), bucket_of(1 << 63)), (0, 9999, 5000));
    }

    #[test]
    fn keys_fall_to_the_arms_by_their_shares() {
        const KEYS: u32 = 100_000;
        for (candidate_bp, rollout) in [(100, "m-1"), (1000, "m-2"), (5000, "m-3"), (9000, "m-4")] {
            let weights = Weights::of_candidate(candidate_bp);
            let salt = salt(rollout, "m");
            let mut counts = [0u32; 4];
            for key in 0..KEYS {
                let arm = arm_of(bucket(salt, format!("user-{key}").as_bytes()), weights);
                counts[usize::from(arm.number())] += 1;
            }
            let shares =
                [(Arm::Stable, weights.stable()), (Arm::Candidate, candidate_bp), (Arm::Control, weights.control())];
            for (arm, bp) in shares {
                let share = f64::from(bp) / 10_000.0;
                let (mean, sigma) = (f64::from(KEYS) * share, (f64::from(KEYS) * share * (1.0 - share)).sqrt());
                let count = f64::from(counts[usize::from(arm.number())]);
                assert!((count - mean).abs() <= 3.0 * sigma, "{candidate_bp} {arm:?}: {count}, expected {mean}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_takes_no_key_from_the_candidate(
            key in prop::collection::vec(any::<u8>(), 0..40), salt: u64, a in 0u16..=10_000, b in 0u16..=10_000,
        ) {
            let bucket = bucket(salt, &key);
            let (less, more) = (Weights::of_candidate(a.min(b)), Weights::of_candidate(a.max(b)));
            if arm_of(bucket, less) == Arm::Candidate {
                prop_assert_eq!(arm_of(bucket, more), Arm::Candidate);
            }
        }

        #[test]
        fn weights_sum_to_all_there_is(candidate: u16, hash: u64) {
            let weights = Weights::of_candidate(candidate);
            let sum = u32::from(weights.stable()) + u32::from(weights.candidate()) + u32::from(weights.control());
            prop_assert_eq!(sum, 10_000);
            prop_assert!(bucket_of(hash) < BASIS_POINTS);
            prop_assert_eq!(arm_of(bucket_of(hash), Weights::ALL_STABLE), Arm::Stable);
        }
    }
}
