//! Numbers, times and bars as the terminal views write them.

use std::time::{Duration, UNIX_EPOCH};

/// Past this, dates are not told: the last ms of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

/// What ends a text that was cut.
const CUT: char = '…';

/// A Unix time in ms as RFC 3339, to the second: `2026-03-01T12:00:00Z`.
pub fn date(at_ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at_ms.min(LAST_MS))).to_string()
}

/// The two largest units of a duration in ms: `42s`, `4m 10s`, `6h`, `2d 3h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    let (large, small) = match s {
        0..60 => return format!("{s}s"),
        60..3600 => ((s / 60, "m"), (s % 60, "s")),
        3600..86_400 => ((s / 3600, "h"), (s % 3600 / 60, "m")),
        _ => ((s / 86_400, "d"), (s % 86_400 / 3600, "h")),
    };
    if small.0 == 0 {
        format!("{}{}", large.0, large.1)
    } else {
        format!("{}{} {}{}", large.0, large.1, small.0, small.1)
    }
}

/// An estimate of a duration in seconds, to one unit: `3m`.
pub fn about(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{:.0}s", s.max(0.0)),
        s if s < 99.5 * 60.0 => format!("{:.0}m", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// With commas between thousands: `120,312`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Basis points as percent: `12.5 %`.
pub fn percent(basis_points: u16) -> String {
    format!("{} %", f64::from(basis_points) / 100.0)
}

/// Three digits where that says enough: `2.13`, `1,204`, `4.1e12`.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(0.001..1e7).contains(&size) => format!("{value:.1e}"),
        size if size >= 1000.0 => format!("{}{}", if value < 0.0 { "-" } else { "" }, count(size.round() as u64)),
        size => {
            let decimals = (2 - size.log10().floor() as i32).clamp(0, 4) as usize;
            let text = format!("{value:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    }
}

/// A bar of `cells` cells of which a share of 0 to 1 is filled. It is only full at 1.
pub fn bar(share: f64, cells: usize) -> String {
    let filled = if share >= 1.0 { cells } else { ((share.max(0.0) * cells as f64) as usize).min(cells - 1) };
    "█".repeat(filled) + &"░".repeat(cells - filled)
}

/// How far evidence has come towards its line, on a logarithmic scale from 1 (none) to the line.
pub fn evidence_share(e_value: f64, line: f64) -> f64 {
    if e_value >= line {
        1.0
    } else if e_value <= 1.0 || line <= 1.0 {
        0.0
    } else {
        e_value.ln() / line.ln()
    }
}

/// Cut to a width in characters, without control characters.
pub fn fit(text: &str, width: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= width {
        return clean;
    }
    clean.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
}

/// Text at both ends of a line; the left one is cut where they meet.
pub fn ends(left: &str, right: &str, width: usize) -> String {
    let right_width = right.chars().count();
    let left = fit(left, width.saturating_sub(right_width + 2));
    let gap = width.saturating_sub(left.chars().count() + right_width);
    format!("{left}{}{right}", " ".repeat(gap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        for (ms, text) in
            [(999, "0s"), (42_000, "42s"), (250_000, "4m 10s"), (21_600_000, "6h"), (183_600_000, "2d 3h")]
        {
            assert_eq!(duration(ms), text);
        }
        for (seconds, text) in [(-1.0, "0s"), (59.0, "59s"), (180.0, "3m"), (36_000.0, "10h"), (1e6, "12d")] {
            assert_eq!(about(seconds), text);
        }
    }

    #[test]
    fn figures_have_the_digits_that_say_something() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (2.128, "2.13"),
            (12.34, "12.3"),
            (0.01234, "0.0123"),
            (1204.4, "1,204"),
            (4.1e12, "4.1e12"),
            (1e300, "1.0e300"),
            (0.00004, "4.0e-5"),
            (-2.5, "-2.5"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!([count(7), count(1234), count(1_234_567)], ["7", "1,234", "1,234,567"]);
        assert_eq!([percent(100), percent(1250), percent(5)], ["1 %", "12.5 %", "0.05 %"]);
    }

    #[test]
    fn a_bar_is_full_only_at_its_line() {
        assert_eq!(bar(0.0, 4), "░░░░");
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(bar(0.999, 4), "███░");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(f64::NAN, 4), "░░░░");
        for (e_value, share) in [(0.1, 0.0), (1.0, 0.0), (10.0, 0.5), (100.0, 1.0), (1e300, 1.0)] {
            assert!((evidence_share(e_value, 100.0) - share).abs() < 1e-12, "{e_value}");
        }
    }

    #[test]
    fn dates_are_of_utc_and_never_fail() {
        assert_eq!(date(1_772_366_400_000), "2026-03-01T12:00:00Z");
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn lines_keep_their_width() {
        assert_eq!(fit("a\nb", 3), "a b");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(ends("left", "right", 12), "left   right");
        assert_eq!(ends("a long left", "right", 12), "a lo…  right");
    }
}
