//! At most one event for each key and step.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// Up to so many keys are remembered exactly; with more, their fingerprints go into a Bloom filter.
const MAX_EXACT: usize = 100_000;
/// Up to so many keys are written to a checkpoint exactly (128 KiB, as much as the filter).
const MAX_EXACT_SAVED: usize = 16_384;
const FILTER_BITS: u64 = 1 << 20;
const FILTER_WORDS: usize = (FILTER_BITS / 64) as usize;
const PROBES: u64 = 4;

/// The keys that had an event in the present step.
///
/// Where requests are assigned by key, the events of one key come together and all fall in one arm. Counted one by one
/// they would be taken for evidence (with bursts of 5 the false alarms at 5 % become 44 %), so only the first of each
/// key counts.
///
/// Memory is bounded: 100,000 keys exactly, beyond that a Bloom filter of 128 KiB. The filter may take a new key for a
/// known one (1 % at 100,000 keys, 20 % at 300,000), which leaves out an event; it never counts a key twice. Which keys
/// it mistakes does not depend on the arm, so the evidence stays valid and grows more slowly. A checkpoint holds up to
/// 16,384 keys exactly and more as the filter, so it is at most 175 KB of text, and what was read back may mistake a
/// key a little earlier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct KeyedEvents {
    keys: Keys,
}

#[derive(Debug, Clone, PartialEq)]
enum Keys {
    /// Hashed without a random seed, so that nothing here depends on chance.
    Exact(HashSet<u64, BuildHasherDefault<DefaultHasher>>),
    Filter(Box<[u64]>),
}

/// As it stands in a checkpoint: numbers of 8 bytes, little end first, in Base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Saved {
    Keys(String),
    Filter(String),
}

#[derive(Debug)]
struct NotKeys {
    got: usize,
}

impl std::fmt::Display for NotKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected keys of 8 bytes or a filter of {} bytes in Base64, got {} bytes", FILTER_BITS / 8, self.got)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self::Exact(HashSet::default())
    }
}

impl KeyedEvents {
    /// Whether this is the first event of the key (by its hash) in this step. Without a key, every event is.
    pub fn first(&mut self, key: Option<u64>) -> bool {
        let Some(key) = key else { return true };
        if let Keys::Exact(keys) = &self.keys
            && keys.len() >= MAX_EXACT
            && !keys.contains(&key)
        {
            self.keys = Keys::Filter(filter(keys.iter().copied()));
        }
        match &mut self.keys {
            Keys::Exact(keys) => keys.insert(key),
            Keys::Filter(words) => insert(words, key),
        }
    }

    /// Forgets all keys: in the next step each may have an event again.
    pub fn next_step(&mut self) {
        self.keys = Keys::default();
    }
}

fn filter(keys: impl Iterator<Item = u64>) -> Box<[u64]> {
    let mut words = vec![0; FILTER_WORDS].into_boxed_slice();
    for key in keys {
        insert(&mut words, key);
    }
    words
}

/// Whether the key was new.
fn insert(words: &mut [u64], key: u64) -> bool {
    let (start, stride) = (mix(key), mix(!key) | 1);
    let mut new = false;
    for probe in 0..PROBES {
        let bit = start.wrapping_add(stride.wrapping_mul(probe)) % FILTER_BITS;
        let (word, mask) = (&mut words[(bit / 64) as usize], 1 << (bit % 64));
        new |= *word & mask == 0;
        *word |= mask;
    }
    new
}

/// The finalizer of SplitMix64 (G. Steele and others, 2014): keys that differ little get places that don't.
fn mix(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

fn to_text(numbers: &[u64]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

fn from_text(text: &str) -> Result<Vec<u64>, NotKeys> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| NotKeys { got: text.len() })?;
    let (numbers, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(NotKeys { got: bytes.len() });
    }
    Ok(numbers.iter().map(|number| u64::from_le_bytes(*number)).collect())
}

impl From<KeyedEvents> for Saved {
    fn from(state: KeyedEvents) -> Self {
        match state.keys {
            Keys::Exact(keys) if keys.len() <= MAX_EXACT_SAVED => {
                let mut keys: Vec<u64> = keys.into_iter().collect();
                keys.sort_unstable();
                Self::Keys(to_text(&keys))
            }
            Keys::Exact(keys) => Self::Filter(to_text(&filter(keys.into_iter()))),
            Keys::Filter(words) => Self::Filter(to_text(&words)),
        }
    }
}

impl TryFrom<Saved> for KeyedEvents {
    type Error = NotKeys;

    fn try_from(saved: Saved) -> Result<Self, NotKeys> {
        let keys = match saved {
            Saved::Keys(text) => Keys::Exact(from_text(&text)?.into_iter().collect()),
            Saved::Filter(text) => {
                let words = from_text(&text)?;
                if words.len() != FILTER_WORDS {
                    return Err(NotKeys { got: words.len() * 8 });
                }
                Keys::Filter(words.into_boxed_slice())
            }
        };
        Ok(Self { keys })
    }
}
