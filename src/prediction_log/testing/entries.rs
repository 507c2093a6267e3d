//! Entries of a small model, as requests leave them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::inference::{PredictionId, RequestId};
use crate::prediction_log::columns::VersionLog;
use crate::prediction_log::entry::{Entry, Outcome};
use crate::prediction_log::ring::{PredictionLog, RowCounts};
use crate::prediction_log::settings::LogSettings;
use crate::routing::Arm;
use crate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor};

/// A version whose only input and output are a number for each row.
pub fn version(log: &PredictionLog, model: &str, settings: LogSettings) -> Arc<VersionLog> {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DataType::Fp32,
        dims: Some(vec![Dim::Unknown]),
        classes: vec![],
    };
    let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] };
    let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batching: Batching::Proven(axes) };
    let counts: Arc<RowCounts> = log.counts_of(model);
    Arc::new(VersionLog::new((model, 1, "abc"), &signature, settings, counts).unwrap())
}

/// An answered request of so many rows.
pub fn entry(version: &Arc<VersionLog>, ended: SystemTime, rows: usize) -> Box<Entry> {
    let values: Vec<f32> = (0..rows).map(|row| row as f32).collect();
    let tensor = || Tensor::from_elements(DataType::Fp32, vec![rows], &values).unwrap();
    Box::new(Entry {
        version: version.clone(),
        id: PredictionId::new(ended, 1, 1, 0, fastrand::u64(..)),
        request_id: RequestId::take_over(None),
        client_id: String::new(),
        route: None,
        ended,
        total: Duration::from_micros(100),
        queue: Duration::from_micros(10),
        compute: Duration::from_micros(50),
        batch_size: rows as u32,
        arm: Arm::Stable,
        arm_probability: 1.0,
        rollout: None,
        sample_hash: 0,
        outcome: Outcome::Answered,
        inputs: vec![tensor()],
        outputs: vec![tensor()],
        rows,
        synced: None,
    })
}
