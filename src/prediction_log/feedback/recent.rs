//! A set that forgets what came first once it is full.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// At most `capacity` members.
#[derive(Debug)]
pub struct Recent<T> {
    capacity: usize,
    members: HashSet<T>,
    /// The oldest first.
    order: VecDeque<T>,
}

impl<T: Copy + Eq + Hash> Recent<T> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, members: HashSet::new(), order: VecDeque::new() }
    }

    pub fn contains(&self, member: &T) -> bool {
        self.members.contains(member)
    }

    /// Takes a member in, and returns the one that it drove out, if any. One that is in already stays where it is.
    pub fn insert(&mut self, member: T) -> Option<T> {
        if !self.members.insert(member) {
            return None;
        }
        self.order.push_back(member);
        let oldest = if self.order.len() > self.capacity { self.order.pop_front() } else { None };
        if let Some(oldest) = &oldest {
            self.members.remove(oldest);
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent = Recent::new(2);
        assert_eq!((recent.insert(1), recent.insert(2), recent.insert(1)), (None, None, None));
        assert_eq!(recent.insert(3), Some(1));
        assert!(!recent.contains(&1) && recent.contains(&2) && recent.contains(&3));
    }
}
