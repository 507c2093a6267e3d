//! The Prometheus text of one version's counters.
//!
//! Source: Prometheus text exposition format 0.0.4. All samples of a family stand together, so the text is written
//! family by family over all versions.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::histogram::{BOUNDS_NS, Histogram};
pub use super::rollouts::{CheckReading, RolloutReading, STATES as ROLLOUT_STATES, write as write_rollouts};
use super::stats::{ServableStats, TimedCount};
use crate::engine::auto::{EngineTime, Which};

/// A version's counters with what labels them.
pub struct Labelled<'a> {
    pub model: &'a str,
    pub version: u64,
    pub stats: &'a ServableStats,
    pub pool: PoolReading,
    /// Estimate of the memory that the version takes.
    pub memory_bytes: u64,
    pub engine: EngineReading,
}

/// Which engine runs a version.
#[derive(Debug, Clone, Default)]
pub struct EngineReading {
    /// Of one row.
    pub name: &'static str,
    /// What the choice was made by; empty where there was none.
    pub times: Vec<EngineTime>,
}

/// What a version's pool says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolReading {
    /// Requests that wait for a core.
    pub queue_depth: usize,
    /// Bytes of their inputs.
    pub queue_bytes: usize,
    /// Cores that the version may hold now, and those that it holds.
    pub workers: u32,
    pub workers_busy: u32,
    /// Core time spent in its runs.
    pub busy_s: f64,
    /// Requests that ran on the thread that brought them.
    pub inline_requests: u64,
    /// Most rows of a run.
    pub max_batch_rows: usize,
    /// Estimate of what its plans hold.
    pub plan_bytes: u64,
}

