"""Checks with grpc's standard health client (grpcio-health-checking), as Kubernetes and load balancers use it."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support import TIMEOUT_S, VERSIONS, expect_equal, expect_raises

SERVING = health_pb2.HealthCheckResponse.SERVING


def check_server_is_serving(target):
    with grpc.insecure_channel(target.grpc) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    expect_equal("status", reply.status, SERVING)


def check_each_model_is_serving(target):
    with grpc.insecure_channel(target.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for model in VERSIONS:
            reply = stub.Check(health_pb2.HealthCheckRequest(service=model), timeout=TIMEOUT_S)
            expect_equal(f"status of {model}", reply.status, SERVING)


def check_unknown_service(target):
    with grpc.insecure_channel(target.grpc) as channel:
        with expect_raises(grpc.RpcError) as caught:
            request = health_pb2.HealthCheckRequest(service="no-such-model")
            health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)
    expect_equal("status", caught.error.code(), grpc.StatusCode.NOT_FOUND)


def check_watch_begins_with_the_present_state(target):
    with grpc.insecure_channel(target.grpc) as channel:
        for service in ("", "iris"):
            replies = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S
            )
            expect_equal(f"status of '{service}'", next(replies).status, SERVING)
            replies.cancel()
