//! What events say.

use arrow::array::Array as _;

use super::*;
use crate::outbound::row_events::encode::{Part, Rows};
use crate::prediction_log::destinations::EventMode;

fn common(mode: EventMode) -> Common {
    Common { source: "/headgate/gateway/7".to_owned(), namespace: Some("prod".to_owned()), mode }
}

fn data(rows: &Rows, row: usize, part: Part) -> Value {
    let event: Value = serde_json::from_slice(&rows.encode(row, part, &common(EventMode::Structured)).body).unwrap();
    event["data"].clone()
}

#[tokio::test]
async fn both_events_of_a_row_arrive_as_kserve_consumers_know_them() {
    let mut receiver = receiver(&[], Answer::Status(200)).await;
    let (events, stop) = start(&config(&receiver.url, json!({"namespace": "prod"})));
    events.offer(&simple(1));
    let mut came = BTreeMap::new();
    for _ in 0..2 {
        let (headers, body) = next_event(&mut receiver).await;
        assert_eq!(headers["content-type"], "application/cloudevents+json");
        let event: Value = serde_json::from_slice(&body).unwrap();
        came.insert(event["type"].as_str().unwrap().to_owned(), event);
    }
    let metadata = json!({
        "headgate-prediction-id": ["prediction-0"],
        "headgate-version": ["3"],
        "headgate-arm": ["candidate"],
        "x-request-id": ["request-1"],
    });
    let expected = |kind: &str, time: &str, data: Value| {
        json!({
            "specversion": "1.0",
            "id": "prediction-0",
            "source": "/headgate/gateway/7",
            "type": kind,
            "time": time,
            "inferenceservicename": "digits",
            "namespace": "prod",
            "component": "predictor",
            "endpoint": "canary",
            "metadata": metadata.to_string(),
            "datacontenttype": "application/json",
            "data": data,
        })
    };
    let tensor = json!([{"name": "x", "datatype": "FP32", "shape": [1], "data": [0.1]}]);
    let kind = "org.kubeflow.serving.inference.request";
    let request = json!({"id": "request-1", "inputs": tensor});
    assert_eq!(came[kind], expected(kind, "2023-11-14T22:13:19.000000Z", request));
    let kind = "org.kubeflow.serving.inference.response";
    let response = json!({"model_name": "digits", "model_version": "3", "id": "request-1", "outputs": tensor});
    assert_eq!(came[kind], expected(kind, "2023-11-14T22:13:20.000000Z", response));
    stop.cancel();
}

#[tokio::test]
async fn in_binary_mode_the_attributes_are_headers_and_the_body_is_the_data() {
    let mut receiver = receiver(&[], Answer::Status(200)).await;
    let (events, stop) = start(&config(&receiver.url, json!({"mode": "binary"})));
    events.offer(&simple(1));
    let (headers, body) = next_event(&mut receiver).await;
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(
        (&headers["ce-specversion"], &headers["ce-id"]),
        (&"1.0".parse().unwrap(), &"prediction-0".parse().unwrap())
    );
    assert!(headers["ce-metadata"].to_str().unwrap().starts_with("{%22headgate-prediction-id%22:"));
    assert!(!headers.contains_key("ce-namespace"), "none is configured");
    let data: Value = serde_json::from_slice(&body).unwrap();
    let key = if headers["ce-type"] == "org.kubeflow.serving.inference.request" { "inputs" } else { "outputs" };
    assert_eq!(data[key][0]["data"], json!([0.1]));
    stop.cancel();
}

