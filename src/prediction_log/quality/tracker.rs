//! The live join between the thread that writes predictions and the one that keeps feedback.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::early::Told;
use super::extract::instances;
use super::group::QualityReport;
use super::join::{Fill, Join, Sight};
use super::record::Bounds;
use crate::prediction_log::entry::{Entry, Outcome, Witness};
use crate::prediction_log::feedback::{Credit, Feedback, Judge};
use crate::routing::{Arm, LabelSample};

/// Where a rollout's evidence goes: its id, and what turned out of one answer. Must not block.
pub type EvidenceSink = Box<dyn Fn(&str, LabelSample) + Send + Sync>;

/// Realised quality of everything that this process answers.
pub struct Tracker {
    join: Mutex<Join>,
    evidence: OnceLock<EvidenceSink>,
}

/// The half that sees predictions, on the writer's thread.
pub struct QualityWitness(Arc<Tracker>);

/// The half that hears feedback, on the thread that keeps it.
pub struct QualityJudge(Arc<Tracker>);

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").field("fill", &self.fill()).finish_non_exhaustive()
    }
}

impl Tracker {
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { join: Mutex::new(Join::new(bounds)), evidence: OnceLock::new() })
    }

    /// Says where the evidence for rollouts goes; before that, and for all but the first call, it goes nowhere.
    pub fn send_evidence_to(&self, sink: EvidenceSink) {
        // The first stays.
        let _ = self.evidence.set(sink);
    }

    pub fn witness(self: &Arc<Self>) -> QualityWitness {
        QualityWitness(self.clone())
    }

    pub fn judge(self: &Arc<Self>) -> QualityJudge {
        QualityJudge(self.clone())
    }

    /// One report a version and arm, by model and version; of one model if it is named.
    pub fn report(&self, model: Option<&str>) -> Vec<QualityReport> {
        let join = self.join();
        let asked_for = join.groups().filter(|group| model.is_none_or(|model| group.model == model));
        let mut reports: Vec<QualityReport> = asked_for.map(|group| group.report()).collect();
        reports.sort_by(|a, b| (&a.model, a.version, &a.arm).cmp(&(&b.model, b.version, &b.arm)));
        reports
    }

    /// How full the join is, and what it had to leave out.
    pub fn fill(&self) -> Fill {
        self.join().fill()
    }

    pub(super) fn join(&self) -> MutexGuard<'_, Join> {
        self.join.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the join, and hands on the evidence that follows.
    pub(super) fn with(&self, act: impl FnOnce(&mut Join)) {
        let evidence = {
            let mut join = self.join();
            act(&mut join);
            join.take_evidence()
        };
        if let Some(sink) = self.evidence.get() {
            evidence.into_iter().for_each(|(rollout, sample)| sink(&rollout, sample));
        }
    }
}

impl Witness for QualityWitness {
    fn see(&mut self, entry: &Entry) {
        let Some(plan) = &entry.version.quality else { return };
        // A copy is nobody's answer: nothing is ever told of it.
        if entry.outcome != Outcome::Answered || entry.arm == Arm::Shadow {
            return;
        }
        // Outside the lock.
        let instances = instances(plan, &entry.inputs, &entry.outputs, entry.rows);
        let client = entry.client_id.as_str();
        let sight = Sight {
            plan,
            model: &entry.version.model,
            version: entry.version.version,
            arm: entry.arm,
            id: entry.id,
            row: 0,
            request: if client.is_empty() { entry.request_id.as_str() } else { client },
            ended_us: unix_us(entry.ended),
            rollout: entry.rollout.as_ref(),
            rows: u32::try_from(entry.rows).unwrap_or(u32::MAX),
            instances,
        };
        self.0.with(|join| join.see(sight));
    }
}

impl Judge for QualityJudge {
    /// Whoever answered is known from the prediction itself.
    fn judge(&mut self, feedback: &Feedback, _: Option<&Credit>) {
        self.0.with(|join| join.tell(&feedback.subject, Told::of(feedback, false)));
    }

    fn tick(&mut self, now_us: i64) {
        self.0.with(|join| join.tick(now_us));
    }
}

/// Unix time in µs.
fn unix_us(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}
