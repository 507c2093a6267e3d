//! When a shape gets a plan of its own.
//!
//! A plan made for one shape runs up to 3.5 times faster than the symbolic plan, which serves every shape, but building
//! it takes as long as many runs. What shapes come next is not known, so the rule is that of renting skis: a shape has
//! earned its plan once the symbolic plan has spent as much time on it as a build takes. Whatever a client sends, the
//! time spent building is at most the time spent running, and no request waits for a build on behalf of a shape that
//! comes once.

use std::time::Duration;

use crate::engine::lru::Lru;

/// Shapes whose spending is remembered.
pub const MAX_REMEMBERED_SHAPES: usize = 64;

/// What the symbolic plan has spent on each of the shapes seen lately.
pub struct Ledger<K> {
    build_cost: Duration,
    spent: Lru<K, Duration>,
}

impl<K: PartialEq + Clone> Ledger<K> {
    /// `build_cost` is what building a plan took when the model was loaded.
    pub fn new(build_cost: Duration) -> Self {
        Self { build_cost, spent: Lru::new(MAX_REMEMBERED_SHAPES) }
    }

    /// Notes a run of the symbolic plan.
    pub fn charge(&mut self, key: &K, run: Duration) {
        match self.spent.get(key) {
            Some(spent) => *spent += run,
            None => drop(self.spent.insert(key.clone(), run)),
        }
    }

    /// Whether the shape has earned a plan of its own. If so it must earn the next one, whether or not this build
    /// succeeds and however soon its plan has to give way.
    pub fn claim(&mut self, key: &K) -> bool {
        let earned = self.spent.get(key).is_some_and(|spent| *spent >= self.build_cost);
        if earned {
            self.spent.remove(key);
        }
        earned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_shape_earns_its_plan_by_what_it_costs_without() {
        let mut ledger = Ledger::new(10 * MS);
        for _ in 0..3 {
            assert!(!ledger.claim(&"a"));
            ledger.charge(&"a", 4 * MS);
        }
        assert!(ledger.claim(&"a"));
        assert!(!ledger.claim(&"a"), "the next plan has to be earned again");
    }

    #[test]
    fn a_client_that_varies_its_shapes_never_pays_for_more_builds_than_runs() {
        let mut ledger = Ledger::new(10 * MS);
        let (mut built, mut ran) = (Duration::ZERO, Duration::ZERO);
        for request in 0..10_000u64 {
            let shape = request * request % 97;
            if ledger.claim(&shape) {
                built += 10 * MS;
            }
            ledger.charge(&shape, 3 * MS);
            ran += 3 * MS;
        }
        assert!(built <= ran, "{built:?} of builds for {ran:?} of runs");
        assert!(ledger.spent.len() <= MAX_REMEMBERED_SHAPES);
    }
}
