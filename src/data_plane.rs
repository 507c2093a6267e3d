//! What the request's path reads: made once by the composition root, shared by both protocols.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::budget::ByteBudget;
use crate::control::ModelControl;
use crate::health::Health;
use crate::routing::Serving;
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
    pub health: Health,
    pub budget: Arc<ByteBudget>,
    pub access_log: AccessLog,
    /// Trace and log settings that clients may read and change.
    pub settings: WireSettings,
    /// Twelve bits that tell this gateway's prediction ids from another's.
    pub gateway_id: u16,
    /// The name that server metadata gives.
    pub server_name: String,
    /// The largest request body, in bytes, after decompression; both protocols.
    pub max_body_bytes: usize,
}

impl DataPlane {
    /// Makes a new snapshot current for every request that has not been routed yet.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
        self.served.send_modify(|count| *count += 1);
    }
}
