//! The last minute of each arm: what guards look at and what an operator sees.

use std::collections::VecDeque;

use crate::rollout::spec::Metric;
use crate::rollout::statistics::LatencyHistogram;
use crate::routing::{Arm, Sample};

const SLOT_MS: u64 = 10_000;
const SLOTS: usize = 6;
/// Requests in the last minute from which on a guard has something to say.
pub const MIN_GUARD_SAMPLES: u64 = 20;

/// The arms' last minutes. Not kept across a restart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recent {
    slots: VecDeque<Slot>,
    /// Unix times in ms: of the first observation, and of the last look.
    first_ms: Option<u64>,
    now_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Slot {
    began_ms: u64,
    arms: [Minute; 3],
    queue: LatencyHistogram,
}

/// What one arm did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Minute {
    pub requests: u64,
    pub errors: u64,
    pub latency: LatencyHistogram,
}

impl Recent {
    pub fn observe(&mut self, sample: &Sample, now_ms: u64) {
        let Some(arm) = index(sample.arm) else { return };
        self.first_ms.get_or_insert(now_ms);
        self.forget(now_ms);
        let began_ms = now_ms - now_ms % SLOT_MS;
        if self.slots.back().is_none_or(|slot| slot.began_ms != began_ms) {
            self.slots.push_back(Slot { began_ms, ..Slot::default() });
        }
        let Some(slot) = self.slots.back_mut() else { return };
        let minute = &mut slot.arms[arm];
        minute.requests += 1;
        minute.errors += u64::from(sample.error);
        minute.latency.record(sample.latency_us.into());
        slot.queue.record(sample.queue_us.into());
    }

    /// Leaves out what is older than a minute.
    pub fn forget(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let oldest = now_ms.saturating_sub(SLOT_MS * SLOTS as u64);
        while self.slots.front().is_some_and(|slot| slot.began_ms <= oldest) {
            self.slots.pop_front();
        }
    }

    /// Requests a second of these arms; `None` before there is a second to speak of.
    pub fn rate(&self, arms: &[Arm]) -> Option<f64> {
        let watched_ms = self.now_ms.saturating_sub(self.first_ms?).min(SLOT_MS * SLOTS as u64);
        (watched_ms >= 1000).then(|| self.of(arms).requests as f64 * 1e3 / watched_ms as f64)
    }

    /// What these arms did together.
    pub fn of(&self, arms: &[Arm]) -> Minute {
        let mut sum = Minute::default();
        let minutes = self.slots.iter().flat_map(|slot| arms.iter().filter_map(|arm| Some(&slot.arms[index(*arm)?])));
        for minute in minutes {
            sum.requests += minute.requests;
            sum.errors += minute.errors;
            sum.latency.merge(&minute.latency);
        }
        sum
    }

    /// A guard's metric; `None` while too few requests came.
    pub fn metric(&self, metric: Metric) -> Option<f64> {
        const STABLE: &[Arm] = &[Arm::Stable, Arm::Control];
        const CANDIDATE: &[Arm] = &[Arm::Candidate];
        let latency_ms = |arms, p| {
            let minute = Some(self.of(arms)).filter(|minute| minute.requests >= MIN_GUARD_SAMPLES)?;
            Some(minute.latency.quantile(p)? as f64 / 1e3)
        };
        let error_rate = |arms| {
            let minute = Some(self.of(arms)).filter(|minute| minute.requests >= MIN_GUARD_SAMPLES)?;
            Some(minute.errors as f64 / minute.requests as f64)
        };
        match metric {
            Metric::StableP50Ms => latency_ms(STABLE, 0.5),
            Metric::StableP95Ms => latency_ms(STABLE, 0.95),
            Metric::StableP99Ms => latency_ms(STABLE, 0.99),
            Metric::StableErrorRate => error_rate(STABLE),
            Metric::CandidateP50Ms => latency_ms(CANDIDATE, 0.5),
            Metric::CandidateP95Ms => latency_ms(CANDIDATE, 0.95),
            Metric::CandidateP99Ms => latency_ms(CANDIDATE, 0.99),
            Metric::CandidateErrorRate => error_rate(CANDIDATE),
            Metric::QueueWaitP99Ms => self.queue_wait_ms(0.99),
        }
    }

    fn queue_wait_ms(&self, p: f64) -> Option<f64> {
        let mut all = LatencyHistogram::default();
        self.slots.iter().for_each(|slot| all.merge(&slot.queue));
        Some(all).filter(|all| all.count() >= MIN_GUARD_SAMPLES)?.quantile(p).map(|us| us as f64 / 1e3)
    }
}

/// The arms that answer clients.
pub fn index(arm: Arm) -> Option<usize> {
    match arm {
        Arm::Stable => Some(0),
        Arm::Candidate => Some(1),
        Arm::Control => Some(2),
        Arm::Shadow => None,
    }
}
