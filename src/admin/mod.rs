//! The admin listener: metrics, and what an operator may see and change.
//!
//! It has no authentication and therefore only listens on loopback. Two checks keep a browser on the same machine from
//! being used against it: `guard` refuses foreign `Host` and `Origin` headers, and changes with a body must say that it
//! is JSON, which a page of another origin can't do without asking first.

mod api_error;
mod audit;
mod change;
pub use change::ACTOR_HEADER;
mod guard;
mod json_body;
mod log;
pub use log::{LogAdmin, SealNow};
mod log_quality;
mod metrics_text;
mod models;
mod openapi;
mod rollouts;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, post, put};
use metrics_exporter_prometheus::PrometheusHandle;

use self::api_error::ApiError;
use crate::audit::AuditLog;
use crate::data_plane::DataPlane;
use crate::registry::manager::ManagerHandle;
use crate::rollout::RolloutHandle;

/// Largest request body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 << 10;
/// Largest body that starts a rollout: it may hold a whole spec.
pub const MAX_SPEC_BYTES: usize = 256 << 10;
/// Time for a request's body to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What every handler reads.
#[derive(Clone)]
struct AdminState {
    plane: Arc<DataPlane>,
    manager: ManagerHandle,
    rollouts: RolloutHandle,
    metrics: PrometheusHandle,
    audit: Arc<AuditLog>,
    log: LogAdmin,
}

/// What the metrics handler reads.
#[derive(Clone)]
struct MetricsState {
    plane: Arc<DataPlane>,
    rollouts: RolloutHandle,
    metrics: PrometheusHandle,
}

/// Metrics and the admin API, for the loopback listener. `metrics` is what [`crate::telemetry::recorder::install`] gives.
/// Every change is written to `audit`; `log` is the prediction log.
pub fn router(
    plane: Arc<DataPlane>,
    manager: ManagerHandle,
    rollouts: RolloutHandle,
    metrics: PrometheusHandle,
    (audit, log): (Arc<AuditLog>, LogAdmin),
) -> Router {
    let state = AdminState { plane, manager, rollouts, metrics, audit, log };
    let router = routes().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
    with_fallbacks(router)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(guard::refuse_browsers))
        .with_state(state)
}

/// Metrics and nothing else, for any address.
pub fn metrics_router(plane: Arc<DataPlane>, rollouts: RolloutHandle, metrics: PrometheusHandle) -> Router {
    let state = MetricsState { plane, rollouts, metrics };
    let router = Router::new().route("/metrics", get(metrics_text::serve)).route("/metrics/", get(metrics_text::serve));
    with_fallbacks(router).with_state(state)
}

/// Every path, with what may be done there. openapi.json says the same, which a test holds.
fn routes() -> Vec<(&'static str, MethodRouter<AdminState>)> {
    vec![
        ("/metrics", get(metrics_text::serve_admin)),
        ("/metrics/", get(metrics_text::serve_admin)),
        ("/admin/openapi.json", get(openapi::serve)),
        ("/admin/v1/audit", get(audit::list)),
        ("/admin/v1/log/seal", post(log::seal)),
        ("/admin/v1/log/stats", get(log::stats)),
        ("/admin/v1/log/quality", get(log_quality::list)),
        ("/admin/v1/models", get(models::list)),
        ("/admin/v1/models/{model}", get(models::show)),
        ("/admin/v1/models/{model}/load", post(change::load)),
        ("/admin/v1/models/{model}/unload", post(change::unload)),
        ("/admin/v1/models/{model}/labels/{label}", put(change::set_label).delete(change::remove_label)),
        ("/admin/v1/models/{model}/versions/{version}/quarantine", delete(change::clear_quarantine)),
        ("/admin/v1/rollouts", get(rollouts::list).merge(start_rollout())),
        ("/admin/v1/rollouts/{rollout}", get(rollouts::show)),
        ("/admin/v1/rollouts/{rollout}/history", get(rollouts::history)),
        ("/admin/v1/rollouts/{rollout}/{action}", post(rollouts::act)),
        ("/admin/v1/routes/{route}/explain", get(rollouts::explain)),
        ("/admin/v1/routes/{route}/history", get(rollouts::route_history)),
    ]
}

/// A spec may be larger than what else is sent here.
fn start_rollout() -> MethodRouter<AdminState> {
    post(rollouts::start).layer(DefaultBodyLimit::max(MAX_SPEC_BYTES))
}

fn with_fallbacks<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method)
}

async fn unknown_path(uri: Uri) -> ApiError {
    let path = crate::inference::printable(uri.path());
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at '{path}': /admin/openapi.json lists the paths"))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let path = crate::inference::printable(uri.path());
    let text = format!("{method} is not possible at '{path}': the Allow header lists what is");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

#[cfg(test)]
mod tests;
