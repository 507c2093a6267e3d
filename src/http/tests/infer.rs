//! Inference by the Open Inference Protocol: JSON, binary, raw, and what clients rely on in the answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::engine::padding::{DeclaredPadding, PaddingRule};
use crate::http::coding::{self, Coding};
use crate::http::reply::Body;

const FP32_ROW: &str = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1,2.5]]}]}"#;

async fn infer_json(model: Arc<dyn Model>, body: &str) -> Value {
    Client::of(&[("m", 3, model)]).post_json("/v2/models/m/infer", body).await.ok().json()
}

#[tokio::test]
async fn json_in_and_flat_json_out_without_output_parameters() {
    let client = Client::of(&[("m", 3, identity(DataType::Fp32))]);
    let answer = client.post_json("/v2/models/m/infer", FP32_ROW).await.ok();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.body,
        r#"{"model_name":"m","model_version":"3","outputs":[{"name":"x_out","datatype":"FP32","shape":[1,2],"data":[1.0,2.5]}]}"#
    );
    assert_eq!(answer.header("headgate-version"), Some("3"));
    assert_eq!(answer.header("headgate-arm"), Some("stable"));
    assert_eq!(answer.header("headgate-prediction-id").unwrap().len(), 36);
    assert_eq!(client.plane().budget.in_use(), 0);
}

#[tokio::test]
async fn the_id_and_the_name_that_was_asked_for_come_back() {
    let mut serving = testing::serving(&[("m", 3, identity(DataType::Fp32))]);
    let entry = Arc::make_mut(serving.models.get_mut("m").unwrap());
    entry.labels.insert("stable".into(), 3);
    let plane = testing::data_plane(&[]);
    plane.publish(serving);
    let body = FP32_ROW.replacen('{', r#"{"id":"4\"2","#, 1);
    let answer = Client::on(plane).post_json("/v2/models/m%40stable/infer", &body).await.ok().json();
    assert_eq!((&answer["id"], &answer["model_name"]), (&"4\"2".into(), &"m@stable".into()));
    assert_eq!(answer["model_version"], "3");
}

#[tokio::test]
async fn keys_come_in_any_order_and_unknown_ones_are_passed_over() {
    let body = r#"{"more":[{}],"inputs":[{"data":[[1,2]],"datatype":"FP32","x":null,"name":"x","shape":[1,2]}]}"#;
    assert_eq!(infer_json(identity(DataType::Fp32), body).await["outputs"][0]["data"], serde_json::json!([1.0, 2.0]));
}

#[tokio::test]
async fn nan_and_infinity_both_ways() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    let body = r#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[NaN,Infinity,-Infinity,-0.0]}]}"#;
    let answer = client.post_json("/v2/models/m/infer", body).await.ok();
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains(r#""data":[NaN,Infinity,-Infinity,-0.0]"#), "{text}");
}

#[tokio::test]
async fn a_binary_input_and_binary_outputs_in_order() {
    let client = Client::of(&[("m", 1, add())]);
    let head = r#"{"parameters":{"binary_data_output":true},"inputs":[
        {"name":"a","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},
        {"name":"b","shape":[2],"datatype":"FP32","data":[10,20]}]}"#;
    let (length, body) = with_head(head, &[&le_bytes(&[1.0, 2.0])]);
    let answer = client.post("/v2/models/m/infer", &[("Inference-Header-Content-Length", &length)], body).await.ok();
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!(head["outputs"][0]["parameters"], serde_json::json!({"binary_data_size": 8}));
    assert_eq!(head["outputs"][1]["parameters"], serde_json::json!({"binary_data_size": 16}));
    assert!(head["outputs"][0].get("data").is_none());
    assert_eq!(answer.body[length..], [le_bytes(&[11.0, 22.0]), le_bytes(&[1.0, 10.0, 2.0, 20.0])].concat());
}

#[tokio::test]
async fn an_output_that_is_listed_decides_its_form_itself() {
    let client = Client::of(&[("m", 1, add())]);
    let body = r#"{"parameters":{"binary_data_output":true},"inputs":[
        {"name":"a","shape":[1],"datatype":"FP32","data":[1]},{"name":"b","shape":[1],"datatype":"FP32","data":[2]}],
        "outputs":[{"name":"pair","parameters":{"binary_data":true}},{"name":"sum"}]}"#;
    let answer = client.post_json("/v2/models/m/infer", body).await.ok();
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let head: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
    assert_eq!((&head["outputs"][0]["name"], &head["outputs"][1]["name"]), (&"pair".into(), &"sum".into()));
    assert_eq!(head["outputs"][1]["data"], serde_json::json!([3.0]));
    assert!(head["outputs"][1].get("parameters").is_none());
    assert_eq!(answer.body[length..], le_bytes(&[1.0, 2.0]));
}

