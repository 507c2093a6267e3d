//! Single values and what they must be.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::ConfigError;

pub fn at_least_one(key: &'static str, value: usize) -> Result<usize, ConfigError> {
    if value == 0 {
        return Err(ConfigError::Value { key, expected: "1 or more", got: "0".to_owned() });
    }
    Ok(value)
}

pub fn positive(key: &'static str, value: Option<Duration>, default_s: u64) -> Result<Duration, ConfigError> {
    match value {
        None => Ok(Duration::from_secs(default_s)),
        Some(Duration::ZERO) => {
            Err(ConfigError::Value { key, expected: "a time longer than 0, such as 1s or 250ms", got: "0".to_owned() })
        }
        Some(value) => Ok(value),
    }
}

pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("expected a time such as 1s or 250ms, got '{text}'")))
}
