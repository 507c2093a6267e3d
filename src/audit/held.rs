//! The newest lines, bounded by count and by bytes.

use std::collections::VecDeque;

use super::MAX_HELD_BYTES;
use super::line::Line;

pub struct Held {
    /// Each with the bytes that it takes in a file.
    lines: VecDeque<(Line, usize)>,
    bytes: usize,
    most: usize,
}

impl Held {
    pub fn new(most: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, most }
    }

    /// Adds a line; the oldest give way where there are too many.
    pub fn push(&mut self, line: Line, bytes: usize) {
        self.lines.push_back((line, bytes));
        self.bytes += bytes;
        while self.lines.len() > self.most || (self.bytes > MAX_HELD_BYTES && self.lines.len() > 1) {
            self.bytes -= self.lines.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// From the oldest to the newest.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines.iter().map(|(line, _)| line)
    }

    pub fn into_lines(self) -> Vec<Line> {
        self.lines.into_iter().map(|(line, _)| line).collect()
    }
}
