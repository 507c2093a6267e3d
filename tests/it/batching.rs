//! Batching and admission from outside: rows of many clients share runs and each gets its own, requests of any size are
//! taken, clients are told what holds, and what can't be done in time is refused at once.

use std::time::Duration;

use serde_json::{Value, json};

use headgate::tensor::{DataType, Tensor};

use crate::support::infer::{Call, Encoding, Refusal, Wires, grpc_request, http_body, infer_path};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{eventually, zoo};

/// Rows of `slow_matmul24`, each unlike any other.
fn slow_rows(first: usize, rows: usize) -> Vec<(String, Tensor)> {
    let width = zoo::inputs("slow_matmul24", "b1")[0].1.shape()[1];
    let mut random = fastrand::Rng::with_seed(first as u64 + 1);
    let values: Vec<f32> = (0..rows * width).map(|_| random.f32() - 0.5).collect();
    let name = zoo::inputs("slow_matmul24", "b1")[0].0.clone();
    vec![(name, Tensor::from_elements(DataType::Fp32, vec![rows, width], &values).unwrap())]
}

/// Waits until the model's batch sizes were measured, and gives the most rows of a run.
async fn measured(server: &Server, model: &str) -> usize {
    eventually(&format!("{model} is measured"), async || {
        let loaded = &server.model(model)["versions"][0]["loaded"];
        match loaded["batch_sizes_measured"].as_bool() {
            Some(true) => Ok(loaded["max_batch_rows"].as_u64().unwrap() as usize),
            _ => Err(loaded.to_string()),
        }
    })
    .await
}

fn series(name: &str, model: &str) -> String {
    format!("{name}{{model=\"{model}\",version=\"1\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_many_clients_share_runs_and_each_gets_its_own() {
    let repository = TempDir::new();
    // Whatever a busy machine measures.
    repository.write("slow/model.yaml", "dynamic_batching: {preferred_batch_size: [8]}\n");
    repository.add("slow_matmul24", "slow", 1);
    let server = Server::start(repository.path(), &[]);
    measured(&server, "slow").await;
    let wires = Wires::connect(&server).await;
    let mut alone = vec![];
    for client in 0..24 {
        let inputs = slow_rows(client, 1 + client % 3);
        let call = Call { model: "slow", version: "", inputs: &inputs };
        alone.push((inputs.clone(), wires.infer(Encoding::Binary, &call).await.unwrap()));
    }
    let runs_before = server.metric(&series("nv_inference_exec_count", "slow"));
    let rows_before = server.metric(&series("nv_inference_count", "slow"));
    let clients = alone.into_iter().enumerate().map(|(client, (inputs, expected))| {
        let server_wires = Wires::connect(&server);
        async move {
            let wires = server_wires.await;
            for round in 0..5 {
                let encoding = if (client + round) % 2 == 0 { Encoding::Binary } else { Encoding::Raw };
                let call = Call { model: "slow", version: "", inputs: &inputs };
                let reply = wires.infer(encoding, &call).await.unwrap();
                for (name, tensor) in &reply.outputs {
                    assert_eq!(zoo::difference(tensor, &expected.outputs[name], 1e-4), None, "client {client}");
                }
            }
        }
    });
    futures_util::future::join_all(clients).await;
    let runs = server.metric(&series("nv_inference_exec_count", "slow")) - runs_before;
    let rows = server.metric(&series("nv_inference_count", "slow")) - rows_before;
    assert_eq!(rows, (0..24).map(|client| 5.0 * (1 + client % 3) as f64).sum::<f64>());
    let requests = 24.0 * 5.0;
    assert!(runs * 1.5 < requests, "{runs} runs of {requests} requests");
}

#[tokio::test]
async fn a_request_of_any_size_is_taken_and_put_together_again() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v2", "digits", 1);
    let server = Server::start(repository.path(), &[]);
    measured(&server, "digits").await;
    let wires = Wires::connect(&server).await;
    let one = zoo::inputs("digits_cnn_v2", "b8");
    let rows: Vec<Tensor> = (0..25).map(|_| one[0].1.clone()).collect();
    let data: Vec<u8> = rows.iter().flat_map(|tensor| tensor.data().to_vec()).collect();
    let mut shape = one[0].1.shape().to_vec();
    shape[0] = 200;
    let inputs = vec![(one[0].0.clone(), Tensor::from_raw(DataType::Fp32, shape, data.into()).unwrap())];
    let expected = zoo::case("digits_cnn_v2", "b8").outputs;
    for encoding in Encoding::ALL {
        let reply = wires.infer(encoding, &Call { model: "digits", version: "", inputs: &inputs }).await.unwrap();
        for (name, tensor) in reply.outputs.iter().filter(|(_, tensor)| tensor.dtype() == DataType::Fp32) {
            assert_eq!(tensor.shape()[0], 200);
            let expected: Vec<f32> = expected[name].elements().collect();
            for (row, got) in tensor.elements::<f32>().collect::<Vec<_>>().chunks(expected.len()).enumerate() {
                let close = got.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5);
                assert!(close, "{name}, rows from {}: {got:?}, expected {expected:?}", row * 8);
            }
        }
    }
    let largest = server.metric("headgate_batch_rows_sum{model=\"digits\",version=\"1\"}");
    assert!(largest >= 800.0, "{largest}");
}

