//! Moments and ages as people type them, in µs of Unix time.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

/// Parses how long ago (`1h`, `7d`), or RFC 3339 (`2026-03-01T14:00:00+02:00`, `2026-03-01`, in UTC without an offset).
///
/// # Errors
/// A text that says what is expected.
pub fn parse_us(text: &str) -> Result<i64, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now_us().saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)));
    }
    let nanos = string_to_timestamp_nanos(text);
    nanos.map(|nanos| nanos.div_euclid(1000)).map_err(|_| {
        "expected a time such as 2026-03-01T12:00:00Z or 2026-03-01, or how long ago, such as 1h".to_owned()
    })
}

/// Parses an age such as `7d` into µs.
///
/// # Errors
/// A text that says what is expected.
pub fn parse_age_us(text: &str) -> Result<i64, String> {
    let age = humantime::parse_duration(text).map_err(|_| "expected an age such as 7d or 12h".to_owned())?;
    i64::try_from(age.as_micros()).map_err(|_| "expected an age of less than 200,000 years".to_owned())
}

/// Unix time in µs.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_ages() {
        let noon = 1_772_366_400_000_000;
        for text in ["2026-03-01T12:00:00Z", "2026-03-01T14:00:00+02:00", "2026-03-01 12:00:00"] {
            assert_eq!(parse_us(text), Ok(noon), "{text}");
        }
        assert_eq!(parse_us("2026-03-01"), Ok(noon - 12 * 3_600_000_000));
        let ago = parse_us("2h").unwrap();
        let hours = now_us() - ago;
        assert!((7_200_000_000..7_260_000_000).contains(&hours), "{hours}");
        assert!(parse_us("noon").unwrap_err().contains("such as 1h"));
        assert_eq!(parse_age_us("7d"), Ok(7 * 24 * 3_600_000_000));
        assert!(parse_age_us("soon").is_err());
    }
}
