//! Whole calls over real sockets: a tonic client, or frames by hand where a client would be too well-behaved.

mod calls;
mod feedback;
mod health;
mod limits;
mod splits;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{GrpcConfig, GrpcService};
use crate::data_plane::DataPlane;
use crate::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::proto::inference::model_infer_request::InferInputTensor;
use crate::proto::inference::{InferTensorContents, ModelInferRequest};
use crate::server::{Drained, ServerConfig, TimeLimits, serve};
use crate::tensor::DataType;
use crate::testing::{FunctionModel, data_plane};

/// Ten times what is expected, and more for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

struct Served {
    address: SocketAddr,
    plane: Arc<DataPlane>,
    drain: CancellationToken,
    task: JoinHandle<Drained>,
}

/// Serves `echo`, versions 1 and 2: FP32 `x` of `[N,3]` comes back as `x_out`.
async fn echo_server() -> Served {
    let echo = || FunctionModel::identity(&[("x", DataType::Fp32, 3)]);
    start(data_plane(&[("echo", 1, echo()), ("echo", 2, echo())]), GrpcConfig::default()).await
}

async fn start(plane: Arc<DataPlane>, config: GrpcConfig) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = CancellationToken::new();
    let service = GrpcService::new(plane.clone(), config, drain.clone());
    let times = TimeLimits { linger: Duration::from_millis(100), ..TimeLimits::default() };
    let config = ServerConfig { times, ..ServerConfig::grpc() };
    let task = tokio::spawn(serve(listener, service, config, drain.clone()));
    Served { address, plane, drain, task }
}

impl Served {
    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> GrpcInferenceServiceClient<Channel> {
        GrpcInferenceServiceClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }
}

fn input(name: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn raw(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()
}

/// A request to `echo` with raw contents.
fn echo(id: &str, values: [f32; 3]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "echo".to_owned(),
        id: id.to_owned(),
        inputs: vec![input("x", &[1, 3])],
        raw_input_contents: vec![raw(&values)],
        ..ModelInferRequest::default()
    }
}

/// The same with typed contents.
fn typed_echo(values: [f32; 3]) -> ModelInferRequest {
    let contents = InferTensorContents { fp32_contents: values.to_vec(), ..InferTensorContents::default() };
    let input = InferInputTensor { contents: Some(contents), ..input("x", &[1, 3]) };
    ModelInferRequest { inputs: vec![input], raw_input_contents: vec![], ..echo("", values) }
}
