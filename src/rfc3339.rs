//! Moments as RFC 3339 writes them.

use std::time::UNIX_EPOCH;

/// Reads a moment since 1970 (`2026-03-01T12:00:00Z`, `2026-03-01T14:00:00.5+02:00`) into Unix time in µs; `None` for
/// anything else.
///
/// Source: RFC 3339, section 5.6. Letters may be in lower case.
pub fn parse_us(text: &str) -> Option<i64> {
    let (local, offset_us) = split_offset(text)?;
    let local = humantime::parse_rfc3339(&format!("{}Z", local.to_ascii_uppercase())).ok()?;
    let local_us = i64::try_from(local.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    Some(local_us - offset_us)
}

/// The date and time of day, and how far east of UTC they are told, in µs.
///
/// Source: RFC 3339, section 5.6, `time-offset`.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Some((local, 0));
    }
    let at = text.len().checked_sub("+00:00".len())?;
    let (local, offset) = (text.get(..at)?, text.get(at..)?);
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let is_number = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let (hours, minutes): (i64, i64) = if is_number(hours) && is_number(minutes) {
        (hours.parse().ok()?, minutes.parse().ok()?)
    } else {
        return None;
    };
    let us = (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * 60_000_000)?;
    match offset.as_bytes()[0] {
        b'+' => Some((local, us)),
        b'-' => Some((local, -us)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_zone_and_may_have_a_fraction() {
        let noon = 1_772_366_400_000_000;
        for (text, us) in [
            ("2026-03-01T12:00:00Z", noon),
            ("2026-03-01t12:00:00z", noon),
            ("2026-03-01T14:00:00+02:00", noon),
            ("2026-03-01T06:30:00-05:30", noon),
            ("2026-03-01T12:00:00.000001Z", noon + 1),
            ("2026-03-01T12:00:00.25+00:00", noon + 250_000),
        ] {
            assert_eq!(parse_us(text), Some(us), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "Z",
            "now",
            "2026-03-01",
            "2026-03-01T12:00:00",
            "2026-03-01T12:00:00+2:00",
            "2026-03-01T12:00:00+24:00",
            "2026-13-01T12:00:00Z",
            "1931-03-01T12:00:00Z",
            "1772366400",
            "2026-03-01T12:00:00é",
        ] {
            assert_eq!(parse_us(text), None, "{text}");
        }
    }
}