#[test]
fn every_kind_of_column_becomes_a_tensor_with_the_axis_of_its_row() {
    let floats: ArrayRef = Arc::new(Float32Array::from(vec![1.5, f32::NAN, 3.0, f32::INFINITY, -0.0, 1e-7]));
    let item = Arc::new(Field::new("item", ArrowType::Float32, true));
    let fixed = FixedSizeListArray::new(item.clone(), 3, floats.clone(), None);
    let offsets = || OffsetBuffer::new(vec![0, 2, 6].into());
    let nulls = NullBuffer::from(vec![true, false]);
    let list = ListArray::new(item.clone(), offsets(), floats.clone(), Some(nulls));
    let sizes =
        ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(2), Some(1)]), Some(vec![Some(2), Some(2)])]);
    let shaped_data = ListArray::new(item, offsets(), floats, None);
    let shaped = StructArray::from(vec![
        (Arc::new(Field::new("shape", sizes.data_type().clone(), false)), Arc::new(sizes) as ArrayRef),
        (Arc::new(Field::new("data", shaped_data.data_type().clone(), false)), Arc::new(shaped_data) as ArrayRef),
    ]);
    let mut columns = standard(2);
    let mut add = |name: &str, array: ArrayRef, tensor: &str, datatype: &str, more: &[(&str, &str)]| {
        let notes = [&[("side", "in"), ("tensor", tensor), ("datatype", datatype)], more].concat();
        columns.push((noted(name, array.data_type(), &notes), array));
    };
    add("in_fixed", Arc::new(fixed), "fixed:0", "FP16", &[("cut", "0"), ("row_shape", "[3,1]")]);
    add("in_list", Arc::new(list), "list", "FP32", &[("cut", "whole"), ("row_shape", "[-1]")]);
    add("in_shaped", Arc::new(shaped), "shaped", "FP32", &[("cut", "1"), ("row_shape", "[-1,-1]")]);
    add("in_text", texts(&["a\"b", "ü"]), "text", "BYTES", &[("cut", "shared"), ("row_shape", "[1]")]);
    let rows = Rows::new(batch(columns));
    let tensor = |name: &str, datatype: &str, shape: Value, data: Value| json!({"name": name, "datatype": datatype, "shape": shape, "data": data});
    let expected = json!([
        tensor("fixed:0", "FP16", json!([1, 3, 1]), json!([1.5, null, 3.0])),
        tensor("list", "FP32", json!([2]), json!([1.5, null])),
        tensor("shaped", "FP32", json!([2, 1, 1]), json!([1.5, null])),
        tensor("text", "BYTES", json!([1]), json!(["a\"b"])),
    ]);
    assert_eq!(data(&rows, 0, Part::Request)["inputs"], expected);
    // A tensor that the row does not have is left out.
    let expected = json!([
        tensor("fixed:0", "FP16", json!([1, 3, 1]), json!([null, -0.0, 1e-7])),
        tensor("shaped", "FP32", json!([2, 1, 2]), json!([3.0, null, -0.0, 1e-7])),
        tensor("text", "BYTES", json!([1]), json!(["ü"])),
    ]);
    assert_eq!(data(&rows, 1, Part::Request)["inputs"], expected);
}

#[test]
fn features_are_one_tensor_again_and_what_redaction_took_stays_out() {
    let mut columns = standard(1);
    let mut add = |name: &str, array: ArrayRef, element: &str| {
        let notes = [
            ("side", "in"),
            ("tensor", "X"),
            ("datatype", "FP32"),
            ("cut", "0"),
            ("row_shape", "[4]"),
            ("element", element),
        ];
        columns.push((noted(name, array.data_type(), &notes), array));
    };
    add("in_age", Arc::new(Float32Array::from(vec![42.0])), "0");
    add("in_income", Arc::new(Float32Array::from(vec![None])), "1");
    add("in_user", texts(&["9f86d081"]), "2");
    add("in_height", Arc::new(Float32Array::from(vec![1.8])), "3");
    let rows = Rows::new(batch(columns));
    let expected = json!([
        {"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [42.0, null, null, 1.8]},
        {"name": "user", "datatype": "BYTES", "shape": [1], "data": ["9f86d081"]},
    ]);
    assert_eq!(data(&rows, 0, Part::Request)["inputs"], expected);
}

#[test]
fn a_model_that_failed_answers_with_its_error() {
    let mut columns = standard(1);
    for (field, array) in &mut columns {
        match field.name().as_str() {
            "status" => *array = texts(&["error"]),
            "error" => *array = texts(&["node \"Gather\" failed"]),
            _ => {}
        }
    }
    let rows = Rows::new(batch(columns));
    assert_eq!(data(&rows, 0, Part::Response), json!({"error": "node \"Gather\" failed"}));
    assert_eq!(data(&rows, 0, Part::Request), json!({"id": "request-1", "inputs": []}));
}
