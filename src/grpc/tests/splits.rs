//! A split route over gRPC: by metadata and by parameter, in calls and in streams.

use tokio_stream::StreamExt;
use tonic::Request;

use super::*;
use crate::proto::inference::InferParameter;
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::routing::{Arm, Weights};
use crate::testing::SplitPlane;

fn message() -> ModelInferRequest {
    ModelInferRequest { model_name: "m".to_owned(), ..echo("", [1.0, 2.0, 3.0]) }
}

fn with_parameter(choice: ParameterChoice) -> ModelInferRequest {
    let value = InferParameter { parameter_choice: Some(choice) };
    ModelInferRequest { parameters: [("headgate-key".to_owned(), value)].into(), ..message() }
}

async fn split() -> (Served, SplitPlane) {
    let model = || FunctionModel::identity(&[("x", DataType::Fp32, 3)]);
    let served = SplitPlane::new(model(), model());
    served.split.dial.set_weights(Weights::of_candidate(4000));
    (start(served.plane.clone(), GrpcConfig::default()).await, served)
}

#[tokio::test]
async fn a_key_meets_the_arm_that_it_meets_over_http() {
    let (server, served) = split().await;
    let mut client = server.client().await;
    for number in 0..20i64 {
        let key = number.to_string();
        let expected = served.arm_of(&key);
        let mut by_metadata = Request::new(message());
        by_metadata.metadata_mut().insert("headgate-key", key.parse().unwrap());
        let by_text = Request::new(with_parameter(ParameterChoice::StringParam(key)));
        let by_number = Request::new(with_parameter(ParameterChoice::Int64Param(number)));
        for request in [by_metadata, by_text, by_number] {
            let response = client.model_infer(request).await.unwrap();
            assert_eq!(response.metadata().get("headgate-arm").unwrap(), expected.name());
            let version = if expected == Arm::Candidate { "2" } else { "1" };
            assert_eq!(response.into_inner().model_version, version);
        }
    }
}

#[tokio::test]
async fn each_request_of_a_stream_meets_its_own_arm() {
    let (server, served) = split().await;
    let mut client = server.client().await;
    let keys: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    let requests: Vec<_> = keys.iter().map(|key| with_parameter(ParameterChoice::StringParam(key.clone()))).collect();
    let mut answers = client.model_stream_infer(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for key in &keys {
        let response = answers.next().await.unwrap().unwrap().infer_response.unwrap();
        let arm = InferParameter {
            parameter_choice: Some(ParameterChoice::StringParam(served.arm_of(key).name().to_owned())),
        };
        assert_eq!(response.parameters["headgate-arm"], arm, "{key}");
    }
}

#[tokio::test]
async fn a_forced_arm_and_a_pinned_version() {
    let (server, mut served) = split().await;
    served.split.dial.set_weights(Weights::of_candidate(1));
    let mut client = server.client().await;
    let mut forced = Request::new(message());
    forced.metadata_mut().insert("headgate-arm", "candidate".parse().unwrap());
    assert_eq!(client.model_infer(forced).await.unwrap().into_inner().model_version, "2");
    let mut pinned = Request::new(ModelInferRequest { model_version: "1".into(), ..message() });
    pinned.metadata_mut().insert("headgate-arm", "candidate".parse().unwrap());
    assert_eq!(client.model_infer(pinned).await.unwrap().into_inner().model_version, "1");
    assert!(served.observations.try_recv().is_err());
}
