//! What the request's path reads: made once by the composition root, shared by both protocols.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::budget::ByteBudget;
use crate::control::ModelControl;
use crate::error::{Error, Result};
use crate::health::Health;
use crate::inference::{Attributes, Deadline, ModelRef};
use crate::prediction_log::PredictionLog;
use crate::prediction_log::feedback::FeedbackLog;
use crate::routing::shadow::Shadows;
use crate::routing::{Backend, Lane, Routed, Serving};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::settings::WireSettings;

/// What server metadata advertises, by the protocol's names, on both protocols.
pub const EXTENSIONS: [&str; 9] = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
];

/// The shared state of the data plane.
pub struct DataPlane {
    /// Written by the control plane, loaded once a request.
    pub serving: ArcSwap<Serving>,
    /// Ticks after each new snapshot, for those who wait for a change.
    pub served: watch::Sender<u64>,
    pub control: Arc<dyn ModelControl>,
    /// Takes the copies of requests that a rollout compares.
    pub shadows: Shadows,
    /// Takes what requests leave behind to be written down.
    pub log: PredictionLog,
    pub health: Health,
    pub budget: Arc<ByteBudget>,
    pub access_log: AccessLog,
    /// Takes what really happened after predictions.
    pub feedback: FeedbackLog,
    /// Trace and log settings that clients may read and change.
    pub settings: WireSettings,
    /// Twelve bits that tell this gateway's prediction ids from another's.
    pub gateway_id: u16,
    /// The name that server metadata gives.
    pub server_name: String,
    /// The largest request body, in bytes, after decompression; both protocols.
    pub max_body_bytes: usize,
    /// Longest that a request waits for a cold version to be loaded.
    pub cold_start_timeout: Duration,
}

impl DataPlane {
    /// Where a prediction goes: to one arm of a split route, else to the backend that answers.
    ///
    /// # Errors
    /// As `route`.
    pub async fn lane(&self, model: &ModelRef, caller: &dyn Attributes, deadline: Deadline) -> Result<Lane> {
        let routed = {
            let serving = self.serving.load();
            match serving.split(model) {
                Some(split) => return Ok(Lane::of_split(split.clone(), caller, fastrand::u64(..))),
                None => serving.route(model)?,
            }
        };
        self.ready(model, routed, deadline).await.map(Lane::whole)
    }

    /// The backend that answers this reference. A version that is cold is loaded first, and the call waits for it.
    ///
    /// # Errors
    /// As [`Serving::route`]; `DeadlineExceeded` or `Unavailable` when a cold version isn't there in time.
    pub async fn route(&self, model: &ModelRef, deadline: Deadline) -> Result<Arc<Backend>> {
        let routed = self.serving.load().route(model)?;
        self.ready(model, routed, deadline).await
    }

    async fn ready(&self, model: &ModelRef, routed: Routed, deadline: Deadline) -> Result<Arc<Backend>> {
        match routed {
            Routed::Ready(backend) => Ok(backend),
            // Boxed, so that the path of every other request stays small.
            Routed::Cold(version) => Box::pin(self.warm(model, version, deadline)).await,
        }
    }

    async fn warm(&self, model: &ModelRef, mut version: u64, deadline: Deadline) -> Result<Arc<Backend>> {
        let name = self.serving.load().model_behind(&model.name).to_owned();
        let warmed = async {
            loop {
                self.control.warm(name.clone(), version).await?;
                // What became of it is in the snapshot: ready, failed with its reason, or another answers in its place.
                let routed = self.serving.load().route(model)?;
                version = match routed {
                    Routed::Ready(backend) => return Ok(backend),
                    Routed::Cold(version) => version,
                };
            }
        };
        let own = deadline.instant().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = own.map_or(self.cold_start_timeout, |own| own.min(self.cold_start_timeout));
        tokio::time::timeout(wait, warmed).await.unwrap_or_else(|_| Err(self.still_cold(model, deadline)))
    }

    fn still_cold(&self, model: &ModelRef, deadline: Deadline) -> Error {
        if deadline.passed(Instant::now()) {
            return Error::DeadlineExceeded { stage: "while the model was loaded" };
        }
        let (name, seconds) = (&model.name, self.cold_start_timeout.as_secs_f64());
        Error::Unavailable(format!("model '{name}' is cold and could not be loaded within {seconds} s"))
    }

    /// Makes a new snapshot current for every request that has not been routed yet.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
        self.served.send_modify(|count| *count += 1);
    }
}