#[tokio::test]
async fn clients_are_told_what_holds() {
    let repository = TempDir::new();
    repository.add("slow_matmul24", "slow", 1);
    repository.add("slow_matmul24", "limited", 1);
    repository.write("limited/model.yaml", "max_batch_size: 2\n");
    repository.add("batch_unsafe_softmax0", "mixing", 1);
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;
    let config = async |model: &str| wires.http.get(&format!("/v2/models/{model}/config")).await.json();
    let cap = measured(&server, "slow").await;
    assert_eq!(config("slow").await["max_batch_size"], cap);
    assert_eq!(config("limited").await["max_batch_size"], 2);
    assert_eq!(config("mixing").await["max_batch_size"], 0);

    let inputs = slow_rows(1, 3);
    let call = Call { model: "limited", version: "", inputs: &inputs };
    for encoding in [Encoding::Binary, Encoding::Raw] {
        let refusal = wires.infer(encoding, &call).await.unwrap_err().to_string();
        assert!(refusal.contains("inference request batch-size must be <= 2 for 'limited'"), "{refusal}");
    }
    let index = wires.http.post_json("/v2/repository/index", &json!({})).await.json();
    let mixing = index.as_array().unwrap().iter().find(|entry| entry["name"] == "mixing").unwrap();
    assert!(mixing["reason"].as_str().unwrap().contains("batch"), "{mixing}");
}

/// A server with a model of a few milliseconds a run, one core, and one row a run.
fn narrow(flags: &[&str]) -> (TempDir, Server) {
    let repository = TempDir::new();
    repository.add("slow_matmul24", "slow", 1);
    repository.write("slow/model.yaml", "max_batch_size: 1\nworkers: {max: 1}\n");
    let server = Server::start(repository.path(), flags);
    (repository, server)
}