#[tokio::test]
async fn a_head_as_long_as_the_body_is_plain_json() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    let length = FP32_ROW.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    let answer = client.post("/v2/models/m/infer", &headers, FP32_ROW).await.ok();
    assert_eq!(answer.json()["outputs"][0]["data"], serde_json::json!([1.0, 2.5]));
}

#[tokio::test]
async fn a_head_of_length_0_is_one_raw_tensor() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32)), ("text", 1, identity_of_text())]);
    let raw = [("inference-header-content-length", "0")];
    let answer = client.post("/v2/models/m/infer", &raw, le_bytes(&[1.0, 2.0])).await.ok();
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    assert_eq!(answer.body[length..], le_bytes(&[1.0, 2.0]));
    let answer = client.post("/v2/models/text/infer", &raw, "hello").await.ok();
    assert!(answer.body.ends_with(b"\x05\0\0\0hello"));
}

fn identity_of_text() -> Arc<dyn Model> {
    FunctionModel::identity(&[("x", DataType::Bytes, 1)])
}

#[tokio::test]
async fn empty_tensors() {
    let body = r#"{"inputs":[{"name":"x","shape":[0,2],"datatype":"FP32","data":[]}]}"#;
    assert_eq!(infer_json(identity(DataType::Fp32), body).await["outputs"][0]["data"], serde_json::json!([]));
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    let head = r#"{"parameters":{"binary_data_output":true},
        "inputs":[{"name":"x","shape":[0,2],"datatype":"FP32","parameters":{"binary_data_size":0}}]}"#;
    let answer = client.post_json("/v2/models/m/infer", head).await.ok();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("inference-header-content-length"), None);
    assert_eq!(answer.json()["outputs"][0]["parameters"]["binary_data_size"], 0);
}

#[tokio::test]
async fn sixteen_bit_floats_strings_and_truth_as_json() {
    let body = |dtype: &str, data: &str| {
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"{dtype}","data":{data}}}]}}"#)
    };
    for (dtype, data, back) in [
        (DataType::Fp16, "[0.5,-2]", "[0.5,-2.0]"),
        (DataType::Bf16, "[1.5,1e3]", "[1.5,1000.0]"),
        (DataType::Bytes, r#"["é\n",""]"#, r#"["é\n",""]"#),
        (DataType::Bool, "[true,0]", "[true,false]"),
        (DataType::Uint64, "[18446744073709551615,0]", "[18446744073709551615,0]"),
    ] {
        let answer = infer_json(identity(dtype), &body(dtype.name(), data)).await;
        assert_eq!(answer["outputs"][0]["data"], serde_json::from_str::<Value>(back).unwrap(), "{dtype}");
    }
}

#[tokio::test]
async fn classification_gives_texts() {
    let body = r#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[0.25,0.75,1,0]}],
        "outputs":[{"name":"x_out","parameters":{"classification":1}}]}"#;
    let output = infer_json(identity(DataType::Fp32), body).await["outputs"][0].clone();
    assert_eq!((&output["datatype"], &output["shape"]), (&"BYTES".into(), &serde_json::json!([2, 1])));
    assert_eq!(output["data"], serde_json::json!(["0.750000:1", "1.000000:0"]));
}

#[tokio::test]
async fn bodies_and_answers_may_be_compressed() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    let plain = client.post_json("/v2/models/m/infer", FP32_ROW).await.ok().body;
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Deflate, "deflate")] {
        let coded = coding::encode(coding, &Body::from(FP32_ROW)).unwrap().pieces().next().unwrap().clone();
        let headers = [("content-encoding", name), ("accept-encoding", name)];
        let answer = client.post("/v2/models/m/infer", &headers, coded).await.ok();
        assert_eq!(answer.header("content-encoding"), Some(name));
        let mut lease = client.plane().budget.lease();
        assert_eq!(coding::decode(coding, &answer.body, 1 << 20, &mut lease).unwrap(), plain);
    }
}

