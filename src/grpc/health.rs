//! `grpc.health.v1`: the server's readiness, and each model's.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::metadata;
use super::stream::shutting_down;
use crate::data_plane::DataPlane;
use crate::error::Kind;
use crate::health::Phase;
use crate::inference::printable;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;

/// Answers health checks. A service's name is empty for the server, or a model's: `digits`, `digits@stable`.
pub struct HealthService {
    plane: Arc<DataPlane>,
    drain: CancellationToken,
}

impl HealthService {
    pub fn new(plane: Arc<DataPlane>, drain: CancellationToken) -> Self {
        Self { plane, drain }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match status(&self.plane, &service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("'{}' is not the name of a model", printable(&service))))
            }
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watcher = Watcher {
            served: self.plane.served.subscribe(),
            phase: self.plane.health.watch(),
            plane: self.plane.clone(),
            drain: self.drain.clone(),
            service: request.into_inner().service,
            told: None,
        };
        let changes = stream::unfold(watcher, |mut watcher| async { Some((watcher.next().await?, watcher)) });
        let closing = stream::once(std::future::ready(Err(shutting_down())));
        Ok(Response::new(changes.map(Ok).chain(closing).boxed()))
    }
}

struct Watcher {
    plane: Arc<DataPlane>,
    service: String,
    served: watch::Receiver<u64>,
    phase: watch::Receiver<Phase>,
    drain: CancellationToken,
    /// The status that the client knows.
    told: Option<ServingStatus>,
}

impl Watcher {
    /// The next status that is not the last one; `None` once the server drains.
    async fn next(&mut self) -> Option<HealthCheckResponse> {
        loop {
            // Marked as seen before it is read, so that no change can fall between the two.
            self.served.mark_unchanged();
            self.phase.mark_unchanged();
            let status = status(&self.plane, &self.service);
            if self.told.replace(status) != Some(status) {
                return Some(response(status));
            }
            // The senders live in the plane, which the watcher holds: a change is the only way these return.
            tokio::select! {
                _ = self.served.changed() => {}
                _ = self.phase.changed() => {}
                () = self.drain.cancelled() => return None,
            }
        }
    }
}

fn status(plane: &DataPlane, service: &str) -> ServingStatus {
    let serving = |ready: bool| if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    let is_server = service.is_empty() || service == GrpcInferenceServiceServer::<()>::NAME;
    if is_server {
        return serving(plane.health.is_ready());
    }
    match metadata::model_ready(plane, service, "") {
        Ok(ready) => serving(ready && plane.health.phase() != Phase::Draining),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::InvalidArgument) => ServingStatus::ServiceUnknown,
        Err(_) => ServingStatus::NotServing,
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
