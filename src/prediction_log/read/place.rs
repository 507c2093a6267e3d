//! What a file's folders say of its rows, and whether a scan need look at them.

use percent_encoding::percent_decode_str;

use super::scan::Scan;
use crate::prediction_log::table::NO_VALUE;
use crate::rfc3339;

/// How far a row's time may lie from the hour or the day that its folder names, in µs: a segment is sealed once, and a
/// request may take long.
pub const FOLDER_SLACK_US: i64 = HOUR_US;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// What folders such as `model=iris/version=2/date=2026-03-01/hour=07` say; what they don't say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The model's name; an empty one where the folder says that it is not known.
    pub model: Option<String>,
    pub version: Option<u64>,
    /// Unix time in µs at which the folder's day, or its hour, begins and ends.
    pub period_us: Option<(i64, i64)>,
}

impl Place {
    /// The place of a folder below this one. A name that is no partition's says nothing.
    pub fn below(&self, folder: &str) -> Self {
        let mut place = self.clone();
        let Some((column, value)) = folder.split_once('=') else { return place };
        match column {
            "model" if value == NO_VALUE => place.model = Some(String::new()),
            "model" => place.model = Some(percent_decode_str(value).decode_utf8_lossy().into_owned()),
            "version" => place.version = value.parse().ok().or(place.version),
            "date" => {
                place.period_us = day_start_us(value).map(|start| (start, start + DAY_US)).or(place.period_us);
            }
            "hour" => {
                let hour = value.parse::<i64>().ok().filter(|hour| (0..24).contains(hour));
                let start = |(day, _): (i64, i64)| Some(day + hour? * HOUR_US);
                place.period_us = place.period_us.and_then(start).map(|start| (start, start + HOUR_US));
            }
            _ => {}
        }
        place
    }

    /// Whether none of the rows here can be among those of the scan.
    pub fn is_beyond(&self, scan: &Scan) -> bool {
        let other_model = match (&self.model, &scan.model) {
            (Some(here), Some(wanted)) => !here.is_empty() && here != wanted,
            _ => false,
        };
        let other_version = matches!((self.version, scan.version), (Some(here), Some(wanted)) if here != wanted);
        let other_time = self.period_us.is_some_and(|(start, end)| {
            scan.since_us.is_some_and(|since| end.saturating_add(FOLDER_SLACK_US) <= since)
                || scan.until_us.is_some_and(|until| start.saturating_sub(FOLDER_SLACK_US) >= until)
        });
        other_model || other_version || other_time
    }
}

/// Unix time in µs at which a day such as `2026-03-01` begins.
fn day_start_us(date: &str) -> Option<i64> {
    rfc3339::parse_us(&format!("{date}T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction_log::table::Table;

    fn place(folders: &str) -> Place {
        folders.split('/').fold(Place::default(), |place, folder| place.below(folder))
    }

    #[test]
    fn folders_name_model_version_and_hour() {
        let hour = 1_772_348_400_000_000;
        let found = place("model=a%20b/version=2/date=2026-03-01/hour=07");
        assert_eq!(found.model.as_deref(), Some("a b"));
        assert_eq!((found.version, found.period_us), (Some(2), Some((hour, hour + HOUR_US))));
        assert_eq!(place("model=__HIVE_DEFAULT_PARTITION__").model.as_deref(), Some(""));
        assert_eq!(day_start_us("1970-01-01"), Some(0));
        assert_eq!(day_start_us("2024-02-29"), Some(19_782 * DAY_US));
        for odd in ["", "2026", "2026-13-01", "2026-00-10", "x-y-z", "2026-03-01-02"] {
            assert_eq!(day_start_us(odd), None, "{odd}");
        }
        assert_eq!(place("notes/model"), Place::default());
    }

    #[test]
    fn a_scan_passes_over_what_it_cannot_want() {
        let here = place("model=iris/version=2/date=2026-03-01/hour=07");
        let (start, end) = here.period_us.unwrap();
        let all = Scan::all("d", Table::Predictions);
        assert!(!here.is_beyond(&all));
        assert!(here.is_beyond(&Scan { model: Some("digits".to_owned()), ..all.clone() }));
        assert!(here.is_beyond(&Scan { version: Some(1), ..all.clone() }));
        for (since, until, beyond) in [
            (Some(end), None, false),
            (Some(end + HOUR_US - 1), None, false),
            (Some(end + HOUR_US), None, true),
            (None, Some(start), false),
            (None, Some(start - HOUR_US), true),
            (Some(start), Some(end), false),
        ] {
            let scan = Scan { since_us: since, until_us: until, ..all.clone() };
            assert_eq!(here.is_beyond(&scan), beyond, "{since:?} {until:?}");
        }
        assert!(!place("model=__HIVE_DEFAULT_PARTITION__").is_beyond(&Scan { model: Some("iris".to_owned()), ..all }));
    }
}
