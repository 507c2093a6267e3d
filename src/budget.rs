//! The global budget of request bytes in flight.
//!
//! A client may claim 64 MiB with a five-byte prefix, a hundred times over; the budget is what such claims are paid
//! from before anything is allocated for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Bytes of request bodies that may be in memory at one time, over all connections and protocols.
#[derive(Debug)]
pub struct ByteBudget {
    limit: u64,
    in_use: AtomicU64,
    refused: AtomicU64,
}

impl ByteBudget {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, in_use: AtomicU64::new(0), refused: AtomicU64::new(0) })
    }

    /// An empty lease, to be grown as bytes arrive.
    pub fn lease(self: &Arc<Self>) -> ByteLease {
        ByteLease { budget: self.clone(), held: 0 }
    }

    pub fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How often a lease could not grow, which ends its request.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// A share of the budget, given back when it is dropped.
#[derive(Debug)]
pub struct ByteLease {
    budget: Arc<ByteBudget>,
    held: u64,
}

impl ByteLease {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// `OutOfBudget`, and the lease stays as it was.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Error> {
        let limit = self.budget.limit;
        self.budget
            .in_use
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |in_use| {
                in_use.checked_add(bytes).filter(|&total| total <= limit)
            })
            .map_err(|in_use| {
                self.budget.refused.fetch_add(1, Ordering::Relaxed);
                Error::OutOfBudget { in_use, limit, wanted: bytes }
            })?;
        self.held += bytes;
        Ok(())
    }

    /// Takes what is missing to hold `bytes` in all.
    ///
    /// # Errors
    /// As `grow`.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Error> {
        self.grow(bytes.saturating_sub(self.held))
    }
}

impl Drop for ByteLease {
    fn drop(&mut self) {
        self.budget.in_use.fetch_sub(self.held, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_refused_beyond_the_limit_and_given_back_on_drop() {
        let budget = ByteBudget::new(100);
        let mut first = budget.lease();
        first.grow(60).unwrap();
        let mut second = budget.lease();
        assert!(matches!(second.grow(41), Err(Error::OutOfBudget { in_use: 60, limit: 100, wanted: 41 })));
        second.grow_to(40).unwrap();
        second.grow_to(40).unwrap();
        assert_eq!(budget.in_use(), 100);
        drop(first);
        assert_eq!(budget.in_use(), 40);
        assert!(second.grow(u64::MAX).is_err());
        assert_eq!(budget.refused(), 2);
    }
}
