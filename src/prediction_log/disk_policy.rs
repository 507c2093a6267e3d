//! What is still written when the disk fills up, and which files are old enough to go.

use std::time::Duration;

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Room {
    #[default]
    Everything,
    /// Rows without their inputs and outputs: what happened is still told, by a fraction of the bytes.
    RowsWithoutPayload,
    Nothing,
}

/// How far below its limit the disk must be before more is written again, as a share of it. Without it a log at the limit
/// would change its mind with every file that is deleted.
const HYSTERESIS: f64 = 0.02;

/// What there is room for next, with `share` of the file system in use (0 to 1). Beyond `limit` payloads stop, halfway from
/// there to a full disk the rows as well.
pub fn next_room(room: Room, share: f64, limit: f64) -> Room {
    let rows_limit = f64::midpoint(limit, 1.0);
    let step = |limit: f64, is_beyond: bool| share >= if is_beyond { limit - HYSTERESIS } else { limit };
    if step(rows_limit, room == Room::Nothing) {
        Room::Nothing
    } else if step(limit, room >= Room::RowsWithoutPayload) {
        Room::RowsWithoutPayload
    } else {
        Room::Everything
    }
}

/// Times in Unix µs of what a folder or a file holds: its rows are not earlier than `first`, as far as is known, and none is
/// later than `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: i64,
    pub last: i64,
}

/// What becomes of a folder or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// What is in it has to be looked at.
    LookInside,
    Delete,
}

/// Whether rows of this time are kept, if they are to be kept for `retain`.
pub fn verdict(span: Span, retain: Duration, now_us: i64) -> Verdict {
    let cutoff = now_us.saturating_sub(i64::try_from(retain.as_micros()).unwrap_or(i64::MAX));
    if span.last < cutoff {
        Verdict::Delete
    } else if span.first < cutoff {
        Verdict::LookInside
    } else {
        Verdict::Keep
    }
}

/// µs of a day.
const DAY_US: i64 = 86_400_000_000;
/// µs of an hour.
const HOUR_US: i64 = 3_600_000_000;

/// The time of a folder named `date=YYYY-MM-DD`; `None` for any other name.
pub fn date_span(folder: &str) -> Option<Span> {
    let text = folder.strip_prefix("date=").filter(|text| text.len() == 10)?;
    let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
    let us = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_micros();
    let first = i64::try_from(us).ok()?;
    Some(Span { first, last: first + DAY_US - 1 })
}

/// The time of a folder named `hour=HH` in that of a day; `None` for any other name.
pub fn hour_span(day: Span, folder: &str) -> Option<Span> {
    let hour: i64 = folder.strip_prefix("hour=")?.parse().ok().filter(|hour| (0..24).contains(hour))?;
    let first = day.first + hour * HOUR_US;
    Some(Span { first, last: first + HOUR_US - 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_stop_first_and_come_back_last() {
        use Room::{Everything, Nothing, RowsWithoutPayload};
        for (room, share, expected) in [
            (Everything, 0.79, Everything),
            (Everything, 0.80, RowsWithoutPayload),
            (Everything, 0.95, Nothing),
            (RowsWithoutPayload, 0.79, RowsWithoutPayload),
            (RowsWithoutPayload, 0.779, Everything),
            (RowsWithoutPayload, 0.90, Nothing),
            (Nothing, 0.89, Nothing),
            (Nothing, 0.87, RowsWithoutPayload),
            (Nothing, 0.785, RowsWithoutPayload),
            (Nothing, 0.1, Everything),
        ] {
            assert_eq!(next_room(room, share, 0.8), expected, "{room:?} at {share}");
        }
    }

    #[test]
    fn a_share_that_stays_leaves_the_decision_as_it_is() {
        for per_mille in 0..=1000 {
            let share = f64::from(per_mille) / 1000.0;
            for room in [Room::Everything, Room::RowsWithoutPayload, Room::Nothing] {
                let next = next_room(room, share, 0.8);
                assert_eq!(next_room(next, share, 0.8), next, "{share} from {room:?}");
            }
        }
    }

    #[test]
    fn a_folder_goes_when_its_last_moment_is_too_old() {
        let day = date_span("date=1970-01-03").unwrap();
        assert_eq!(day, Span { first: 2 * DAY_US, last: 3 * DAY_US - 1 });
        let retain = Duration::from_secs(86_400);
        assert_eq!(verdict(day, retain, 4 * DAY_US), Verdict::Delete);
        assert_eq!(verdict(day, retain, 4 * DAY_US - 1), Verdict::LookInside);
        assert_eq!(verdict(day, retain, 3 * DAY_US), Verdict::Keep);
        assert_eq!(hour_span(day, "hour=23").unwrap().last, day.last);
        for strange in ["date=1970-13-01", "date=x", "hour=24", "hour=-1", "dates"] {
            assert!(date_span(strange).is_none() && hour_span(day, strange).is_none(), "{strange}");
        }
    }
}
