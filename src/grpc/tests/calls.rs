//! Unary calls: what each rpc answers, and how errors look.

use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::*;
use crate::proto::inference::*;
use crate::testing::serving;

#[tokio::test]
async fn raw_and_typed_contents_give_the_same_answer() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let values = [1.5, f32::MIN_POSITIVE, -0.0];
    for request in [echo("42", values), typed_echo(values)] {
        let id = request.id.clone();
        let response = client.model_infer(request).await.unwrap();
        let metadata = response.metadata().clone();
        let message = response.into_inner();
        assert_eq!((message.model_name.as_str(), message.model_version.as_str()), ("echo", "2"));
        assert_eq!(message.id, id);
        assert_eq!(message.outputs[0].name, "x_out");
        assert_eq!((message.outputs[0].datatype.as_str(), &message.outputs[0].shape[..]), ("FP32", &[1, 3][..]));
        assert_eq!(message.raw_output_contents, [raw(&values)]);
        assert_eq!(metadata.get("headgate-version").unwrap(), "2");
        assert_eq!(metadata.get("headgate-arm").unwrap(), "stable");
        assert_eq!(metadata.get("headgate-prediction-id").unwrap().len(), 36);
        assert_eq!(metadata.get("x-request-id").unwrap().len(), 36);
    }
    let pinned = ModelInferRequest { model_version: "1".into(), ..echo("", values) };
    assert_eq!(client.model_infer(pinned).await.unwrap().into_inner().model_version, "1");
}

#[tokio::test]
async fn a_request_id_goes_in_and_comes_out_also_with_an_error() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let with_id = |message| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-request-id", "abc".parse().unwrap());
        request
    };
    let response = client.model_infer(with_id(echo("", [0.0; 3]))).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "abc");
    let unknown = ModelInferRequest { model_name: "ecco".into(), ..echo("", [0.0; 3]) };
    let status = client.model_infer(with_id(unknown)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "Request for unknown model: 'ecco' is not found, did you mean 'echo'?");
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "abc");
}

#[tokio::test]
async fn each_mistake_has_its_code_and_text() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let request = || echo("7", [0.0; 3]);
    let cases = [
        (ModelInferRequest { model_name: "../x".into(), ..request() }, Code::InvalidArgument, "is not a model name"),
        (ModelInferRequest { model_version: "9".into(), ..request() }, Code::NotFound, "'echo' version 9 is not found"),
        (ModelInferRequest { model_version: "x".into(), ..request() }, Code::NotFound, "version x is not found"),
        (ModelInferRequest { model_name: "echo@no".into(), ..request() }, Code::NotFound, "has no label 'no'"),
        (
            ModelInferRequest {
                inputs: vec![input("x", &[1, 4])],
                raw_input_contents: vec![raw(&[0.0; 4])],
                ..request()
            },
            Code::InvalidArgument,
            "[request id: 7] unexpected shape for input 'x' for model 'echo'. Expected [-1,3], got [1,4]",
        ),
        (
            ModelInferRequest { inputs: vec![input("z", &[1, 3])], ..request() },
            Code::InvalidArgument,
            "unexpected inference input 'z' for model 'echo'",
        ),
        (
            ModelInferRequest { raw_input_contents: vec![raw(&[0.0; 2])], ..request() },
            Code::InvalidArgument,
            "input 'x': expected 12 bytes for shape [1,3] of FP32, got 8",
        ),
    ];
    for (request, code, text) in cases {
        let status = client.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
    }
    assert!(client.model_infer(request()).await.is_ok());
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_told() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let mut request = Request::new(echo("", [0.0; 3]));
    request.metadata_mut().insert("headgate-timeout-ms", "0".parse().unwrap());
    let status = client.model_infer(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().starts_with("Request timeout expired"));
    let mut request = Request::new(echo("", [0.0; 3]));
    request.set_timeout(Duration::from_secs(60));
    assert!(client.model_infer(request).await.is_ok());
}

#[tokio::test]
async fn an_answer_is_compressed_where_the_request_was() {
    let server = echo_server().await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let offering = server.client().await.accept_compressed(encoding);
        let response = offering.clone().model_infer(echo("", [1.0; 3])).await.unwrap();
        assert!(response.metadata().get("grpc-encoding").is_none());
        let response = offering.send_compressed(encoding).model_infer(echo("", [1.0; 3])).await.unwrap();
        assert!(response.metadata().get("grpc-encoding").is_some());
        assert_eq!(response.into_inner().raw_output_contents, [raw(&[1.0; 3])]);
    }
}

