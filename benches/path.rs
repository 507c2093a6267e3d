//! The steps of a prediction, each alone and all together in this process: no socket, no kernel.
//!
//! `cargo bench --bench path`. Sizes: `small` is iris (4 floats), `image` a 3×64×64 picture (12,288 floats).

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use http::{HeaderMap, Request};
use http_body_util::Full;

use headgate::budget::ByteBudget;
use headgate::data_plane::DataPlane;
use headgate::engine::tract::TractEngine;
use headgate::engine::{Engine, Model};
use headgate::http::headers::HEADER_LENGTH;
use headgate::http::infer_request;
use headgate::http::infer_response::{self, OutputForm};
use headgate::http::{HttpLimits, HttpService, Received};
use headgate::inference::{InferResponse, ModelRef, PredictionId, RequestId};
use headgate::routing::Weights;
use headgate::tensor::{DataType, Tensor};
use headgate::testing::{self, FunctionModel, SplitPlane};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const SIZES: [(&str, usize); 2] = [("small", 4), ("image", 12_288)];

fn width(size: &str) -> usize {
    SIZES.iter().find(|(name, _)| *name == size).expect("a listed size").1
}

fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 255) as f32 / 255.0 - 0.5).collect()
}

fn model(width: usize) -> Arc<dyn Model> {
    FunctionModel::identity(&[("x", DataType::Fp32, width)])
}

