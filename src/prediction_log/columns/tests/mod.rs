//! Rows of models of every shape, and what becomes of them.

mod layouts;
mod marks;
mod redactions;
mod round_trips;
mod rules;
mod sampling;
mod standard;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, UInt32Type};

use super::*;
use crate::inference::{PredictionId, RequestId};
use crate::prediction_log::entry::{Entry, Outcome};
use crate::routing::Arm;
use crate::signature::{BatchAxes, Batching, Dim, TensorSpec};
use crate::tensor::{DataType, Element, Tensor};

fn fixed(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&size| Dim::Fixed(size)).collect()
}

/// A batch dimension in front of fixed ones.
fn batched(sizes: &[usize]) -> Vec<Dim> {
    [vec![Dim::Named("N".into())], fixed(sizes)].concat()
}

fn spec(name: &str, dtype: DataType, dims: Vec<Dim>) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, dims: Some(dims), classes: vec![] }
}

/// All tensors have their rows along the first axis.
fn proven(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
    let axes = BatchAxes { inputs: vec![Some(0); inputs.len()], outputs: vec![Some(0); outputs.len()] };
    Signature { inputs, outputs, batching: Batching::Proven(axes) }
}

/// Four numbers in; three numbers and a class out.
fn iris() -> Signature {
    proven(
        vec![spec("X", DataType::Fp32, batched(&[4]))],
        vec![spec("probabilities", DataType::Fp32, batched(&[3])), spec("label", DataType::Int64, batched(&[]))],
    )
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_elements(DataType::Fp32, shape.to_vec(), values).unwrap()
}

/// Elements 0, 1, 2 and so on.
fn counted<T: Element>(dtype: DataType, shape: &[usize], number: impl Fn(usize) -> T) -> Tensor {
    let values: Vec<T> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_elements(dtype, shape.to_vec(), &values).unwrap()
}

fn texts(shape: &[usize], values: &[&str]) -> Tensor {
    Tensor::from_byte_elements(shape.to_vec(), values).unwrap()
}

fn log_of(signature: &Signature, settings: LogSettings) -> Arc<VersionLog> {
    Arc::new(VersionLog::new(("m", 3, "d1ge57"), signature, settings, Arc::default()).unwrap())
}

fn entry(log: &Arc<VersionLog>, inputs: Vec<Tensor>, outputs: Vec<Tensor>, rows: usize) -> Entry {
    let ended = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    Entry {
        version: log.clone(),
        id: PredictionId::new(ended, 7, 9, Arm::Stable.number(), 42),
        request_id: RequestId::take_over(Some("request-1")),
        client_id: String::new(),
        route: None,
        ended,
        total: Duration::from_micros(900),
        queue: Duration::from_micros(100),
        compute: Duration::from_micros(700),
        batch_size: 8,
        arm: Arm::Stable,
        arm_probability: 1.0,
        rollout: None,
        sample_hash: 0,
        outcome: Outcome::Answered,
        inputs,
        outputs,
        rows,
        synced: None,
    }
}

/// Two rows of [`iris`].
fn iris_entry(log: &Arc<VersionLog>) -> Entry {
    let inputs = vec![floats(&[2, 4], &[5.1, 3.5, 1.4, 0.2, 6.0, 2.9, 4.5, 1.5])];
    let outputs = vec![
        floats(&[2, 3], &[0.9, 0.1, 0.0, 0.0, 0.8, 0.2]),
        Tensor::from_elements(DataType::Int64, vec![2], &[0i64, 1]).unwrap(),
    ];
    entry(log, inputs, outputs, 2)
}

const CONTEXT: RowContext<'static> =
    RowContext { gateway: 7, incarnation: 1_700_000_000_000, first_seq: 10, payload: true, hmac_key: b"key" };

fn rows_of(log: &Arc<VersionLog>, entries: &[Entry]) -> RecordBatch {
    let mut builder = RowsBuilder::new(log.clone());
    entries.iter().for_each(|entry| _ = builder.push(entry, &CONTEXT));
    builder.finish()
}

/// The rows of one request to a model of these settings.
fn rows(
    signature: &Signature,
    settings: LogSettings,
    tensors: (Vec<Tensor>, Vec<Tensor>),
    count: usize,
) -> RecordBatch {
    let log = log_of(signature, settings);
    rows_of(&log, &[entry(&log, tensors.0, tensors.1, count)])
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap_or_else(|| panic!("no {name} in {:?}", batch.schema().fields()))
}

fn texts_of(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    column(batch, name).as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn floats_of(array: &ArrayRef) -> Vec<f32> {
    array.as_primitive::<Float32Type>().values().to_vec()
}

fn flags_of(batch: &RecordBatch) -> Vec<u32> {
    column(batch, "flags").as_primitive::<UInt32Type>().values().to_vec()
}

fn features(input: &str, names: &[&str]) -> LogSettings {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    LogSettings { features: [(input.to_owned(), names)].into(), ..LogSettings::default() }
}
