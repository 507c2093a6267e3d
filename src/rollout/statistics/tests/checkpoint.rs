//! States that are written as text and read back go on as if nothing had happened.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::*;

/// Feeds a state, writes and reads it in the middle, and compares with one that was never written.
fn survives<S: Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned>(
    start: S,
    mut feed: impl FnMut(&mut S, u64),
) -> String {
    let mut never_written = start;
    (0..500).for_each(|at| feed(&mut never_written, at));
    let text = serde_json::to_string(&never_written).unwrap();
    let mut read: S = serde_json::from_str(&text).unwrap();
    assert_eq!(read, never_written);
    (500..1_000).for_each(|at| {
        feed(&mut never_written, at);
        feed(&mut read, at);
    });
    assert_eq!(read, never_written);
    assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&never_written).unwrap());
    text
}

/// A number that looks random, for each place.
fn noise(at: u64) -> u64 {
    fastrand::Rng::with_seed(at).u64(..)
}

/// 1/11 and the like: numbers that text readers get wrong in the last digit.
fn odd_share(at: u64) -> f64 {
    1.0 / (11.0 + (at % 7) as f64)
}

#[test]
fn every_state_goes_on_from_its_checkpoint_bit_for_bit() {
    let is_event = |at: u64| noise(at).is_multiple_of(5);
    survives(RateRatio::harm(1.1), |state, at| state.observe(is_event(at), odd_share(at)));
    survives(RateRatio::safe(2.0 / 0.7), |state, at| state.observe(is_event(at), odd_share(at)));
    survives(RatioInterval::default(), |state, at| state.observe(is_event(at), odd_share(at)));
    survives(SampleRatio::default(), |state, at| state.observe(is_event(at), odd_share(at)));
    survives(AbsoluteCertificate::new(1.0 / 11.0), |state, at| state.observe(1, u64::from(is_event(at))));
    survives(PairedSign::default(), |state, at| state.observe(is_event(at), is_event(at + 1)));
    survives(LatencyHistogram::default(), |state, at| state.record(noise(at) >> (at % 64)));
    survives(KeyedEvents::default(), |state, at| {
        state.first(Some(noise(at) % 700));
    });
}

#[test]
fn checkpoints_are_small() {
    let text = survives(LatencyHistogram::default(), |state, at| state.record(1_000 + at % 100));
    assert!(text.len() < 100, "{text}");
    // One q after another: only so many are kept apart.
    let text = survives(RatioInterval::default(), |state, at| state.observe(at % 5 == 0, 1.0 / (2.0 + at as f64)));
    assert_eq!(text.matches("candidate").count(), 256);
    let mut seen = KeyedEvents::default();
    for count in [1_000u64, 16_384, 90_000, 150_000] {
        (0..count).for_each(|at| {
            seen.first(Some(noise(at)));
        });
        let text = serde_json::to_string(&seen).unwrap();
        assert!(text.len() < 176_000, "{} at {count}", text.len());
        let mut read: KeyedEvents = serde_json::from_str(&text).unwrap();
        assert!((0..count).all(|at| !read.first(Some(noise(at)))), "a key of {count} is forgotten");
        let new = (0..1_000).filter(|at| read.first(Some(noise(at + (1 << 40))))).count();
        assert!(new > 900 && (count > 16_384 || new == 1_000), "{new} at {count}");
    }
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    for text in [r#"{"keys":"AAAA"}"#, r#"{"filter":"AAAAAAAAAAA="}"#, r#"{"keys":"?"}"#] {
        let error = serde_json::from_str::<KeyedEvents>(text).unwrap_err().to_string();
        assert!(error.contains("expected keys of 8 bytes or a filter of 131072 bytes"), "{error}");
    }
    assert!(serde_json::from_str::<RateRatio>(r#"{"null":1,"side":"Harm","logs":[1]}"#).is_err());
}
