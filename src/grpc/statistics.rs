//! A version's counters as the protocol's statistics.

use std::sync::atomic::Ordering;

use crate::data_plane::DataPlane;
use crate::error::{Error, Kind, Result};
use crate::inference::{ModelRef, printable};
use crate::proto::inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};
use crate::routing::Counted;
use crate::telemetry::stats::{BatchCount, TimedCount};

/// Statistics of a version, of all versions of a model in service, or, where `name` is empty, of everything in service.
/// Nothing is loaded for them.
///
/// # Errors
/// `Invalid` with Triton's text for a model or version that is not known, `NotReady` as routing.
pub fn statistics(plane: &DataPlane, name: &str, version: &str) -> Result<Vec<ModelStatistics>> {
    let serving = plane.serving.load();
    if name.is_empty() {
        return Ok(serving.all_counted().map(|counted| of_version(counted.model.clone(), &counted)).collect());
    }
    let model = ModelRef::parse(name, version)?;
    let counted = serving.counted(&model).map_err(|error| match error.kind() {
        Kind::NotFound => Error::invalid(format!("requested model '{}' is not available", printable(name))),
        _ => error,
    })?;
    Ok(counted.iter().map(|counted| of_version(model.asked.clone(), counted)).collect())
}

fn of_version(name: String, counted: &Counted) -> ModelStatistics {
    let stats = &counted.stats;
    ModelStatistics {
        name,
        version: counted.version.to_string(),
        last_inference: stats.last_inference_ms(),
        inference_count: stats.inference_count.load(Ordering::Relaxed),
        execution_count: stats.execution_count.load(Ordering::Relaxed),
        inference_stats: Some(InferStatistics {
            success: duration(&stats.success),
            fail: duration(&stats.fail),
            queue: duration(&stats.queue),
            compute_input: duration(&stats.compute_input),
            compute_infer: duration(&stats.compute_infer),
            compute_output: duration(&stats.compute_output),
            // There is no cache; clients read both members all the same.
            cache_hit: Some(StatisticDuration::default()),
            cache_miss: Some(StatisticDuration::default()),
        }),
        batch_stats: stats.batches().into_iter().map(batch).collect(),
        memory_usage: Vec::new(),
        response_stats: Default::default(),
    }
}

fn duration(counted: &TimedCount) -> Option<StatisticDuration> {
    let (count, ns) = counted.read();
    Some(StatisticDuration { count, ns })
}

fn batch((rows, counted): (usize, BatchCount)) -> InferBatchStatistics {
    let each = |ns| Some(StatisticDuration { count: counted.count, ns });
    InferBatchStatistics {
        batch_size: rows as u64,
        compute_input: each(counted.input_ns),
        compute_infer: each(counted.infer_ns),
        compute_output: each(counted.output_ns),
    }
}