async fn http(wires: &Wires, headers: &[(&str, &str)]) -> Result<(), (u16, String, Option<String>)> {
    let inputs = slow_rows(1, 1);
    let call = Call { model: "slow", version: "", inputs: &inputs };
    let (head, length, body) = http_body(&call, true);
    let mut request = http::Request::post("/").header("Inference-Header-Content-Length", length.unwrap());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = wires.http.send(request, &infer_path(&call), [head.into_bytes(), body].concat()).await.unwrap();
    match answer.status {
        200 => Ok(()),
        status => {
            let retry = answer.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
            Err((status, answer.error(), retry))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_in_time_is_refused_at_once_and_says_why() {
    let (_repository, server) = narrow(&["--max-queue-size", "4"]);
    let flood = (0..64).map(|client| {
        let wires = Wires::connect(&server);
        async move {
            let wires = wires.await;
            let mut refusals = vec![];
            for _ in 0..5 {
                // Every other client by HTTP.
                if client % 2 == 0 {
                    refusals.extend(http(&wires, &[]).await.err());
                } else {
                    let inputs = slow_rows(1, 1);
                    let call = Call { model: "slow", version: "", inputs: &inputs };
                    match wires.grpc_infer(grpc_request(&call, true)).await {
                        Err(Refusal::Grpc { code, text }) => {
                            assert_eq!(code, tonic::Code::Unavailable);
                            assert!(text.starts_with("Exceeds maximum queue size"), "{text}");
                        }
                        other => drop(other.unwrap()),
                    }
                }
            }
            refusals
        }
    });
    let refusals: Vec<_> = futures_util::future::join_all(flood).await.concat();
    assert!(refusals.len() > 20, "only {} refusals", refusals.len());
    for (status, text, retry) in refusals {
        assert_eq!(status, 503);
        assert!(text.starts_with("Exceeds maximum queue size: 4 of 4 requests are waiting for model 'slow'"), "{text}");
        assert!(text.contains("expected wait"), "{text}");
        assert!(retry.unwrap().parse::<u64>().unwrap() >= 1);
    }
    let sheds = server.metric("headgate_sheds_total{model=\"slow\",version=\"1\",reason=\"queue_size\"}");
    assert!(sheds > 20.0, "{sheds}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_expired_request_is_ever_run() {
    let (_repository, server) = narrow(&[]);
    let flood = (0..48).map(|client| {
        let wires = Wires::connect(&server);
        async move {
            let wires = wires.await;
            let timeout = ["3", "8", "20", "60"][client % 4];
            let mut statuses = vec![];
            for _ in 0..10 {
                match http(&wires, &[("headgate-timeout-ms", timeout)]).await {
                    Ok(()) => statuses.push(200),
                    Err((504, text, _)) => {
                        assert!(text.starts_with("Request timeout expired"), "{text}");
                        statuses.push(504);
                    }
                    Err((503, text, _)) => {
                        assert!(text.starts_with("Exceeds maximum queue size"), "{text}");
                        statuses.push(503);
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            statuses
        }
    });
    let statuses: Vec<u16> = futures_util::future::join_all(flood).await.concat();
    let count = |status: u16| statuses.iter().filter(|&&s| s == status).count();
    println!("deadlines: {} answered, {} refused, {} expired", count(200), count(503), count(504));
    assert!(count(200) > 0 && count(503) + count(504) > 100, "{statuses:?}");
    let wasted =
        server.metric("headgate_wasted_rows_total{model=\"slow\",version=\"1\",reason=\"expired_before_run\"}");
    assert_eq!(wasted, 0.0);
    assert_eq!(server.metric(&series("headgate_queue_depth", "slow")), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_overload_high_priority_is_served_and_low_is_shed() {
    let (_repository, server) = narrow(&["--max-queue-size", "8"]);
    let client = |priority: &'static str, count: usize| {
        let server = &server;
        async move {
            let clients = (0..count).map(|_| async {
                let wires = Wires::connect(server).await;
                let mut served = 0;
                for _ in 0..20 {
                    served += usize::from(http(&wires, &[("headgate-priority", priority)]).await.is_ok());
                    // The same pace, whether served or refused.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                served
            });
            futures_util::future::join_all(clients).await.iter().sum::<usize>()
        }
    };
    let (high, low) = tokio::join!(client("high", 4), client("low", 28));
    println!("priorities: {high} of 80 high served, {low} of 560 low");
    assert_eq!(high, 80, "four at a time fit the queue");
    assert!(low < 500, "{low} of 560 low requests were served");
}

#[tokio::test]
async fn a_restart_knows_what_was_measured() {
    let repository = TempDir::new();
    let data = TempDir::new();
    repository.add("slow_matmul24", "slow", 1);
    let flags = ["--data-dir", data.path().to_str().unwrap()];
    let server = Server::start(repository.path(), &flags);
    let cap = measured(&server, "slow").await;
    server.logs(&["batch sizes measured", "Measurement"]).await;
    server.kill();
    let server = Server::start(repository.path(), &flags);
    assert_eq!(measured(&server, "slow").await, cap);
    server.logs(&["batch sizes measured", "Cache"]).await;
    let loaded: Value = server.model("slow")["versions"][0]["loaded"].clone();
    assert!(loaded["plan_bytes"].as_u64().unwrap() > 0, "{loaded}");
}
