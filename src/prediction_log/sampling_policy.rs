//! Which predictions are written: by the hash of a key, so that all predictions of one key are in or none is.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Fixed, so that every gateway and every release keeps the same keys; other than any rollout's salt is likely to be, so
/// that who is written does not go with who is on which arm.
const SEED: u64 = 0x6865_6164_6761_7465;

/// Two to the power of 64.
const ALL: f64 = 18_446_744_073_709_551_616.0;

/// The hash of what sampling goes by: XXH3 of a key's bytes. The request's path calls it for `headgate-key` or the request
/// id, the writer for the value of a column.
pub fn hash_of(key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, SEED)
}

/// Whether predictions with this hash are written, of which a share of `probability` is.
pub fn keeps(hash: u64, probability: f64) -> bool {
    // The largest hashes round up to 2^64, which must not leave them out at a probability of 1.
    probability >= 1.0 || (hash as f64) < probability * ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_none_and_all() {
        for hash in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(keeps(hash, 1.0));
            assert!(!keeps(hash, 0.0));
        }
        assert!(keeps(u64::MAX / 4, 0.5) && !keeps(u64::MAX / 4 * 3, 0.5));
    }

    #[test]
    fn shares_of_keys_are_kept_within_three_sigma() {
        const KEYS: u32 = 100_000;
        for probability in [0.01, 0.1, 0.5, 0.9] {
            let kept = (0..KEYS).filter(|key| keeps(hash_of(format!("user-{key}").as_bytes()), probability)).count();
            let (mean, variance) = (f64::from(KEYS) * probability, f64::from(KEYS) * probability * (1.0 - probability));
            assert!((kept as f64 - mean).abs() < 3.0 * variance.sqrt(), "{kept} at {probability}");
        }
    }

    #[test]
    fn a_larger_share_leaves_nobody_out_that_a_smaller_one_kept() {
        for key in 0..1000u32 {
            let hash = hash_of(&key.to_le_bytes());
            assert!(!keeps(hash, 0.2) || keeps(hash, 0.6));
        }
    }

    /// Of another implementation (python-xxhash): what gateways and releases must agree on.
    #[test]
    fn hashes_are_those_of_an_independent_implementation() {
        assert_eq!(hash_of(b""), GOLDEN[0]);
        assert_eq!(hash_of(b"user-1"), GOLDEN[1]);
        assert_eq!(hash_of(&42i64.to_le_bytes()), GOLDEN[2]);
    }

    const GOLDEN: [u64; 3] = [12_573_671_289_722_062_855, 16_516_985_681_121_936_693, 4_078_465_540_255_638_303];
}