type Read = fn(&Labelled<'_>) -> u64;

/// Triton's counters under Triton's names, in microseconds where they count time.
const NV_FAMILIES: [(&str, &str, Read); 9] = [
    ("nv_inference_request_success", "Number of successful inference requests", |l| l.stats.success.read().0),
    ("nv_inference_count", "Number of inferences performed", |l| l.stats.inference_count.load(Ordering::Relaxed)),
    ("nv_inference_exec_count", "Number of model executions performed", |l| {
        l.stats.execution_count.load(Ordering::Relaxed)
    }),
    ("nv_inference_request_duration_us", "Cumulative inference request duration in microseconds", |l| {
        micros(&l.stats.success)
    }),
    ("nv_inference_queue_duration_us", "Cumulative inference queuing duration in microseconds", |l| {
        micros(&l.stats.queue)
    }),
    ("nv_inference_compute_input_duration_us", "Cumulative compute input duration in microseconds", |l| {
        micros(&l.stats.compute_input)
    }),
    ("nv_inference_compute_infer_duration_us", "Cumulative compute inference duration in microseconds", |l| {
        micros(&l.stats.compute_infer)
    }),
    ("nv_inference_compute_output_duration_us", "Cumulative compute output duration in microseconds", |l| {
        micros(&l.stats.compute_output)
    }),
    ("nv_inference_request_failure", "Number of failed inference requests", |l| l.stats.fail.read().0),
];

const STAGE_SECONDS: &str = "headgate_request_stage_seconds";
const FAILURES: &str = "headgate_request_failures_total";
const PENDING: &str = "nv_inference_pending_request_count";
const SHEDS: &str = "headgate_sheds_total";
const ENGINE: &str = "headgate_engine_info";
const ENGINE_SECONDS: &str = "headgate_engine_run_seconds";
const WASTED_ROWS: &str = "headgate_wasted_rows_total";
const BATCH_ROWS: &str = "headgate_batch_rows";
const BUSY_SECONDS: &str = "headgate_core_busy_seconds_total";
const INLINE_REQUESTS: &str = "headgate_inline_requests_total";
const PENDING_HELP: &str = "Requests admitted and not yet answered";

/// Gauges of a version's pool.
const POOL_GAUGES: [(&str, &str, Read); 8] = [
    (PENDING, PENDING_HELP, |l| l.stats.pending.load(Ordering::Relaxed)),
    ("headgate_queue_depth", "Requests that wait for a core", |l| l.pool.queue_depth as u64),
    ("headgate_queue_bytes", "Bytes of inputs that wait for a core", |l| l.pool.queue_bytes as u64),
    ("headgate_workers", "Cores that the version may hold at the same time", |l| l.pool.workers.into()),
    ("headgate_workers_busy", "Cores that the version holds", |l| l.pool.workers_busy.into()),
    ("headgate_max_batch_rows", "Most rows of a run", |l| l.pool.max_batch_rows as u64),
    ("headgate_model_memory_bytes", "Estimated bytes of memory that the version takes", |l| l.memory_bytes),
    ("headgate_plan_bytes", "Estimated bytes that the version's plans hold", |l| l.pool.plan_bytes),
];
/// Upper bounds of the batch sizes that are counted together.
const BATCH_BOUNDS: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Appends every family of these versions. `over_budget`: requests that found no room for their bytes, whatever they were
/// for.
pub fn write(out: &mut String, versions: &[Labelled<'_>], over_budget: u64) {
    for (name, help, read) in NV_FAMILIES {
        header(out, name, help, "counter");
        for version in versions {
            // Triton tells failures apart by reason; a version's own reasons are in headgate_request_failures_total.
            let reason = if name == "nv_inference_request_failure" { ",reason=\"OTHER\"" } else { "" };
            sample(out, name, version, reason, read(version));
        }
    }
    for (name, help, read) in POOL_GAUGES {
        header(out, name, help, "gauge");
        for version in versions {
            sample(out, name, version, "", read(version));
        }
    }
    write_pool_counters(out, versions, over_budget);
    write_engines(out, versions);
    header(out, FAILURES, "Inference requests that failed after they reached a version, by reason", "counter");
    for version in versions {
        for (kind, count) in version.stats.failures().filter(|(_, count)| *count > 0) {
            sample(out, FAILURES, version, &format!(",reason=\"{}\"", kind.label()), count);
        }
    }
    header(out, STAGE_SECONDS, "Time that requests spend in each stage", "histogram");
    for version in versions {
        histogram(out, version, "decode", &version.stats.stage_decode);
        histogram(out, version, "queue", &version.stats.stage_queue);
        histogram(out, version, "compute", &version.stats.stage_compute);
        histogram(out, version, "encode", &version.stats.stage_encode);
    }
}

fn write_engines(out: &mut String, versions: &[Labelled<'_>]) {
    header(out, ENGINE, "The engine that runs one row, by its label", "gauge");
    for version in versions {
        sample(out, ENGINE, version, &format!(",engine=\"{}\"", version.engine.name), 1);
    }
    header(out, ENGINE_SECONDS, "Shortest run of so many rows on each engine, as the choice was made by", "gauge");
    for version in versions {
        for time in &version.engine.times {
            for (which, seconds) in [(Which::Tract, time.tract_s), (Which::OnnxRuntime, time.onnxruntime_s)] {
                let Some(seconds) = seconds else { continue };
                let labels = format!(",engine=\"{}\",rows=\"{}\"", which.name(), time.rows);
                sample(out, ENGINE_SECONDS, version, &labels, seconds);
            }
        }
    }
}

fn write_pool_counters(out: &mut String, versions: &[Labelled<'_>], over_budget: u64) {
    header(out, BUSY_SECONDS, "Core time spent in runs", "counter");
    for version in versions {
        sample(out, BUSY_SECONDS, version, "", version.pool.busy_s);
    }
    header(out, INLINE_REQUESTS, "Requests that ran on the thread that brought them", "counter");
    for version in versions {
        sample(out, INLINE_REQUESTS, version, "", version.pool.inline_requests);
    }
    header(out, SHEDS, "Requests shed, by reason", "counter");
    for version in versions {
        for (reason, count) in version.stats.sheds() {
            sample(out, SHEDS, version, &format!(",reason=\"{reason}\""), count);
        }
    }
    // Their bodies were not read, so nobody knows which model they were for.
    _ = writeln!(out, "{SHEDS}{{reason=\"bytes_in_flight\"}} {over_budget}");
    header(out, WASTED_ROWS, "Rows that were run for nobody, by reason", "counter");
    for version in versions {
        let waste = &version.stats.waste;
        for (reason, count) in
            [("expired_before_run", &waste.expired_before_run), ("left_during_run", &waste.left_during_run)]
        {
            sample(out, WASTED_ROWS, version, &format!(",reason=\"{reason}\""), count.load(Ordering::Relaxed));
        }
    }
    header(out, BATCH_ROWS, "Rows of each run", "histogram");
    for version in versions {
        batch_histogram(out, version);
    }
}

/// Of the sizes that are counted apart; runs of further sizes are only in the count.
fn batch_histogram(out: &mut String, of: &Labelled<'_>) {
    let batches = of.stats.batches();
    let labels = format!("model=\"{}\",version=\"{}\"", escape(of.model), of.version);
    for bound in BATCH_BOUNDS {
        let below: u64 = batches.range(..=bound).map(|(_, batch)| batch.count).sum();
        let _ = writeln!(out, "{BATCH_ROWS}_bucket{{{labels},le=\"{bound}\"}} {below}");
    }
    let count = of.stats.execution_count.load(Ordering::Relaxed);
    let rows: u64 = batches.iter().map(|(rows, batch)| *rows as u64 * batch.count).sum();
    let _ = writeln!(out, "{BATCH_ROWS}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{BATCH_ROWS}_sum{{{labels}}} {rows}\n{BATCH_ROWS}_count{{{labels}}} {count}");
}

fn micros(timed: &TimedCount) -> u64 {
    timed.read().1 / 1000
}

pub(super) fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, of: &Labelled<'_>, more_labels: &str, value: impl std::fmt::Display) {
    let (model, version) = (escape(of.model), of.version);
    let _ = writeln!(out, "{name}{{model=\"{model}\",version=\"{version}\"{more_labels}}} {value}");
}

fn histogram(out: &mut String, of: &Labelled<'_>, stage: &str, histogram: &Histogram) {
    let reading = histogram.read();
    let (model, version) = (escape(of.model), of.version);
    let labels = format!("model=\"{model}\",version=\"{version}\",stage=\"{stage}\"");
    let mut below = 0;
    for (bound_ns, count) in BOUNDS_NS.iter().zip(reading.buckets) {
        below += count;
        let bound_s = *bound_ns as f64 / 1e9;
        let _ = writeln!(out, "{STAGE_SECONDS}_bucket{{{labels},le=\"{bound_s}\"}} {below}");
    }
    let count = reading.count();
    let sum_s = reading.sum_ns as f64 / 1e9;
    let _ = writeln!(out, "{STAGE_SECONDS}_bucket{{{labels},le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{STAGE_SECONDS}_sum{{{labels}}} {sum_s}\n{STAGE_SECONDS}_count{{{labels}}} {count}");
}

pub(super) fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn buckets_are_cumulative_and_families_stand_together() {
        let stats = ServableStats::default();
        stats.stage_queue.record(Duration::from_micros(5));
        stats.stage_queue.record(Duration::from_micros(50));
        let version = |version| Labelled {
            model: "a\"b",
            version,
            stats: &stats,
            pool: PoolReading { queue_depth: 2, busy_s: 0.25, ..PoolReading::default() },
            memory_bytes: 7,
            engine: EngineReading {
                name: "tract",
                times: vec![EngineTime { rows: 2, tract_s: Some(0.5), onnxruntime_s: None }],
            },
        };
        let mut text = String::new();
        write(&mut text, &[version(1), version(2)], 3);
        assert!(text.contains("headgate_sheds_total{reason=\"bytes_in_flight\"} 3\n"));
        let labels = "model=\"a\\\"b\",version=\"1\",stage=\"queue\"";
        assert!(text.contains(&format!("headgate_request_stage_seconds_bucket{{{labels},le=\"0.00001\"}} 1\n")));
        assert!(text.contains(&format!("headgate_request_stage_seconds_bucket{{{labels},le=\"0.00005\"}} 2\n")));
        assert!(text.contains(&format!("headgate_request_stage_seconds_sum{{{labels}}} 0.000055\n")));
        assert_eq!(text.matches("# TYPE nv_inference_count counter").count(), 1);
        assert!(text.contains("headgate_queue_depth{model=\"a\\\"b\",version=\"2\"} 2\n"));
        assert!(text.contains("headgate_core_busy_seconds_total{model=\"a\\\"b\",version=\"1\"} 0.25\n"));
        assert!(text.contains("headgate_engine_info{model=\"a\\\"b\",version=\"1\",engine=\"tract\"} 1\n"));
        let labels = "model=\"a\\\"b\",version=\"1\",engine=\"tract\",rows=\"2\"";
        assert!(text.contains(&format!("headgate_engine_run_seconds{{{labels}}} 0.5\n")));
        assert!(text.contains("headgate_model_memory_bytes{model=\"a\\\"b\",version=\"1\"} 7\n"));
    }

    #[test]
    fn batch_sizes_are_counted_up_to_each_bound() {
        let stats = ServableStats::default();
        for rows in [1, 3, 3, 9] {
            stats.record_execution(rows, &crate::engine::RunTiming::default());
        }
        let (mut text, pool) = (String::new(), PoolReading::default());
        write(
            &mut text,
            &[Labelled {
                model: "m",
                version: 1,
                stats: &stats,
                pool,
                memory_bytes: 0,
                engine: EngineReading::default(),
            }],
            0,
        );
        let labels = "model=\"m\",version=\"1\"";
        for line in [
            format!("headgate_batch_rows_bucket{{{labels},le=\"2\"}} 1\n"),
            format!("headgate_batch_rows_bucket{{{labels},le=\"4\"}} 3\n"),
            format!("headgate_batch_rows_sum{{{labels}}} 16\n"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
