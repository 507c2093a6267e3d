//! Files that wait for their upload.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::outbound::RetryPolicy;

/// Most files that are waited for at a time. Further ones are found by a later look at the folders.
pub const MAX_WAITING: usize = 100_000;

/// What waits, by name.
#[derive(Debug, Default)]
pub struct Queue {
    files: BTreeMap<String, Attempts>,
}

#[derive(Debug)]
struct Attempts {
    failures: u32,
    /// When it is tried; `None` while it is.
    due: Option<Instant>,
}

impl Queue {
    /// Takes a file in, unless it waits already.
    pub fn add(&mut self, name: String, now: Instant) {
        if self.files.len() < MAX_WAITING {
            self.files.entry(name).or_insert(Attempts { failures: 0, due: Some(now) });
        }
    }

    /// The first file that is due; it is under way from now on.
    pub fn take(&mut self, now: Instant) -> Option<String> {
        let due = |attempts: &Attempts| attempts.due.is_some_and(|due| due <= now);
        let (name, attempts) = self.files.iter_mut().find(|(_, attempts)| due(attempts))?;
        attempts.due = None;
        Some(name.clone())
    }

    /// The file is looked at again, at once.
    pub fn again(&mut self, name: &str, now: Instant) {
        if let Some(attempts) = self.files.get_mut(name) {
            *attempts = Attempts { failures: 0, due: Some(now) };
        }
    }

    /// The files that are under way.
    pub fn under_way(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|(_, attempts)| attempts.due.is_none()).map(|(name, _)| name.as_str())
    }

    /// The file is uploaded, or gone.
    pub fn done(&mut self, name: &str) {
        self.files.remove(name);
    }

    /// The file was not taken; gives the wait until it is tried again. No file is given up.
    pub fn failed(&mut self, name: &str, policy: &RetryPolicy, (now, random): (Instant, u32)) -> Duration {
        let Some(attempts) = self.files.get_mut(name) else { return Duration::ZERO };
        attempts.failures = attempts.failures.saturating_add(1);
        let wait = policy.wait(attempts.failures, Duration::ZERO, random).unwrap_or(policy.most);
        attempts.due = Some(now + wait);
        wait
    }

    /// When the next file is due that is not under way.
    pub fn next_due(&self) -> Option<Instant> {
        self.files.values().filter_map(|attempts| attempts.due).min()
    }

    /// Files that wait, those under way among them.
    pub fn len(&self) -> usize {
        self.files.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_tried_again_after_its_wait_and_others_meanwhile() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let policy = RetryPolicy { first: Duration::from_secs(2), ..RetryPolicy::default() };
        for name in ["b", "a", "a"] {
            queue.add(name.to_owned(), start);
        }
        assert_eq!((queue.len(), queue.take(start).as_deref()), (2, Some("a")));
        queue.add("a".to_owned(), start);
        assert_eq!(queue.failed("a", &policy, (start, u32::MAX)), Duration::from_secs(2));
        assert_eq!(queue.take(start).as_deref(), Some("b"));
        assert_eq!((queue.take(start), queue.next_due()), (None, Some(start + Duration::from_secs(2))));
        queue.done("b");
        assert_eq!(queue.take(start + Duration::from_secs(2)).as_deref(), Some("a"));
        assert_eq!(queue.failed("a", &policy, (start, u32::MAX)), Duration::from_secs(4));
        queue.done("a");
        assert_eq!((queue.len(), queue.next_due()), (0, None));
    }
}
