//! The inference service: one thin method an rpc.

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::context::{CallContext, Received};
use super::deframer::Leases;
use super::encode::Answer;
use super::infer::infer;
use super::status::with_request_id;
use super::stream::{self, StreamCall};
use super::{GrpcConfig, metadata, repository, settings, statistics};
use crate::data_plane::DataPlane;
use crate::error::Error;
use crate::inference::{Deadline, ModelRef};
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::proto::inference::*;

/// Answers the inference service's calls over a data plane.
pub struct InferenceService {
    plane: Arc<DataPlane>,
    config: GrpcConfig,
    drain: CancellationToken,
}

impl InferenceService {
    pub fn new(plane: Arc<DataPlane>, config: GrpcConfig, drain: CancellationToken) -> Self {
        Self { plane, config, drain }
    }
}

type Answered<T> = Result<Response<T>, Status>;

fn answered<T>(message: T) -> Answered<T> {
    Ok(Response::new(message))
}

#[tonic::async_trait]
impl GrpcInferenceService for InferenceService {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answered<ServerLiveResponse> {
        answered(ServerLiveResponse { live: true })
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answered<ServerReadyResponse> {
        answered(ServerReadyResponse { ready: self.plane.health.is_ready() })
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answered<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        answered(ModelReadyResponse { ready: metadata::model_ready(&self.plane, &name, &version)? })
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answered<ServerMetadataResponse> {
        answered(metadata::server(&self.plane))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Answered<ModelMetadataResponse> {
        let deadline = deadline(&request)?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        answered(metadata::model(&self.plane, ModelRef::parse(&name, &version)?, deadline).await?)
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answered<ModelConfigResponse> {
        let deadline = deadline(&request)?;
        let ModelConfigRequest { name, version } = request.into_inner();
        let config = metadata::config(&self.plane, ModelRef::parse(&name, &version)?, deadline).await?;
        answered(ModelConfigResponse { config: Some(config) })
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answered<ModelInferResponse> {
        let (metadata, extensions, message) = request.into_parts();
        let received = received(&extensions);
        let call = CallContext::read(metadata, received)?;
        // The lease goes back into the call, which holds it until the answer is out.
        let leases = extensions.get::<Arc<Leases>>();
        let mut lease = leases.and_then(|leases| leases.take());
        let outcome = infer(&self.plane, &call, received, lease.as_mut(), message).await;
        if let (Some(leases), Some(lease)) = (leases, lease) {
            leases.put(lease);
        }
        let Answer { message, tags } = outcome.map_err(|error| with_request_id(error.into(), call.request_id()))?;
        let mut response = Response::new(message);
        tags.write_metadata(response.metadata_mut());
        Ok(response)
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answered<Self::ModelStreamInferStream> {
        let (metadata, extensions, requests) = request.into_parts();
        let status_errors = stream::wants_status_errors(&metadata);
        let call = StreamCall {
            plane: self.plane.clone(),
            context: CallContext::read(metadata, received(&extensions))?,
            leases: extensions.get::<Arc<Leases>>().cloned(),
            max_in_flight: self.config.max_stream_in_flight,
            status_errors,
        };
        answered(stream::answers(call, requests, self.drain.clone()))
    }

    async fn model_statistics(&self, request: Request<ModelStatisticsRequest>) -> Answered<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        answered(ModelStatisticsResponse { model_stats: statistics::statistics(&self.plane, &name, &version)? })
    }

    async fn repository_index(&self, request: Request<RepositoryIndexRequest>) -> Answered<RepositoryIndexResponse> {
        let RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        repository::check_repository(&repository_name)?;
        answered(RepositoryIndexResponse { models: repository::index(&self.plane, ready) })
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answered<RepositoryModelLoadResponse> {
        let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request.into_inner();
        repository::check_repository(&repository_name)?;
        repository::check_model(&model_name)?;
        self.plane.control.load(model_name, repository::load_overrides(parameters)?).await?;
        answered(RepositoryModelLoadResponse {})
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answered<RepositoryModelUnloadResponse> {
        let RepositoryModelUnloadRequest { repository_name, model_name, parameters } = request.into_inner();
        repository::check_repository(&repository_name)?;
        repository::check_model(&model_name)?;
        repository::check_unload(&parameters)?;
        self.plane.control.unload(model_name).await?;
        answered(RepositoryModelUnloadResponse {})
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answered<SystemSharedMemoryStatusResponse> {
        Err(no_shared_memory())
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answered<SystemSharedMemoryRegisterResponse> {
        Err(no_shared_memory())
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answered<SystemSharedMemoryUnregisterResponse> {
        Err(no_shared_memory())
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answered<CudaSharedMemoryStatusResponse> {
        Err(no_shared_memory())
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answered<CudaSharedMemoryRegisterResponse> {
        Err(no_shared_memory())
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answered<CudaSharedMemoryUnregisterResponse> {
        Err(no_shared_memory())
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Answered<TraceSettingResponse> {
        answered(settings::trace(&self.plane, request.into_inner())?)
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Answered<LogSettingsResponse> {
        answered(settings::log(&self.plane, request.into_inner())?)
    }
}

fn no_shared_memory() -> Status {
    Error::Unsupported("shared memory is not offered by this server".to_owned()).into()
}

/// When an answer stops being of use, by the call's metadata.
fn deadline<T>(request: &Request<T>) -> Result<Deadline, Status> {
    let received = received(request.extensions());
    Ok(CallContext::read(request.metadata().clone(), received)?.deadline(received))
}

/// When the call's headers arrived.
fn received(extensions: &Extensions) -> Instant {
    extensions.get::<Received>().map_or_else(Instant::now, |received| received.0)
}
