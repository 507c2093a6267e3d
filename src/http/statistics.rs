//! The protocol's statistics: counts and nanoseconds as numbers, and every member always there.

use std::sync::atomic::Ordering;

use http::Response;
use serde_json::{Value, json};

use super::reply::{self, Body};
use crate::data_plane::DataPlane;
use crate::error::{Error, Kind, Result};
use crate::inference::{ModelRef, printable};
use crate::routing::Counted;
use crate::telemetry::stats::{BatchCount, TimedCount};

/// Statistics of every version in service.
pub fn of_all(plane: &DataPlane) -> Response<Body> {
    answer(plane.serving.load().all_counted().map(|counted| version(&counted.model, &counted)))
}

/// Statistics of the versions that a reference covers, under the name it was asked by. Nothing is loaded for them.
///
/// # Errors
/// `Invalid` for a model that is not known, as existing clients expect.
pub fn of_model(plane: &DataPlane, model: &ModelRef) -> Result<Response<Body>> {
    let counted = plane.serving.load().counted(model).map_err(|error| match error.kind() {
        Kind::NotFound => Error::Invalid(format!("requested model '{}' is not available", printable(&model.asked))),
        _ => error,
    })?;
    Ok(answer(counted.iter().map(|counted| version(&model.asked, counted))))
}

fn answer(versions: impl Iterator<Item = Value>) -> Response<Body> {
    reply::json(&json!({ "model_stats": versions.collect::<Vec<_>>() }))
}

fn version(name: &str, counted: &Counted) -> Value {
    let stats = &counted.stats;
    let batches: Vec<Value> = stats.batches().iter().map(|(&size, count)| batch(size, count)).collect();
    json!({
        "name": name,
        "version": counted.version.to_string(),
        "last_inference": stats.last_inference_ms(),
        "inference_count": stats.inference_count.load(Ordering::Relaxed),
        "execution_count": stats.execution_count.load(Ordering::Relaxed),
        "inference_stats": {
            "success": timed(&stats.success),
            "fail": timed(&stats.fail),
            "queue": timed(&stats.queue),
            "compute_input": timed(&stats.compute_input),
            "compute_infer": timed(&stats.compute_infer),
            "compute_output": timed(&stats.compute_output),
            // There is no response cache; clients insist on the members.
            "cache_hit": duration(0, 0),
            "cache_miss": duration(0, 0),
        },
        "response_stats": {},
        "batch_stats": batches,
        "memory_usage": [],
    })
}

fn batch(size: usize, batch: &BatchCount) -> Value {
    json!({
        "batch_size": size,
        "compute_input": duration(batch.count, batch.input_ns),
        "compute_infer": duration(batch.count, batch.infer_ns),
        "compute_output": duration(batch.count, batch.output_ns),
    })
}

fn timed(count: &TimedCount) -> Value {
    let (count, ns) = count.read();
    duration(count, ns)
}

fn duration(count: u64, ns: u64) -> Value {
    json!({ "count": count, "ns": ns })
}
