//! The last entries, for a gateway without a data directory.

use super::held::Held;
use super::line::{self, Line};
use super::{AuditError, Entry, Filter, Head};

/// Entries kept; older ones are forgotten.
const MAX_ENTRIES: usize = 10_000;

pub struct MemoryLog {
    held: Held,
    head: Head,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self { held: Held::new(MAX_ENTRIES), head: Head::default() }
    }
}

impl MemoryLog {
    pub fn append(&mut self, entry: Entry) -> Result<u64, AuditError> {
        let (line, bytes) = line::next(&self.head, entry)?;
        self.head = line.head();
        self.held.push(line, bytes.len());
        Ok(self.head.number)
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn query(&self, filter: &Filter, limit: usize) -> Vec<Line> {
        let newest = self.held.iter().rev().filter(|line| filter.takes(&line.entry)).take(limit);
        let mut found: Vec<Line> = newest.cloned().collect();
        found.reverse();
        found
    }
}
