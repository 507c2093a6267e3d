//! What a request collects on its way for the prediction log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Kind};
use crate::inference::{Attributes, PredictionId, RequestContext};
use crate::prediction_log::{Durability, Entry, Outcome, RolloutPart, Synced, VersionLog};
use crate::routing::{Arm, BASIS_POINTS, KEY_HEADER, Share};
use crate::tensor::Tensor;

/// A request's part of the log, from the moment that its inputs are known to be sound.
pub struct LogPart {
    version: Arc<VersionLog>,
    client_id: String,
    sample_hash: u64,
    inputs: Vec<Tensor>,
    /// Of all the model's outputs, once it has answered.
    pub outputs: Vec<Tensor>,
    pub batch_size: usize,
}

/// What is known at the end of a request, beside its part.
pub struct Ending<'a> {
    pub context: &'a RequestContext,
    pub id: PredictionId,
    pub arm: Arm,
    pub share: Option<&'a Share>,
    pub outcome: Outcome,
    pub rows: usize,
    pub total: Duration,
    pub queue: Duration,
    pub compute: Duration,
    pub synced: Option<oneshot::Sender<Synced>>,
}

impl LogPart {
    pub fn new(version: Arc<VersionLog>, client_id: String, sample_hash: u64, inputs: Vec<Tensor>) -> Self {
        Self { version, client_id, sample_hash, inputs, outputs: vec![], batch_size: 0 }
    }

    /// Whether the caller waits for its rows to be on the disk.
    pub fn is_required(&self) -> bool {
        self.version.settings.durability == Durability::Required
    }

    pub fn entry(self, ending: Ending<'_>) -> Box<Entry> {
        let Ending { context, id, arm, share, outcome, rows, total, queue, compute, synced } = ending;
        let rollout = share.and_then(|share| {
            let assigned = share.assigned?;
            let (id, weights) = (share.split.rollout.clone(), share.weights);
            Some(RolloutPart { id, weights, key: assigned.key, forced: assigned.forced })
        });
        let called = context.model.name.as_str();
        Box::new(Entry {
            id,
            request_id: context.request_id.clone(),
            client_id: self.client_id,
            route: (called != self.version.model).then(|| called.into()),
            ended: SystemTime::now(),
            total,
            queue,
            compute,
            batch_size: u32::try_from(self.batch_size).unwrap_or(u32::MAX),
            arm,
            arm_probability: rollout.as_ref().map_or(1.0, |rollout| probability(arm, rollout)),
            rollout,
            sample_hash: self.sample_hash,
            outcome,
            inputs: self.inputs,
            outputs: self.outputs,
            rows,
            synced,
            version: self.version,
        })
    }
}

/// The probability with which a request of this rollout met its arm.
fn probability(arm: Arm, rollout: &RolloutPart) -> f32 {
    let weights = rollout.weights;
    let share_bp = match arm {
        _ if rollout.forced => BASIS_POINTS,
        Arm::Stable => weights.stable(),
        Arm::Candidate => weights.candidate(),
        Arm::Control => weights.control(),
        Arm::Shadow => BASIS_POINTS,
    };
    // Without a share there is the breaker's trip between assignment and here, or a rule: the request was there for sure.
    if share_bp == 0 { 1.0 } else { f32::from(share_bp) / f32::from(BASIS_POINTS) }
}

/// The same for all requests of one sticky key, whatever rollout is under way; without a key each request has its own.
pub fn sample_hash(context: &RequestContext, caller: &dyn Attributes, parameters: &[(String, String)]) -> u64 {
    let parameter = || parameters.iter().find(|(name, _)| name == KEY_HEADER).map(|(_, value)| value.as_bytes());
    let key = caller.get(KEY_HEADER).or_else(parameter).filter(|key| !key.is_empty());
    xxh3_64(key.unwrap_or(context.request_id.as_str().as_bytes()))
}

/// What the log says of an error: `None` for one that is counted and not written, be it the client's or for want of
/// capacity. A flood of refusals must not fill the disk.
pub fn failure(error: &Error) -> Option<Outcome> {
    match error.kind() {
        Kind::Internal => Some(Outcome::Failed(error.to_string())),
        _ => None,
    }
}