#[tokio::test]
async fn while_it_drains_a_connection_ends_with_its_answer() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    assert_eq!(client.post_json("/v2/models/m/infer", FP32_ROW).await.ok().header("connection"), None);
    client.plane().health.advance(crate::health::Phase::Draining);
    assert_eq!(client.post_json("/v2/models/m/infer", FP32_ROW).await.ok().header("connection"), Some("close"));
    // HTTP/2 has its own word for it, and forbids this one.
    let request = http::Request::post("/v2/models/m/infer").version(http::Version::HTTP_2);
    let answer = client.send(request.body(FP32_ROW.into()).unwrap()).await.ok();
    assert_eq!(answer.header("connection"), None);
}

#[tokio::test]
async fn the_length_of_the_head_counts_plain_bytes() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    let head = r#"{"parameters":{"binary_data_output":true},
        "inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let (length, body) = with_head(head, &[&le_bytes(&[1.0, 2.0])]);
    let coded = coding::encode(Coding::Gzip, &Body::from(body)).unwrap().pieces().next().unwrap().clone();
    let headers =
        [("content-encoding", "gzip"), ("accept-encoding", "gzip"), ("inference-header-content-length", &length)];
    let answer = client.post("/v2/models/m/infer", &headers, coded).await.ok();
    let length: usize = answer.header("inference-header-content-length").unwrap().parse().unwrap();
    let mut lease = client.plane().budget.lease();
    let plain = coding::decode(Coding::Gzip, &answer.body, 1 << 20, &mut lease).unwrap();
    assert_eq!(plain[length..], le_bytes(&[1.0, 2.0]));
}

#[tokio::test]
async fn headers_of_a_request_are_taken_over() {
    let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
    let headers = [("x-request-id", "abc-1"), ("headgate-priority", "low"), ("headgate-timeout-ms", "60000")];
    let answer = client.post("/v2/models/m/infer", &headers, FP32_ROW).await.ok();
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let late = client.post("/v2/models/m/infer", &[("headgate-timeout-ms", "0")], FP32_ROW).await;
    assert!(late.error(504).starts_with("Request timeout expired"));
}

/// The model sees sequences at the length of a bucket, the client at their own; an output that the proof did not
/// foresee is a failed run.
#[tokio::test]
async fn sequences_are_padded_for_the_model_and_cut_for_the_client() {
    let dims = || vec![Dim::Named("N".to_owned()), Dim::Named("S".to_owned())];
    let signature = Signature {
        inputs: vec![spec("x", DataType::Fp32, dims())],
        outputs: vec![spec("y", DataType::Fp32, dims())],
        batching: Batching::Proven(BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] }),
    };
    let seen = Arc::new(Mutex::new(vec![]));
    let breaks = Arc::new(AtomicBool::new(false));
    let (seen_by_model, model_breaks) = (seen.clone(), breaks.clone());
    let model = FunctionModel::model(signature, move |inputs| {
        seen_by_model.lock().unwrap().push(inputs[0].shape().to_vec());
        let rows = inputs[0].shape()[0];
        let broken = || Tensor::zeros(DataType::Fp32, vec![rows, 1]);
        Ok(vec![if model_breaks.load(Ordering::Relaxed) { broken() } else { inputs[0].clone() }])
    });
    let rule = PaddingRule { dimension: "S".into(), buckets: vec![2, 4], mask: None, pad: [].into() };
    let mut serving = testing::serving(&[("m", 3, model.clone())]);
    let entry = Arc::make_mut(serving.models.get_mut("m").unwrap());
    let backend = Arc::get_mut(entry.backends.get_mut(&3).unwrap()).unwrap();
    Arc::get_mut(&mut backend.servable).unwrap().padding = Some(DeclaredPadding::check(&rule, &model));
    let plane = testing::data_plane(&[]);
    plane.publish(serving);
    let client = Client::on(plane);

    let body = r#"{"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[1,2,3,4,5,6]}]}"#;
    let answer = client.post_json("/v2/models/m/infer", body).await.ok().json();
    assert_eq!(seen.lock().unwrap().last(), Some(&vec![2, 4]));
    assert_eq!(answer["outputs"][0]["shape"], json!([2, 3]));
    assert_eq!(answer["outputs"][0]["data"], json!([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));

    breaks.store(true, Ordering::Relaxed);
    let text = client.post_json("/v2/models/m/infer", body).await.error(500);
    assert!(!text.contains("cut back"), "the cause is for the log: {text}");
}
