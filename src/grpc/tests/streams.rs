//! ModelStreamInfer over the wire.

use std::sync::{Arc, Condvar, Mutex};

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming};

use super::*;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::{ModelInferResponse, ModelStreamInferResponse};
use crate::signature::{Batching, Signature};

/// One stream: what is sent, and what comes back.
struct Stream {
    requests: mpsc::Sender<ModelInferRequest>,
    answers: Streaming<ModelStreamInferResponse>,
}

impl Stream {
    async fn open(server: &Served, metadata: &[(&'static str, &str)]) -> Self {
        let (requests, receiver) = mpsc::channel(100);
        let mut request = Request::new(ReceiverStream::new(receiver));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let answers = server.client().await.model_stream_infer(request).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn send(&self, request: ModelInferRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Result<ModelStreamInferResponse, tonic::Status> {
        timeout(PATIENCE, self.answers.message()).await.unwrap().map(|answer| answer.unwrap())
    }
}

fn text<'a>(message: &'a ModelInferResponse, name: &str) -> &'a str {
    match &message.parameters[name].parameter_choice {
        Some(ParameterChoice::StringParam(text)) => text,
        other => panic!("{name}: {other:?}"),
    }
}

fn is_final(message: &ModelInferResponse) -> bool {
    message.parameters["triton_final_response"].parameter_choice == Some(ParameterChoice::BoolParam(true))
}

#[tokio::test]
async fn answers_come_in_order_and_carry_what_identifies_them() {
    let server = echo_server().await;
    let mut stream = Stream::open(&server, &[]).await;
    for i in 0..100 {
        let mut request = echo(&i.to_string(), [i as f32; 3]);
        let flag = crate::proto::inference::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
        request.parameters.insert("triton_enable_empty_final_response".into(), flag);
        stream.send(request).await;
    }
    for i in 0..100 {
        let answer = stream.next().await.unwrap();
        assert_eq!(answer.error_message, "");
        let message = answer.infer_response.unwrap();
        assert_eq!((message.id.as_str(), &message.raw_output_contents[0]), (&*i.to_string(), &raw(&[i as f32; 3])));
        assert!(is_final(&message));
        assert_eq!((text(&message, "headgate-version"), text(&message, "headgate-arm")), ("2", "stable"));
        assert_eq!(text(&message, "headgate-prediction-id").len(), 36);
    }
    drop(stream.requests);
    assert!(timeout(PATIENCE, stream.answers.message()).await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn an_error_is_answered_in_band_and_the_stream_goes_on() {
    let server = echo_server().await;
    let mut stream = Stream::open(&server, &[]).await;
    stream.send(ModelInferRequest { model_name: "no".into(), model_version: "3".into(), ..echo("7", [0.0; 3]) }).await;
    stream.send(echo("8", [1.0; 3])).await;
    let failed = stream.next().await.unwrap();
    assert_eq!(failed.error_message, "Request for unknown model: 'no' is not found");
    let message = failed.infer_response.unwrap();
    let named = (message.id.as_str(), message.model_name.as_str(), message.model_version.as_str());
    assert_eq!(named, ("7", "no", "3"));
    assert!(is_final(&message));
    assert_eq!(stream.next().await.unwrap().infer_response.unwrap().id, "8");
}

#[tokio::test]
async fn an_error_ends_the_stream_where_the_client_asks_for_it() {
    let server = echo_server().await;
    let mut stream = Stream::open(&server, &[("triton_grpc_error", "true"), ("x-request-id", "abc")]).await;
    stream.send(echo("1", [0.0; 3])).await;
    stream.send(ModelInferRequest { model_name: "no".into(), ..echo("2", [0.0; 3]) }).await;
    assert_eq!(text(&stream.next().await.unwrap().infer_response.unwrap(), "x-request-id"), "abc");
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "Request for unknown model: 'no' is not found");
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "abc");
}

/// A model that waits until its gate is opened, and how many of its runs have begun.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

async fn gated_server(config: GrpcConfig) -> (Served, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let echo = FunctionModel::identity(&[("x", DataType::Fp32, 3)]);
    let signature = Signature { batching: Batching::Unproven("gated".into()), ..echo.signature().clone() };
    let model = FunctionModel::model(signature, {
        let gate = gate.clone();
        move |inputs| {
            gate.pass();
            Ok(inputs.to_vec())
        }
    });
    (start(data_plane(&[("echo", 1, model)]), config).await, gate)
}

#[tokio::test]
async fn a_stream_has_a_bounded_number_of_requests_under_way() {
    let (server, gate) = gated_server(GrpcConfig { max_stream_in_flight: 4, ..GrpcConfig::default() }).await;
    let mut stream = Stream::open(&server, &[]).await;
    for i in 0..20 {
        stream.send(echo(&i.to_string(), [0.0; 3])).await;
    }
    let pending = || {
        let serving = server.plane.serving.load();
        let backend = serving.backends().next().unwrap().clone();
        backend.servable.stats.pending.load(std::sync::atomic::Ordering::Relaxed)
    };
    let filled = async {
        while pending() < 4 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, filled).await.unwrap();
    assert_eq!(pending(), 4);
    gate.open();
    for i in 0..20 {
        assert_eq!(stream.next().await.unwrap().infer_response.unwrap().id, i.to_string());
    }
    assert_eq!(server.plane.budget.in_use(), 0);
}

#[tokio::test]
async fn a_drain_answers_what_a_stream_has_taken_in_and_then_ends_it() {
    let (server, gate) = gated_server(GrpcConfig::default()).await;
    let mut stream = Stream::open(&server, &[]).await;
    stream.send(echo("1", [0.0; 3])).await;
    let taken_in = async {
        while server.plane.budget.in_use() == 0 || {
            let serving = server.plane.serving.load();
            serving.backends().all(|b| b.servable.stats.pending.load(std::sync::atomic::Ordering::Relaxed) == 0)
        } {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, taken_in).await.unwrap();
    server.drain.cancel();
    gate.open();
    assert_eq!(stream.next().await.unwrap().infer_response.unwrap().id, "1");
    let status = stream.next().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the server is shutting down"));
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_requests_with_it() {
    let (server, gate) = gated_server(GrpcConfig::default()).await;
    let stream = Stream::open(&server, &[]).await;
    stream.send(echo("1", [0.0; 3])).await;
    let until = |wanted: bool| {
        let budget = server.plane.budget.clone();
        async move {
            while (budget.in_use() > 0) != wanted {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(PATIENCE, until(true)).await.unwrap();
    drop(stream);
    timeout(PATIENCE, until(false)).await.expect("the lease ends with the stream");
    gate.open();
}
