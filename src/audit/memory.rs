//! The last entries, for a gateway without a data directory.

use std::collections::VecDeque;

use super::line::{self, Line};
use super::{Entry, Filter, Head};

/// Entries kept; older ones are forgotten.
const MAX_ENTRIES: usize = 10_000;

#[derive(Default)]
pub struct MemoryLog {
    lines: VecDeque<Line>,
    head: Head,
}

impl MemoryLog {
    pub fn append(&mut self, entry: Entry) -> Result<u64, super::AuditError> {
        let (line, _) = line::next(&self.head, entry)?;
        if self.lines.len() == MAX_ENTRIES {
            self.lines.pop_front();
        }
        self.head = line.head();
        self.lines.push_back(line);
        Ok(self.head.number)
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn query(&self, filter: &Filter, limit: usize) -> Vec<Line> {
        let mut found: Vec<Line> =
            self.lines.iter().rev().filter(|line| filter.takes(&line.entry)).take(limit).cloned().collect();
        found.reverse();
        found
    }
}
