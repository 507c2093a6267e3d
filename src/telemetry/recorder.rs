//! The recorder behind the process's own series, and the work that keeps it from growing.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::histogram::BOUNDS_NS;
use super::metrics;

/// Time between two upkeeps. The exporter keeps every raw sample of a histogram until then.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Makes the process record its metrics, and starts the thread that keeps the recorder small where nobody scrapes.
/// A second call gives the first one's handle.
///
/// # Errors
/// The operating system's, when the thread can't be started.
pub fn install() -> std::io::Result<PrometheusHandle> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let recorder = recorder();
    let handle = recorder.handle();
    let kept = handle.clone();
    thread::Builder::new().name("metrics upkeep".to_owned()).spawn(move || {
        loop {
            thread::sleep(UPKEEP_INTERVAL);
            kept.run_upkeep();
        }
    })?;
    if ::metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder was installed before: the process's own series stay empty");
    }
    metrics::describe();
    *installed = Some(handle.clone());
    Ok(handle)
}

/// A recorder whose histograms, if any, have the bounds of a version's own. Without bounds a histogram would become a
/// summary, which keeps samples.
fn recorder() -> PrometheusRecorder {
    let bounds_s = BOUNDS_NS.map(|ns| ns as f64 / 1e9);
    PrometheusBuilder::new().set_buckets(&bounds_s).expect("the bounds are not empty").build_recorder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_gets_buckets_in_seconds_and_upkeep_empties_its_samples() {
        let recorder = recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || ::metrics::histogram!("some_seconds").record(0.0003));
        handle.run_upkeep();
        let text = handle.render();
        assert!(text.contains("some_seconds_bucket{le=\"0.0005\"} 1"), "{text}");
        assert!(text.contains("some_seconds_bucket{le=\"0.00025\"} 0"), "{text}");
    }

    #[test]
    fn a_second_install_gives_the_same_recorder() {
        let first = install().unwrap();
        metrics::count_load("ready");
        let second = install().unwrap();
        assert!(first.render().contains("headgate_model_loads_total"));
        assert!(second.render().contains("headgate_model_loads_total"));
    }
}
