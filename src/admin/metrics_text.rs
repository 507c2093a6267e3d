//! `/metrics`: the process's series, then those of each version and each rollout.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics_exporter_prometheus::PrometheusHandle;

use super::{AdminState, MetricsState};
use crate::data_plane::DataPlane;
use crate::rollout::RolloutHandle;
use crate::servable::State as VersionState;
use crate::telemetry::exposition::{self, EngineReading, Labelled};
use crate::telemetry::{log_rows, metrics, quality};

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub async fn serve_admin(State(state): State<AdminState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT_FORMAT)], text(&state.plane, &state.rollouts, &state.metrics))
}

pub async fn serve(State(state): State<MetricsState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, TEXT_FORMAT)], text(&state.plane, &state.rollouts, &state.metrics))
}

fn text(plane: &DataPlane, rollouts: &RolloutHandle, handle: &PrometheusHandle) -> String {
    let serving = plane.serving.load();
    metrics::set_body_bytes(plane.budget.in_use(), plane.budget.limit());
    for state in VersionState::ALL {
        let statuses = serving.models.values().flat_map(|entry| entry.statuses.values());
        metrics::set_versions(state.name(), statuses.filter(|status| status.state == state).count());
    }
    let mut text = handle.render();
    let versions: Vec<Labelled<'_>> = serving
        .backends()
        .map(|backend| Labelled {
            model: &backend.servable.id.model,
            version: backend.servable.id.version,
            stats: &backend.servable.stats,
            pool: backend.pool.reading(),
            memory_bytes: backend.servable.memory_bytes(),
            engine: EngineReading {
                name: backend.servable.model.engine(),
                times: backend.servable.model.engine_times(),
            },
        })
        .collect();
    exposition::write(&mut text, &versions, plane.budget.refused());
    exposition::write_rollouts(&mut text, &rollouts.readings());
    log_rows::write(&mut text, plane.log.waiting_bytes(), &super::log::rows(&plane.log));
    quality::write(&mut text, &super::log_quality::readings(&plane.log));
    text
}
