//! Moments as people type them.

use crate::rfc3339;

/// Unix seconds end here and ms begin: seconds of the year 5138, ms of 1973.
const FIRST_MS: u64 = 100_000_000_000;

/// Parses RFC 3339 (`2026-03-01T12:00:00Z`, `2026-03-01T14:00:00+02:00`) or a Unix time in seconds or ms into ms. A
/// number below 100,000,000,000 is seconds.
///
/// # Errors
/// A text that says what is expected.
pub fn parse(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Ok(if number < FIRST_MS { number * 1000 } else { number });
    }
    rfc3339::parse_us(text).and_then(|us| u64::try_from(us / 1000).ok()).ok_or_else(|| {
        "expected a time such as 2026-03-01T12:00:00Z, 2026-03-01T14:00:00+02:00, or a Unix time in s or ms".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_in_three_ways() {
        let noon = 1_772_366_400_000;
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01T12:00:00.000Z",
            "2026-03-01T14:30:00+02:30",
            "2026-03-01T07:00:00-05:00",
            "1772366400",
            "1772366400000",
        ] {
            assert_eq!(parse(text), Ok(noon), "{text}");
        }
        assert_eq!(parse("2026-03-01T12:00:00.25Z"), Ok(noon + 250));
        assert_eq!(parse("0"), Ok(0));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "noon",
            "-1",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-13-01T12:00:00Z",
            "2026-03-01T12:00:00+2:00",
            "2026-03-01T12:00:00+99:00",
            "2026-03-01T12:00:00é00:00",
            "1970-01-01T00:00:00+01:00",
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.starts_with("expected a time such as 2026-03-01T12:00:00Z"), "{text}: {refused}");
        }
    }
}
