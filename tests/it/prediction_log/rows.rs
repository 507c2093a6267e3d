//! One row an instance, the same whatever wire the request came by.

use headgate::inference::PredictionId;
use headgate::tensor::Tensor;
use serde_json::json;

use super::site::{Row, Site};
use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::TempDir;
use crate::support::zoo;

fn quick() -> serde_json::Value {
    json!({"sync_interval": "20ms"})
}

fn payload(row: &Row) -> Vec<(String, String)> {
    let is_payload = |name: &str| name.starts_with("in_") || name.starts_with("out_");
    row.iter().filter(|(name, _)| is_payload(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_encoding_leaves_the_same_rows() {
    let repository = TempDir::new();
    for model in ["iris_logreg", "multi_io_mixed", "codelang_v1"] {
        repository.add_with_manifest(model, model, 1);
    }
    let site = Site::start(repository, &quick());
    let wires = Wires::connect(&site.server).await;
    for model in ["iris_logreg", "multi_io_mixed", "codelang_v1"] {
        let tag = zoo::tags(model).into_iter().find(|tag| tag == "b3").unwrap_or_else(|| zoo::tags(model)[0].clone());
        let inputs = zoo::inputs(model, &tag);
        let encodings: Vec<Encoding> = Encoding::ALL.into_iter().filter(|encoding| encoding.takes(&inputs)).collect();
        assert!(encodings.len() >= 3, "{model}: {encodings:?}");
        for encoding in &encodings {
            wires.infer(*encoding, &Call { model, version: "", inputs: &inputs }).await.unwrap();
        }
        let rows: Vec<Row> = loop {
            let rows = site.predictions(encodings.len()).await;
            let of_model: Vec<Row> = rows.into_iter().filter(|row| row["model_name"] == model).collect();
            let each = of_model.first().map_or(1, |row| row["n_rows"].parse::<usize>().unwrap());
            if of_model.len() >= each * encodings.len() {
                break of_model;
            }
        };
        let rows_of_a_request = rows[0]["n_rows"].parse::<usize>().unwrap();
        println!("{model}/{tag}: {} rows of {rows_of_a_request} a request", rows.len());
        for position in 0..rows_of_a_request {
            let same: Vec<_> = rows.iter().filter(|row| row["row_index"] == position.to_string()).collect();
            assert_eq!(same.len(), encodings.len(), "{model}");
            assert!(payload(same[0]).iter().any(|(_, value)| !value.is_empty()));
            for other in &same[1..] {
                assert_eq!(payload(other), payload(same[0]), "{model} row {position}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_batch_is_a_row_an_instance_whose_ids_follow_from_the_first() {
    let repository = TempDir::new();
    repository.add_with_manifest("iris_logreg", "iris", 1);
    repository.write("iris/model.yaml", "features: {X: [sepal_length, sepal_width, petal_length, petal_width]}");
    let site = Site::start(repository, &quick());
    let inputs = zoo::inputs("iris_logreg", "b8");
    let rows = inputs[0].1.shape()[0];
    let (head, length, body) =
        crate::support::infer::http_body(&Call { model: "iris", version: "", inputs: &inputs }, true);
    let request = http::Request::post("/")
        .header("Inference-Header-Content-Length", length.unwrap())
        .header("x-request-id", "req-7");
    let http = crate::support::client::Http::new(site.server.http);
    let answer = http.send(request, "/v2/models/iris/infer", [head.into_bytes(), body].concat()).await.unwrap();
    let first: PredictionId = answer.header("headgate-prediction-id").parse().unwrap();
    let mut logged = site.predictions(rows).await;
    logged.sort_by_key(|row| row["row_index"].parse::<usize>().unwrap());
    assert_eq!(logged.len(), rows);
    let values: Vec<f32> = inputs[0].1.elements::<f32>().collect();
    for (position, row) in logged.iter().enumerate() {
        assert_eq!(row["prediction_id"], first.row(position as u64).to_string());
        assert_eq!((row["request_id"].as_str(), row["n_rows"].as_str()), ("req-7", rows.to_string().as_str()));
        assert_eq!(row["in_petal_length"].parse::<f32>().unwrap(), values[position * 4 + 2]);
        assert_eq!((row["status"].as_str(), row["arm"].as_str(), row["model_version"].as_str()), ("ok", "stable", "1"));
        assert_eq!((row["seq"].parse::<usize>().unwrap(), row["sample_probability"].as_str()), (position, "1.0"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_a_proven_batch_axis_gives_one_row_a_request() {
    let repository = TempDir::new();
    repository.add_with_manifest("batch_unsafe_meansub", "m", 1);
    let site = Site::start(repository, &quick());
    let wires = Wires::connect(&site.server).await;
    let inputs: Vec<(String, Tensor)> = zoo::inputs("batch_unsafe_meansub", &zoo::tags("batch_unsafe_meansub")[0]);
    wires.infer(Encoding::Raw, &Call { model: "m", version: "", inputs: &inputs }).await.unwrap();
    let rows = site.predictions(1).await;
    assert_eq!((rows.len(), rows[0]["n_rows"].as_str()), (1, "1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_unknown_names_are_counted_and_not_written() {
    let repository = TempDir::new();
    repository.add_with_manifest("iris_logreg", "iris", 1);
    let site = Site::start(repository, &quick());
    let wires = Wires::connect(&site.server).await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    let misnamed = vec![("Y".to_owned(), inputs[0].1.clone())];
    for (model, inputs) in [("iris", &misnamed), ("model-of-nobody", &inputs), ("iris", &inputs)] {
        _ = wires.infer(Encoding::Raw, &Call { model, version: "", inputs }).await;
    }
    let rows = site.predictions(1).await;
    assert_eq!(rows.len(), 1, "the one that was answered");
    let refused = site.server.metric(r#"headgate_log_unwritten_requests_total{model="iris"}"#);
    assert_eq!(refused, 1.0);
    let (_, metrics) = crate::support::client::get_blocking(site.server.admin, "/metrics");
    assert!(!metrics.contains("model-of-nobody"), "a name that a client made up is no series");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_the_model_is_a_row_with_its_inputs() {
    let repository = TempDir::new();
    repository.add_with_manifest("gather_may_fail", "m", 1);
    let site = Site::start(repository, &quick());
    let wires = Wires::connect(&site.server).await;
    let mut failed = 0;
    for tag in zoo::tags("gather_may_fail") {
        let inputs = zoo::inputs("gather_may_fail", &tag);
        let out_of_range: Vec<(String, Tensor)> = inputs
            .into_iter()
            .map(|(name, tensor)| match tensor.dtype() {
                headgate::tensor::DataType::Int64 => {
                    let far = vec![1_000_000i64; tensor.element_count()];
                    let shape = tensor.shape().to_vec();
                    (name, Tensor::from_elements(tensor.dtype(), shape, &far).unwrap())
                }
                _ => (name, tensor),
            })
            .collect();
        let call = Call { model: "m", version: "", inputs: &out_of_range };
        failed += usize::from(wires.infer(Encoding::Raw, &call).await.is_err());
    }
    assert!(failed > 0, "the model is made to fail on such an index");
    let rows = site.predictions(1).await;
    let errors: Vec<&Row> = rows.iter().filter(|row| row["status"] == "error").collect();
    assert!(!errors.is_empty(), "{rows:?}");
    assert!(errors[0]["error"].contains("inference failed") && payload(errors[0]).iter().any(|(_, v)| !v.is_empty()));
}
