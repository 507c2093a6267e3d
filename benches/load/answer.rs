//! Whether an answer is the one that is due.
//!
//! Every answer of a run is checked. Equal requests get equal bytes most of the time, so an answer is compared with
//! those that were found right before; only one that is new is decoded and its values compared.

use std::collections::BTreeSet;

use prost::Message;
use serde_json::Value;

use headgate::proto::inference::ModelInferResponse;
use headgate::tensor::{DataType, Tensor};

use crate::workload::{Named, Protocol};

/// Right answers that are remembered for one request.
const MAX_KNOWN: usize = 16;

/// What a server sent, without its envelope.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a> {
    pub bytes: &'a [u8],
    /// Bytes of the JSON before raw tensors, where an HTTP answer has them.
    pub head: Option<usize>,
}

/// The check of one request's answers.
#[derive(Clone)]
pub struct Checker {
    protocol: Protocol,
    /// `None` checks nothing but that there is an answer.
    due: Option<Named>,
    tolerance: f64,
    known: Vec<Vec<u8>>,
    oldest: usize,
    /// Versions that answered, as the answers say.
    pub versions: BTreeSet<String>,
}

impl Checker {
    pub fn new(protocol: Protocol, due: Option<Named>, tolerance: f64) -> Self {
        Self { protocol, due, tolerance, known: vec![], oldest: 0, versions: BTreeSet::new() }
    }

    /// # Errors
    /// What is wrong with the answer.
    pub fn check(&mut self, body: Body<'_>) -> Result<(), String> {
        if body.bytes.is_empty() {
            return Err("an empty answer".to_owned());
        }
        let Some(due) = &self.due else { return Ok(()) };
        if self.known.iter().any(|known| known == body.bytes) {
            return Ok(());
        }
        let answer = decode(self.protocol, body)?;
        for (name, tensor) in due {
            let got = answer.outputs.iter().find(|(output, _)| output == name);
            let (_, got) = got.ok_or_else(|| format!("no output '{name}' in the answer"))?;
            compare(name, got, &numbers(tensor.dtype(), tensor.data())?, self.tolerance)?;
        }
        self.versions.insert(answer.version);
        if self.known.len() < MAX_KNOWN {
            self.known.push(body.bytes.to_vec());
        } else {
            self.known[self.oldest] = body.bytes.to_vec();
            self.oldest = (self.oldest + 1) % MAX_KNOWN;
        }
        Ok(())
    }
}

fn compare(name: &str, got: &[f64], due: &[f64], tolerance: f64) -> Result<(), String> {
    if got.len() != due.len() {
        return Err(format!("output '{name}' has {} elements, expected {}", got.len(), due.len()));
    }
    let far = |(got, due): &(&f64, &f64)| (*got - *due).abs() > tolerance * due.abs().max(1.0) || got.is_nan();
    match got.iter().zip(due).find(far) {
        None => Ok(()),
        // Without the values, so that equal faults are counted together.
        Some(_) => Err(format!("output '{name}' has wrong values")),
    }
}

/// An answer's version and its outputs as numbers.
struct Decoded {
    version: String,
    outputs: Vec<(String, Vec<f64>)>,
}

fn decode(protocol: Protocol, body: Body<'_>) -> Result<Decoded, String> {
    match protocol {
        Protocol::Json | Protocol::Binary => http(body),
        Protocol::Grpc => grpc(body.bytes),
    }
}

fn http(body: Body<'_>) -> Result<Decoded, String> {
    let (json, mut raw) = body.bytes.split_at(body.head.unwrap_or(body.bytes.len()).min(body.bytes.len()));
    let answer: Value = serde_json::from_slice(json).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let mut outputs = vec![];
    for output in answer["outputs"].as_array().ok_or("the answer has no outputs")? {
        let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
        let values = match output["parameters"]["binary_data_size"].as_u64() {
            None => {
                let mut values = vec![];
                flatten(&output["data"], &mut values)?;
                values
            }
            Some(size) => {
                let data = raw.split_off(..size as usize).ok_or("the answer is shorter than it says")?;
                numbers(datatype(&text("datatype"))?, data)?
            }
        };
        outputs.push((text("name"), values));
    }
    Ok(Decoded { version: answer["model_version"].as_str().unwrap_or_default().to_owned(), outputs })
}

/// The numbers of an array, however deep it nests.
fn flatten(value: &Value, out: &mut Vec<f64>) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| flatten(item, out)),
        Value::Number(number) => {
            out.push(number.as_f64().ok_or("a number that is none")?);
            Ok(())
        }
        other => Err(format!("expected numbers in an output, got {other}")),
    }
}

fn grpc(message: &[u8]) -> Result<Decoded, String> {
    let answer = ModelInferResponse::decode(message).map_err(|error| format!("not a ModelInferResponse: {error}"))?;
    let mut outputs = vec![];
    for (at, output) in answer.outputs.iter().enumerate() {
        let values = match (answer.raw_output_contents.get(at), &output.contents) {
            (Some(raw), _) => numbers(datatype(&output.datatype)?, raw)?,
            (None, Some(typed)) => {
                let floats = typed.fp32_contents.iter().map(|value| f64::from(*value));
                let integers = typed.int64_contents.iter().map(|value| *value as f64);
                floats.chain(integers).collect()
            }
            (None, None) => vec![],
        };
        outputs.push((output.name.clone(), values));
    }
    Ok(Decoded { version: answer.model_version, outputs })
}

fn datatype(name: &str) -> Result<DataType, String> {
    DataType::from_name(name).ok_or_else(|| format!("an output of datatype '{name}'"))
}

fn numbers(dtype: DataType, data: &[u8]) -> Result<Vec<f64>, String> {
    let size = dtype.size().unwrap_or(1);
    let tensor = Tensor::from_raw(dtype, vec![data.len() / size], data.to_vec().into());
    let tensor = tensor.map_err(|error| error.to_string())?;
    match dtype {
        DataType::Fp32 => Ok(tensor.elements::<f32>().map(f64::from).collect()),
        DataType::Int64 => Ok(tensor.elements::<i64>().map(|value| value as f64).collect()),
        other => Err(format!("no workload has an output of {other} yet")),
    }
}
