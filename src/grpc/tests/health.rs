//! `grpc.health.v1` over the wire.

use tokio::time::timeout;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::*;
use crate::health::Phase;
use crate::testing::serving;

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap().status()
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn the_server_and_each_model_can_be_checked() {
    let server = echo_server().await;
    let mut client = HealthClient::new(server.channel().await);
    for known in ["", "echo", "inference.GRPCInferenceService"] {
        let status = client.check(of(known)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{known}");
    }
    for unknown in ["no", "echo@no", "../x"] {
        assert_eq!(client.check(of(unknown)).await.unwrap_err().code(), Code::NotFound, "{unknown}");
    }
    server.plane.health.advance(Phase::Draining);
    for known in ["", "echo"] {
        let status = client.check(of(known)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing, "{known}");
    }
}

#[tokio::test]
async fn a_watch_sees_a_model_come_and_go_and_the_server_drain() {
    let server = echo_server().await;
    let mut client = HealthClient::new(server.channel().await);
    let mut late = client.watch(of("late")).await.unwrap().into_inner();
    let mut whole = client.watch(of("")).await.unwrap().into_inner();
    assert_eq!(next(&mut late).await, ServingStatus::ServiceUnknown);
    assert_eq!(next(&mut whole).await, ServingStatus::Serving);
    let model = FunctionModel::identity(&[("x", DataType::Fp32, 3)]);
    server.plane.publish(serving(&[("late", 1, model)]));
    assert_eq!(next(&mut late).await, ServingStatus::Serving);
    server.plane.publish(serving(&[]));
    assert_eq!(next(&mut late).await, ServingStatus::ServiceUnknown);

    server.plane.health.advance(Phase::Draining);
    assert_eq!(next(&mut whole).await, ServingStatus::NotServing);
    server.drain.cancel();
    let ended = timeout(PATIENCE, whole.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap(), Drained { cut: 0 });
}
