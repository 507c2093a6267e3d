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