fn json_body(width: usize) -> Bytes {
    let data: Vec<String> = floats(width).iter().map(f32::to_string).collect();
    let head = format!(r#"{{"inputs":[{{"name":"x","shape":[1,{width}],"datatype":"FP32","data":["#);
    format!("{head}{}]}}]}}", data.join(",")).into()
}

/// A picture's body with an array a row, and its numbers as Python writes a list of f32: 17 digits, a space behind commas.
fn nested_json_body() -> Bytes {
    let pixels: Vec<String> = floats(12_288).iter().map(|&value| f64::from(value).to_string()).collect();
    let rows: Vec<String> = pixels.chunks(64).map(|row| format!("[{}]", row.join(", "))).collect();
    let planes: Vec<String> = rows.chunks(64).map(|plane| format!("[{}]", plane.join(", "))).collect();
    let head = r#"{"inputs":[{"name":"x","shape":[1,3,64,64],"datatype":"FP32","data":"#;
    format!("{head}[[{}]]}}]}}", planes.join(", ")).into()
}

/// The body, and the length of its JSON head.
fn binary_body(width: usize) -> (Bytes, usize) {
    let head = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,{width}],"datatype":"FP32","parameters":{{"binary_data_size":{}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
        width * 4
    );
    let mut body = head.clone().into_bytes();
    body.extend(floats(width).iter().flat_map(|value| value.to_le_bytes()));
    (body.into(), head.len())
}

fn headers(head_length: Option<usize>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(length) = head_length {
        headers.insert(&HEADER_LENGTH, length.into());
    }
    headers
}

fn decode(bencher: Bencher, body: Bytes, head_length: Option<usize>, width: usize) {
    let budget = ByteBudget::new(1 << 30);
    let headers = headers(head_length);
    let model = model(width);
    bencher.with_inputs(|| Received { bytes: body.clone(), lease: budget.lease() }).bench_values(|mut received| {
        infer_request::decode(&headers, &mut received, model.signature()).expect("a sound body")
    });
}

#[divan::bench(args = ["small", "image"])]
fn decode_json(bencher: Bencher, size: &str) {
    decode(bencher, json_body(width(size)), None, width(size));
}

#[divan::bench]
fn decode_nested_json(bencher: Bencher) {
    decode(bencher, nested_json_body(), None, 12_288);
}

/// Keys in the order of the alphabet, as some encoders write them: the data is passed over once before it is read.
#[divan::bench]
fn decode_json_data_first(bencher: Bencher) {
    let body = String::from_utf8(json_body(12_288).to_vec()).expect("JSON is text");
    let (head, data) = body.split_once(r#""data":["#).expect("the body has data");
    let data = data.strip_suffix("]}]}").expect("the data comes last");
    let rest = head.strip_prefix(r#"{"inputs":[{"#).expect("one input").trim_end_matches(',');
    let body = format!(r#"{{"inputs":[{{"data":[{data}],{rest}}}]}}"#);
    decode(bencher, body.into(), None, 12_288);
}

#[divan::bench(args = ["small", "image"])]
fn decode_binary(bencher: Bencher, size: &str) {
    let (body, head) = binary_body(width(size));
    decode(bencher, body, Some(head), width(size));
}

fn response(width: usize) -> InferResponse {
    let tensor = Tensor::from_elements(DataType::Fp32, vec![1, width], &floats(width)).expect("it fills the shape");
    InferResponse {
        model: "m".to_owned(),
        version: 1,
        id: String::new(),
        outputs: vec![("y".to_owned(), tensor)],
        prediction_id: PredictionId::new(std::time::SystemTime::now(), 1, 1, 0, 1),
        arm: "stable",
        request_id: RequestId::take_over(None),
    }
}

#[divan::bench(args = ["small", "image"])]
fn encode_json(bencher: Bencher, size: &str) {
    let response = response(width(size));
    bencher.bench(|| {
        infer_response::encode(&response, &OutputForm::All { binary: false }).expect("floats have a JSON form")
    });
}

#[divan::bench]
fn route(bencher: Bencher) {
    let models: Vec<(String, Arc<dyn Model>)> = (0..100).map(|i| (format!("model-{i}"), model(4))).collect();
    let listed: Vec<(&str, u64, Arc<dyn Model>)> =
        models.iter().map(|(name, model)| (name.as_str(), 1, model.clone())).collect();
    let plane = testing::data_plane(&listed);
    let asked = ModelRef::parse("model-73", "").expect("a model name");
    bencher.bench(|| plane.serving.load().route(&asked).expect("it is served"));
}

fn whole_path(bencher: Bencher, plane: &Arc<DataPlane>, body: Bytes, head_length: Option<usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let service = HttpService { plane: plane.clone(), limits: HttpLimits::default() };
    bencher.bench(|| {
        let mut request = Request::post("/v2/models/m/infer");
        if let Some(length) = head_length {
            request = request.header(&HEADER_LENGTH, length);
        }
        let request = request.body(Full::new(body.clone())).expect("a sound request");
        let answer = runtime.block_on(service.handle(request));
        assert_eq!(answer.status(), 200);
        answer
    });
}

#[divan::bench(args = ["small", "image"])]
fn whole_path_json_identity(bencher: Bencher, size: &str) {
    let plane = testing::data_plane(&[("m", 1, model(width(size)))]);
    whole_path(bencher, &plane, json_body(width(size)), None);
}

#[divan::bench(args = ["small", "image"])]
fn whole_path_binary_identity(bencher: Bencher, size: &str) {
    let plane = testing::data_plane(&[("m", 1, model(width(size)))]);
    let (body, head) = binary_body(width(size));
    whole_path(bencher, &plane, body, Some(head));
}

/// The small identity on a split route, by chance or by a key in a header; what is observed is read at once.
#[divan::bench(args = ["random", "key"])]
fn whole_path_json_split(bencher: Bencher, assigned: &str) {
    let mut served = SplitPlane::new(model(4), model(4));
    served.split.dial.set_weights(Weights::of_candidate(1000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let service = HttpService { plane: served.plane.clone(), limits: HttpLimits::default() };
    let body = json_body(4);
    bencher.bench_local(|| {
        let mut request = Request::post("/v2/models/m/infer");
        if assigned == "key" {
            request = request.header("headgate-key", "user-4711");
        }
        let request = request.body(Full::new(body.clone())).expect("a sound request");
        let answer = runtime.block_on(service.handle(request));
        assert_eq!(answer.status(), 200);
        served.observations.try_recv().expect("every request is observed");
        answer
    });
}

#[divan::bench]
fn whole_path_json_iris(bencher: Bencher) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/iris/1/model.onnx");
    let iris = TractEngine::new().load(&file).expect("iris loads");
    let plane = testing::data_plane(&[("m", 1, iris)]);
    let body = r#"{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}"#;
    whole_path(bencher, &plane, Bytes::from(body), None);
}
