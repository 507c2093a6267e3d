//! The Prometheus text of one version's counters.
//!
//! Source: Prometheus text exposition format 0.0.4. All samples of a family stand together, so the text is written
//! family by family over all versions.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::histogram::{BOUNDS_NS, Histogram};
use super::stats::{ServableStats, TimedCount};

/// A version's counters with what labels them.
pub struct Labelled<'a> {
    pub model: &'a str,
    pub version: u64,
    pub stats: &'a ServableStats,
    /// Requests that wait for a worker.
    pub queue_depth: usize,
    /// Estimate of the memory that the version takes.
    pub memory_bytes: u64,
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
const QUEUE_DEPTH: &str = "headgate_queue_depth";
const MEMORY_BYTES: &str = "headgate_model_memory_bytes";

/// Appends every family of these versions.
pub fn write(out: &mut String, versions: &[Labelled<'_>]) {
    for (name, help, read) in NV_FAMILIES {
        header(out, name, help, "counter");
        for version in versions {
            // Triton tells failures apart by reason; a version's own reasons are in headgate_request_failures_total.
            let reason = if name == "nv_inference_request_failure" { ",reason=\"OTHER\"" } else { "" };
            sample(out, name, version, reason, read(version));
        }
    }
    header(out, PENDING, "Requests admitted and not yet answered", "gauge");
    for version in versions {
        sample(out, PENDING, version, "", version.stats.pending.load(Ordering::Relaxed));
    }
    header(out, QUEUE_DEPTH, "Requests that wait for a worker", "gauge");
    for version in versions {
        sample(out, QUEUE_DEPTH, version, "", version.queue_depth as u64);
    }
    header(out, MEMORY_BYTES, "Estimated memory of each loaded version, in bytes", "gauge");
    for version in versions {
        sample(out, MEMORY_BYTES, version, "", version.memory_bytes);
    }
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

fn micros(timed: &TimedCount) -> u64 {
    timed.read().1 / 1000
}

fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, of: &Labelled<'_>, more_labels: &str, value: u64) {
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

fn escape(label: &str) -> String {
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
        let version = |version| Labelled { model: "a\"b", version, stats: &stats, queue_depth: 2, memory_bytes: 7 };
        let mut text = String::new();
        write(&mut text, &[version(1), version(2)]);
        let labels = "model=\"a\\\"b\",version=\"1\",stage=\"queue\"";
        assert!(text.contains(&format!("headgate_request_stage_seconds_bucket{{{labels},le=\"0.00001\"}} 1\n")));
        assert!(text.contains(&format!("headgate_request_stage_seconds_bucket{{{labels},le=\"0.00005\"}} 2\n")));
        assert!(text.contains(&format!("headgate_request_stage_seconds_sum{{{labels}}} 0.000055\n")));
        assert_eq!(text.matches("# TYPE nv_inference_count counter").count(), 1);
        assert!(text.contains("headgate_queue_depth{model=\"a\\\"b\",version=\"2\"} 2\n"));
        assert!(text.contains("headgate_model_memory_bytes{model=\"a\\\"b\",version=\"1\"} 7\n"));
    }
}
