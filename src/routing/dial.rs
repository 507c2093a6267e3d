//! What of a split may change without a new snapshot: the shares, in one atomic, so that taking a share away is one store
//! that waits for nobody.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::arm::Arm;
use super::breaker::{Breaker, Trip};

/// Parts into which a route's traffic is divided.
pub const BASIS_POINTS: u16 = 10_000;

/// Shares in basis points; the stable arm has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weights {
    candidate: u16,
    control: u16,
}

impl Weights {
    pub const ALL_STABLE: Self = Self { candidate: 0, control: 0 };

    /// The shares of candidate and control; what is too much is cut.
    pub fn new(candidate: u16, control: u16) -> Self {
        let candidate = candidate.min(BASIS_POINTS);
        Self { candidate, control: control.min(BASIS_POINTS - candidate) }
    }

    /// The candidate's share, cut to all there is, and a control of the same size or what is left.
    pub fn of_candidate(candidate: u16) -> Self {
        let candidate = candidate.min(BASIS_POINTS);
        Self { candidate, control: candidate.min(BASIS_POINTS - candidate) }
    }

    pub fn candidate(self) -> u16 {
        self.candidate
    }

    pub fn control(self) -> u16 {
        self.control
    }

    pub fn stable(self) -> u16 {
        BASIS_POINTS - self.candidate - self.control
    }

    fn packed(self) -> u32 {
        u32::from(self.candidate) << 16 | u32::from(self.control)
    }

    fn unpacked(bits: u32) -> Self {
        Self { candidate: (bits >> 16) as u16, control: bits as u16 }
    }
}

/// What became of one request on a split route, as the statistics see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub arm: Arm,
    /// In force when it was assigned.
    pub weights: Weights,
    /// Hash of the sticky key; `None` for a request that was assigned at random.
    pub key: Option<u64>,
    /// The model failed, or its answer came too late.
    pub error: bool,
    /// The answer was not finite, or out of the range that the settings declare.
    pub invalid: bool,
    /// From the first byte to the encoded answer.
    pub latency_us: u32,
    pub queue_us: u32,
}

/// A copy's answer beside the primary's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShadowSample {
    pub key: Option<u64>,
    /// The copy failed where the primary did not.
    pub failed: bool,
    pub max_abs_difference: f64,
    pub max_rel_difference: f64,
    /// Whether any element differs by more than the tolerance.
    pub disagrees: bool,
    /// `None` where the outputs have no classes.
    pub same_class: Option<bool>,
    pub primary_us: u32,
    pub shadow_us: u32,
}

/// What turned out of one answer, told later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelSample {
    pub arm: Arm,
    /// In force when the request was assigned.
    pub weights: Weights,
    /// Hash of the sticky key; `None` for a request that was assigned at random.
    pub key: Option<u64>,
    /// The answer was a bad one.
    pub wrong: bool,
    /// XXH3 of the feedback's name.
    pub feedback: u64,
    /// Whether that is the feedback that the model's quality goes by.
    pub is_truth: bool,
}

/// What the data plane tells the control plane of a split route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Observation {
    Served(Sample),
    Mirrored(ShadowSample),
    Labelled(LabelSample),
}

/// Observations that may wait to be read; more are dropped and counted.
pub const MAX_WAITING_OBSERVATIONS: usize = 1 << 16;

/// The part of a split that both planes hold.
#[derive(Debug)]
pub struct Dial {
    weights: AtomicU32,
    shadow: AtomicU32,
    observations: mpsc::Sender<Observation>,
    observations_dropped: AtomicU64,
    shadows_dropped: AtomicU64,
    breaker: Breaker,
}

impl Dial {
    /// A dial with everything on stable, and the end at which observations are read.
    pub fn new() -> (Self, mpsc::Receiver<Observation>) {
        let (observations, receiver) = mpsc::channel(MAX_WAITING_OBSERVATIONS);
        let dial = Self {
            weights: AtomicU32::new(Weights::ALL_STABLE.packed()),
            shadow: AtomicU32::new(0),
            observations,
            observations_dropped: AtomicU64::new(0),
            shadows_dropped: AtomicU64::new(0),
            breaker: Breaker::default(),
        };
        (dial, receiver)
    }

    /// In force now: all on stable once the breaker has tripped, whatever was set since.
    pub fn weights(&self) -> Weights {
        match self.breaker.tripped() {
            None => Weights::unpacked(self.weights.load(Ordering::Acquire)),
            Some(_) => Weights::ALL_STABLE,
        }
    }

    /// In force for every request that is assigned from now on.
    pub fn set_weights(&self, weights: Weights) {
        self.weights.store(weights.packed(), Ordering::Release);
    }

    /// Requests that are copied, in basis points; none once the breaker has tripped.
    pub fn shadow_bp(&self) -> u16 {
        match self.breaker.tripped() {
            None => self.shadow.load(Ordering::Acquire) as u16,
            Some(_) => 0,
        }
    }

    pub fn set_shadow_bp(&self, bp: u16) {
        self.shadow.store(bp.min(BASIS_POINTS).into(), Ordering::Release);
    }

    /// Takes the candidate's share and its shadow away at once.
    pub fn shut(&self) {
        self.set_weights(Weights::ALL_STABLE);
        self.set_shadow_bp(0);
    }

    /// Whether the candidate gets requests or copies of them.
    pub fn is_open(&self) -> bool {
        self.weights().candidate() > 0 || self.shadow_bp() > 0
    }

    /// Takes note of one answer in the breaker, whose trip takes effect at once.
    pub fn note(&self, arm: Arm, invalid: bool, failed: bool) -> Option<Trip> {
        self.breaker.note(arm, invalid, failed).inspect(|_| self.shut())
    }

    /// Whether the path has taken the candidate's share away by itself, and why. It stays so for the dial's life.
    pub fn tripped(&self) -> Option<Trip> {
        self.breaker.tripped()
    }

    /// Hands an observation over; never waits.
    pub fn observe(&self, observation: Observation) {
        if self.observations.try_send(observation).is_err() {
            self.observations_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Observations that nobody read in time.
    pub fn observations_dropped(&self) -> u64 {
        self.observations_dropped.load(Ordering::Relaxed)
    }

    /// Counts a copy that was not run because there was no spare capacity.
    pub fn drop_shadow(&self) {
        self.shadows_dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub fn shadows_dropped(&self) -> u64 {
        self.shadows_dropped.load(Ordering::Relaxed)
    }
}
