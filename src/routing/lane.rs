//! A request's way through a split, from its headers to the queue that it joins.

use std::sync::Arc;

use super::assignment::{Assigned, Choice};
use super::{Arm, Backend, Split, Weights};
use crate::inference::Attributes;

/// Where a request goes.
#[derive(Debug)]
pub struct Lane {
    pub backend: Arc<Backend>,
    /// `None` where nothing is split.
    pub share: Option<Share>,
}

/// A request's part in a split.
#[derive(Debug, Clone)]
pub struct Share {
    pub split: Arc<Split>,
    /// In force when it came.
    pub weights: Weights,
    /// `None` until the body is decoded, where its parameters decide.
    pub assigned: Option<Assigned>,
    random: u64,
}

impl Lane {
    /// The lane of a request on a route that is not split.
    pub fn whole(backend: Arc<Backend>) -> Self {
        Self { backend, share: None }
    }

    /// The lane of a request on a split route, as far as its headers say; stable's where they don't. `random` are 64
    /// random bits.
    pub fn of_split(split: Arc<Split>, caller: &dyn Attributes, random: u64) -> Self {
        let weights = split.dial.weights();
        let mut share = Share { split, weights, assigned: None, random };
        let backend = share.assign(caller, None).clone();
        Self { backend, share: Some(share) }
    }

    /// Says the last word on a lane that had to wait for the request's parameters. Gives whether it did.
    pub fn settle(&mut self, caller: &dyn Attributes, parameters: &[(String, String)]) -> bool {
        let Some(share) = self.share.as_mut().filter(|share| share.assigned.is_none()) else { return false };
        self.backend = share.assign(caller, Some(parameters)).clone();
        true
    }
}

impl Share {
    fn assign(&mut self, caller: &dyn Attributes, parameters: Option<&[(String, String)]>) -> &Arc<Backend> {
        let Self { split, weights, .. } = self;
        if let Choice::Assigned(mut assigned) = split.assignment.choose(caller, parameters, *weights, self.random) {
            // Where the candidate has no share, before its first step and after a rollback, nobody is sent there, not even
            // by force.
            if assigned.arm == Arm::Candidate && !split.dial.is_open() {
                assigned.arm = Arm::Stable;
            }
            self.assigned = Some(assigned);
        }
        self.split.backend(self.assigned.map_or(Arm::Stable, |assigned| assigned.arm))
    }

    /// The assignment, if the request counts in the statistics.
    pub fn counted(&self) -> Option<&Assigned> {
        self.assigned.as_ref().filter(|assigned| !assigned.forced)
    }

    /// The assignment, if the request is one of those that are copied. The candidate's own are not: there is nothing to
    /// compare.
    pub fn copied(&self) -> Option<&Assigned> {
        let share_bp = self.split.dial.shadow_bp();
        self.assigned
            .as_ref()
            .filter(|assigned| share_bp > 0 && assigned.arm != Arm::Candidate && assigned.is_copied(share_bp))
    }
}
