//! A small map that forgets what was used least recently.

/// At most `capacity` entries. Every operation looks at each of them, so it is for tens of entries, not thousands.
pub struct Lru<K, V> {
    capacity: usize,
    /// Least recently used first.
    entries: Vec<(K, V)>,
}

impl<K: PartialEq, V> Lru<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: Vec::with_capacity(capacity) }
    }

    /// The value of `key`, which thereby is the most recently used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        let position = self.entries.iter().position(|(held, _)| held == key)?;
        self.entries[position..].rotate_left(1);
        self.entries.last_mut().map(|(_, value)| value)
    }

    /// Whether there is a value of `key`, which does not count as a use.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.iter().any(|(held, _)| held == key)
    }

    /// The values, the least recently used first.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Puts a value in, in place of an equal key's or of the least recently used entry, which it returns.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let equal = self.entries.iter().position(|(held, _)| *held == key);
        let oldest = (self.entries.len() >= self.capacity && !self.entries.is_empty()).then_some(0);
        let removed = equal.or(oldest).map(|position| self.entries.remove(position).1);
        self.entries.push((key, value));
        removed
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let position = self.entries.iter().position(|(held, _)| held == key)?;
        Some(self.entries.remove(position).1)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_gives_way() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.insert("a", 1), None);
        assert_eq!(lru.insert("b", 2), None);
        assert_eq!(lru.get(&"a"), Some(&mut 1));
        assert!(lru.contains(&"b"), "which is no use of it");
        assert_eq!(lru.insert("c", 3), Some(2));
        assert!(lru.get(&"b").is_none());
        assert_eq!((lru.len(), lru.values().copied().collect::<Vec<_>>()), (2, vec![1, 3]));
        assert_eq!(lru.insert("a", 4), Some(1));
        assert_eq!((lru.remove(&"a"), lru.len()), (Some(4), 1));
    }
}