#[tokio::test]
async fn metadata_config_and_readiness_follow_what_is_served() {
    let server = echo_server().await;
    let mut client = server.client().await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let metadata = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!((metadata.name.as_str(), metadata.version.as_str()), ("headgate", env!("CARGO_PKG_VERSION")));
    assert!(metadata.extensions.contains(&"statistics".to_owned()));

    let request = ModelMetadataRequest { name: "echo".into(), version: String::new() };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!((metadata.versions, metadata.platform.as_str()), (vec!["1".into(), "2".into()], "function_onnx"));
    assert_eq!((metadata.inputs[0].name.as_str(), &metadata.inputs[0].shape[..]), ("x", &[-1, 3][..]));
    let request = ModelMetadataRequest { name: "echo".into(), version: "1".into() };
    assert_eq!(client.model_metadata(request).await.unwrap().into_inner().versions, ["1"]);

    let request = ModelConfigRequest { name: "echo".into(), version: String::new() };
    assert_eq!(client.model_config(request).await.unwrap().into_inner().config.unwrap().name, "echo");

    let ready = |name: &str, version: &str| ModelReadyRequest { name: name.into(), version: version.into() };
    assert!(client.model_ready(ready("echo", "1")).await.unwrap().into_inner().ready);
    assert_eq!(client.model_ready(ready("no", "")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn statistics_count_each_request_once() {
    let server = echo_server().await;
    let mut client = server.client().await;
    for _ in 0..3 {
        client.model_infer(echo("", [0.0; 3])).await.unwrap();
    }
    let request = |name: &str, version: &str| ModelStatisticsRequest { name: name.into(), version: version.into() };
    let stats = client.model_statistics(request("echo", "2")).await.unwrap().into_inner().model_stats;
    let [version] = &stats[..] else { panic!("{stats:?}") };
    assert_eq!((version.inference_count, version.execution_count), (3, 3));
    let counted = version.inference_stats.as_ref().unwrap();
    for duration in [&counted.success, &counted.queue, &counted.compute_infer] {
        assert_eq!(duration.as_ref().unwrap().count, 3);
    }
    assert!(counted.cache_hit.is_some() && counted.cache_miss.is_some());
    assert_eq!(version.batch_stats[0].compute_infer.as_ref().unwrap().count, 3);
    assert_eq!(client.model_statistics(request("", "")).await.unwrap().into_inner().model_stats.len(), 2);
    let status = client.model_statistics(request("no", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "requested model 'no' is not available");
}

#[tokio::test]
async fn the_repository_is_listed_and_its_control_follows_the_mode() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let request = RepositoryIndexRequest { ready: true, ..RepositoryIndexRequest::default() };
    let index = client.repository_index(request).await.unwrap().into_inner().models;
    let listed: Vec<_> = index.iter().map(|m| (m.name.as_str(), m.version.as_str(), m.state.as_str())).collect();
    assert_eq!(listed, [("echo", "1", "READY"), ("echo", "2", "READY")]);
    let request = RepositoryIndexRequest { repository_name: "other".into(), ..RepositoryIndexRequest::default() };
    assert_eq!(client.repository_index(request).await.unwrap_err().code(), Code::Unimplemented);
    let request = RepositoryModelLoadRequest { model_name: "echo".into(), ..RepositoryModelLoadRequest::default() };
    let status = client.repository_model_load(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "explicit model load / unload is not allowed if polling is enabled");
    let request = RepositoryModelUnloadRequest { model_name: "..".into(), ..RepositoryModelUnloadRequest::default() };
    assert_eq!(client.repository_model_unload(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn settings_are_changed_and_read_back() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let rate = trace_setting_request::SettingValue { value: vec!["5".into()] };
    let mut request = TraceSettingRequest { model_name: "echo".into(), ..TraceSettingRequest::default() };
    request.settings.insert("trace_rate".into(), rate);
    let settings = client.trace_setting(request.clone()).await.unwrap().into_inner().settings;
    assert_eq!(settings["trace_rate"].value, ["5"]);
    request.settings.get_mut("trace_rate").unwrap().value.clear();
    let settings = client.trace_setting(request).await.unwrap().into_inner().settings;
    assert_eq!(settings["trace_rate"].value, ["1000"]);
    let unknown = TraceSettingRequest { model_name: "no".into(), ..TraceSettingRequest::default() };
    assert_eq!(client.trace_setting(unknown).await.unwrap_err().code(), Code::NotFound);

    use log_settings_request::setting_value::ParameterChoice;
    let off = log_settings_request::SettingValue { parameter_choice: Some(ParameterChoice::BoolParam(false)) };
    let mut request = LogSettingsRequest::default();
    request.settings.insert("log_info".into(), off);
    let settings = client.log_settings(request).await.unwrap().into_inner().settings;
    let expected = log_settings_response::setting_value::ParameterChoice::BoolParam(false);
    assert_eq!(settings["log_info"].parameter_choice, Some(expected));
    assert_eq!(settings.len(), 6);
}

#[tokio::test]
async fn shared_memory_is_not_offered() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let status = client.system_shared_memory_status(SystemSharedMemoryStatusRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let status = client.cuda_shared_memory_register(CudaSharedMemoryRegisterRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_model_that_is_gone_is_not_found_from_the_next_request_on() {
    let server = echo_server().await;
    let mut client = server.client().await;
    client.model_infer(echo("", [0.0; 3])).await.unwrap();
    server.plane.publish(serving(&[]));
    assert_eq!(client.model_infer(echo("", [0.0; 3])).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = echo_server().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer: ServerReflectionResponse = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in [
        "inference.GRPCInferenceService",
        "headgate.v1.FeedbackService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&service), "{names:?}");
    }
}

#[tokio::test]
async fn an_output_is_given_once() {
    let server = echo_server().await;
    let mut client = server.client().await;
    let output = model_infer_request::InferRequestedOutputTensor { name: "x_out".into(), ..Default::default() };
    let twice = ModelInferRequest { outputs: vec![output.clone(), output], ..echo("", [0.0; 3]) };
    let status = client.model_infer(twice).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("output 'x_out' of model 'echo' is asked for twice"), "{}", status.message());
}
