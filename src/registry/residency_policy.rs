//! Which loaded versions are let go, to be loaded again at their next request: those that nobody has asked for long
//! enough, and those that a limit of memory has no room for.

use std::time::{Duration, Instant};

use crate::servable::ServableId;

/// A version that nobody has asked yet stays for so long, so that it can answer what it was loaded for.
pub const GRACE: Duration = Duration::from_secs(5);

/// A loaded version, as far as this decision goes.
#[derive(Debug, Clone)]
pub struct Resident {
    pub id: ServableId,
    /// What it takes in memory.
    pub bytes: u64,
    pub loaded: Instant,
    /// When a request last reached its end there, before it was loaded this time included.
    pub last_used: Option<Instant>,
    /// Whether it must stay: requests are in flight, a command waits for it, or its files are not there to be loaded
    /// again as they were.
    pub pinned: bool,
    /// After how long without a request it is let go; `None`: never for that reason.
    pub idle_unload: Option<Duration>,
}

/// Why a version is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Idle,
    Memory,
}

/// Versions to let go at `now`, in that order.
///
/// For idleness: every version that is not pinned and whose last request, or load, lies as far back as its limit. Then
/// for memory, while the rest takes more than `max_bytes`: the least recently used that is not pinned. Spared are the
/// version that was loaded last, whatever it takes, and one that has not been asked since it was loaded, for [`GRACE`].
pub fn let_go(residents: &[Resident], max_bytes: Option<u64>, now: Instant) -> Vec<(ServableId, Reason)> {
    let (idle, mut rest): (Vec<_>, Vec<_>) = residents.iter().partition(|resident| resident.is_idle(now));
    let mut gone: Vec<_> = idle.into_iter().map(|resident| (resident.id.clone(), Reason::Idle)).collect();
    let Some(max_bytes) = max_bytes else { return gone };
    let mut bytes: u64 = rest.iter().map(|resident| resident.bytes).sum();
    let newest = rest.iter().map(|resident| resident.loaded).max();
    rest.retain(|resident| !resident.pinned && !resident.is_fresh(now) && Some(resident.loaded) != newest);
    rest.sort_by_key(|resident| resident.used());
    for resident in rest {
        if bytes <= max_bytes {
            break;
        }
        bytes -= resident.bytes;
        gone.push((resident.id.clone(), Reason::Memory));
    }
    gone
}

impl Resident {
    /// When it was last of use: its last request, or its load.
    fn used(&self) -> Instant {
        self.last_used.map_or(self.loaded, |used| used.max(self.loaded))
    }

    fn is_idle(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.used());
        !self.pinned && self.idle_unload.is_some_and(|limit| idle >= limit)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let is_asked = self.last_used.is_some_and(|used| used >= self.loaded);
        !is_asked && now.saturating_duration_since(self.loaded) < GRACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// A resident by its line: name, bytes, seconds since the load, seconds since the last request (`-`: none), and
    /// `!` if it is pinned.
    fn resident(line: &str, now: Instant) -> Resident {
        let ago = |text: &str| now - Duration::from_secs(text.parse().unwrap());
        let words: Vec<&str> = line.split_whitespace().collect();
        Resident {
            id: ServableId { model: words[0].to_owned(), version: 1 },
            bytes: words[1].parse().unwrap(),
            loaded: ago(words[2]),
            last_used: (words[3] != "-").then(|| ago(words[3])),
            pinned: words.contains(&"!"),
            idle_unload: Some(IDLE),
        }
    }

    /// What goes, such as "a idle, b memory".
    fn run(lines: &[&str], max_bytes: Option<u64>) -> String {
        let now = Instant::now() + Duration::from_secs(10_000);
        let residents: Vec<Resident> = lines.iter().map(|line| resident(line, now)).collect();
        let gone = let_go(&residents, max_bytes, now);
        let text = |(id, reason): &(ServableId, Reason)| format!("{} {reason:?}", id.model).to_lowercase();
        gone.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn idle_versions_go_and_those_in_use_stay() {
        for (lines, expected) in [
            (vec![], ""),
            (vec!["a 1 100 60", "b 1 100 59"], "a idle"),
            // Nobody asked it since it was loaded: the load counts as a use, so that it can answer what woke it.
            (vec!["a 1 60 -", "b 1 59 -", "c 1 59 5000"], "a idle"),
            (vec!["a 1 5000 5000 !"], ""),
        ] {
            assert_eq!(run(&lines, None), expected, "{lines:?}");
        }
        let now = Instant::now();
        let kept = Resident { idle_unload: None, ..resident("a 1 0 0", now) };
        assert!(let_go(&[kept], None, now + Duration::from_secs(1 << 30)).is_empty(), "never is never");
    }

    #[test]
    fn over_the_limit_the_least_recently_used_go_until_the_rest_fits() {
        for (lines, max_bytes, expected) in [
            (vec!["a 10 30 3", "b 10 20 2", "c 10 10 1"], 30, ""),
            (vec!["a 10 30 3", "b 10 20 2", "c 10 10 1"], 29, "a memory"),
            (vec!["a 10 30 1", "b 10 20 3", "c 10 10 2"], 20, "b memory"),
            (vec!["a 10 30 3", "b 10 20 2", "c 10 10 1"], 10, "a memory, b memory"),
            // The version that was loaded last stays, whatever it takes.
            (vec!["a 10 30 3", "b 10 20 2", "c 99 10 9"], 10, "a memory, b memory"),
            (vec!["a 99 30 3"], 10, ""),
            // In use, though the limit is passed: it goes once it is done.
            (vec!["a 10 30 3 !", "b 10 20 2", "c 10 10 1"], 20, "b memory"),
            (vec!["a 10 30 3 !", "b 10 20 2 !", "c 10 10 1"], 10, ""),
            // Loaded a moment ago and not asked yet: spared, but not for ever.
            (vec!["a 10 4 -", "b 10 30 3", "c 10 2 1"], 10, "b memory"),
            (vec!["a 10 5 -", "b 10 30 3", "c 10 2 1"], 10, "a memory, b memory"),
            (vec!["a 10 4 3", "b 10 30 20", "c 10 2 1"], 10, "b memory, a memory"),
            // What idleness takes makes room first.
            (vec!["a 10 90 80", "b 10 20 2", "c 10 10 1"], 20, "a idle"),
            (vec!["a 0 90 3", "b 10 20 2", "c 10 10 1"], 0, "a memory, b memory"),
        ] {
            assert_eq!(run(&lines, Some(max_bytes)), expected, "{lines:?} within {max_bytes}");
        }
    }
}
