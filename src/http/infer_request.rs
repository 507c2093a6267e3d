//! An inference request of the Open Inference Protocol -> `InferRequest`.
//!
//! A body is a JSON head and, behind it, the tensors that the head announces as binary, in the order of its inputs.
//! Binary tensors are slices of the body.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::body::Received;
use super::headers::HEADER_LENGTH;
use super::infer_response::OutputForm;
use super::parameters::{self, InputParameters, OutputParameters};
use super::raw_tensor;
use crate::budget::ByteLease;
use crate::error::{Error, Result};
use crate::inference::{InferRequest, Priority, RequestedOutput, printable};
use crate::json::once;
use crate::json::reader::{Kind, Number, Reader};
use crate::json::tensor::TensorReader;
use crate::signature::Signature;
use crate::tensor::{DataType, Tensor, parse_shape};

/// A decoded request, and in which form its answer is wanted.
#[derive(Debug)]
pub struct Decoded {
    pub request: InferRequest,
    pub form: OutputForm,
}

/// Decodes a body. The signature is only asked where the wire leaves the names out: a head of length 0.
///
/// # Errors
/// `Invalid` or `InputTensor`, saying what was expected and what came; `Unsupported` for shared memory; `OutOfBudget`
/// where a tensor would be much larger than its text.
pub fn decode(headers: &HeaderMap, body: &mut Received, signature: &Signature) -> Result<Decoded> {
    let bytes = body.bytes.clone();
    match head_length(headers, bytes.len())? {
        None => decode_head(&bytes, Bytes::new(), &mut body.lease),
        Some(0) => raw_tensor::decode(bytes, signature),
        Some(length) => decode_head(&bytes[..length], bytes.slice(length..), &mut body.lease),
    }
}

/// # Errors
/// `Invalid` for a value that is no length within the body.
fn head_length(headers: &HeaderMap, body_length: usize) -> Result<Option<usize>> {
    let Some(value) = headers.get(&HEADER_LENGTH) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    match text.trim().parse::<usize>() {
        Ok(length) if length <= body_length => Ok(Some(length)),
        _ => Err(Error::Invalid(format!(
            "inference header size should be in range (0, {body_length}), got: {}",
            printable(&text)
        ))),
    }
}

fn decode_head(text: &[u8], tensors: Bytes, lease: &mut ByteLease) -> Result<Decoded> {
    let mut head = Head::default();
    let mut reader = Reader::new(text);
    reader.object(|key, reader| head.member(key, reader, lease))?;
    reader.finish()?;
    head.finish(tensors)
}

/// The members of the JSON head, as far as they came.
#[derive(Default)]
struct Head {
    id: Option<String>,
    timeout: Option<Duration>,
    priority: Option<Priority>,
    binary_outputs: bool,
    parameters: Option<Vec<(String, String)>>,
    inputs: Option<Vec<Input>>,
    outputs: Option<Vec<Output>>,
}

struct Input {
    name: String,
    dtype: DataType,
    shape: Vec<usize>,
    source: Source,
}

enum Source {
    Json(Tensor),
    /// So many bytes behind the head.
    Binary(u64),
}

struct Output {
    wanted: RequestedOutput,
    binary: bool,
}

impl Head {
    fn member(&mut self, key: &str, reader: &mut Reader<'_>, lease: &mut ByteLease) -> Result<()> {
        match key {
            "id" => once(&mut self.id, key, id(reader)?),
            "parameters" => {
                let parameters = parameters::of_request(reader)?;
                once(&mut self.parameters, key, parameters.own)?;
                self.timeout = parameters.timeout;
                self.priority = parameters.priority;
                self.binary_outputs = parameters.binary_data_output;
                Ok(())
            }
            "inputs" => {
                let mut inputs = Vec::new();
                reader.array(|reader| {
                    inputs.push(input(reader, lease)?);
                    Ok::<_, Error>(())
                })?;
                once(&mut self.inputs, key, inputs)
            }
            "outputs" => {
                let mut outputs = Vec::new();
                reader.array(|reader| {
                    outputs.push(output(reader)?);
                    Ok::<_, Error>(())
                })?;
                once(&mut self.outputs, key, outputs)
            }
            _ => Ok(reader.skip_value()?),
        }
    }

    fn finish(self, tensors: Bytes) -> Result<Decoded> {
        let inputs = self.inputs.ok_or_else(|| Error::invalid("expected 'inputs' in the request, got none"))?;
        let outputs = self.outputs.unwrap_or_default();
        let form = if outputs.is_empty() {
            OutputForm::All { binary: self.binary_outputs }
        } else {
            OutputForm::Each { binary: outputs.iter().map(|output| output.binary).collect() }
        };
        let mut names = HashSet::new();
        if let Some(twice) = outputs.iter().find(|output| !names.insert(&output.wanted.name)) {
            let name = printable(&twice.wanted.name);
            return Err(Error::Invalid(format!("output '{name}' is asked for twice")));
        }
        let request = InferRequest {
            id: self.id.unwrap_or_default(),
            inputs: attach(inputs, tensors)?,
            outputs: outputs.into_iter().map(|output| output.wanted).collect(),
            timeout: self.timeout,
            priority: self.priority,
            parameters: self.parameters.unwrap_or_default(),
        };
        Ok(Decoded { request, form })
    }
}

/// Gives each binary input its slice of what lies behind the head.
fn attach(inputs: Vec<Input>, mut tensors: Bytes) -> Result<Vec<(String, Tensor)>> {
    let mut attached = Vec::with_capacity(inputs.len());
    for Input { name, dtype, shape, source } in inputs {
        let tensor = match source {
            Source::Json(tensor) => tensor,
            Source::Binary(length) => {
                if length > tensors.len() as u64 {
                    return Err(Error::Invalid(format!(
                        "unexpected size for input '{}', expecting {} additional bytes",
                        printable(&name),
                        length - tensors.len() as u64
                    )));
                }
                let slice = tensors.split_to(length as usize);
                Tensor::from_raw(dtype, shape, slice)
                    .map_err(|source| Error::InputTensor { input: printable(&name), source })?
            }
        };
        attached.push((name, tensor));
    }
    if !tensors.is_empty() {
        return Err(Error::Invalid(format!(
            "unexpected additional input data for model: {} bytes more than the inputs announce",
            tensors.len()
        )));
    }
    Ok(attached)
}

/// A request's id: a string, or a whole number as its text.
fn id(reader: &mut Reader<'_>) -> Result<String> {
    match reader.peek()? {
        Kind::Number => match reader.number()? {
            Number::Whole(text) => Ok(text.to_owned()),
            _ => Err(Error::invalid("'id' expects a string")),
        },
        _ => Ok(reader.string()?.into_owned()),
    }
}

fn input(reader: &mut Reader<'_>, lease: &mut ByteLease) -> Result<Input> {
    let (mut name, mut shape, mut dtype, mut parameters) = (None, None, None, None);
    let (mut data, mut data_at) = (None, None);
    reader.object(|key, reader| match key {
        "name" => once(&mut name, key, reader.string()?.into_owned()),
        "shape" => once(&mut shape, key, shape_of(reader, name.as_deref())?),
        "datatype" => once(&mut dtype, key, datatype(reader)?),
        "parameters" => once(&mut parameters, key, parameters::of_input(reader)?),
        "data" => {
            once(&mut data_at, key, reader.clone())?;
            // Keys may come in any order; without its type and shape the data is passed over and read afterwards.
            match (&shape, dtype) {
                (Some(shape), Some(dtype)) => {
                    let read = TensorReader::read_shaped(dtype, shape.clone(), reader, lease);
                    data = Some(read.map_err(|fault| fault.of_input(&shown(name.as_deref())))?);
                }
                _ => reader.skip_value()?,
            }
            Ok(())
        }
        _ => Ok::<_, Error>(reader.skip_value()?),
    })?;
    let name = name.ok_or_else(|| Error::invalid("expected 'name' in each of 'inputs', got an input without"))?;
    let missing = |what| Error::Invalid(format!("expected '{what}' in input '{}', got none", printable(&name)));
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let dtype = dtype.ok_or_else(|| missing("datatype"))?;
    if let (Some(mut reader), None) = (data_at, &data) {
        let read = TensorReader::read_shaped(dtype, shape.clone(), &mut reader, lease);
        data = Some(read.map_err(|fault| fault.of_input(&printable(&name)))?);
    }
    let source = source(&name, data, parameters.unwrap_or_default())?;
    Ok(Input { name, dtype, shape, source })
}

/// Exactly one place may hold an input's data.
fn source(name: &str, data: Option<Tensor>, parameters: InputParameters) -> Result<Source> {
    if parameters.shared_memory {
        return Err(parameters::no_shared_memory(&format!("input '{}'", printable(name))));
    }
    match (data, parameters.binary_data_size) {
        (Some(tensor), None) => Ok(Source::Json(tensor)),
        (None, Some(length)) => Ok(Source::Binary(length)),
        (None, None) => Err(Error::Invalid(format!(
            "input '{}' expects 'data' or the parameter 'binary_data_size', got neither",
            printable(name)
        ))),
        (Some(_), Some(_)) => Err(Error::Invalid(format!(
            "input '{}' expects either 'data' or the parameter 'binary_data_size', got both",
            printable(name)
        ))),
    }
}

fn output(reader: &mut Reader<'_>) -> Result<Output> {
    let (mut name, mut parameters) = (None, None);
    reader.object(|key, reader| match key {
        "name" => once(&mut name, key, reader.string()?.into_owned()),
        "parameters" => once(&mut parameters, key, parameters::of_output(reader)?),
        _ => Ok::<_, Error>(reader.skip_value()?),
    })?;
    let name = name.ok_or_else(|| Error::invalid("expected 'name' in each of 'outputs', got an output without"))?;
    let OutputParameters { binary_data, classification, shared_memory } = parameters.unwrap_or_default();
    if shared_memory {
        return Err(parameters::no_shared_memory(&format!("output '{}'", printable(&name))));
    }
    Ok(Output { wanted: RequestedOutput { name, classification }, binary: binary_data })
}

fn shape_of(reader: &mut Reader<'_>, name: Option<&str>) -> Result<Vec<usize>> {
    let mut wire: Vec<i64> = Vec::new();
    reader.array(|reader| {
        let dim = match reader.number()? {
            Number::Whole(text) => text.parse().ok(),
            _ => None,
        };
        let dim =
            dim.ok_or_else(|| Error::Invalid(format!("the shape of input '{}' expects whole numbers", shown(name))))?;
        // Longer shapes are refused anyway; one element more than allowed shows it.
        if wire.len() <= crate::tensor::MAX_RANK {
            wire.push(dim);
        }
        Ok::<_, Error>(())
    })?;
    parse_shape(&wire).map_err(|source| Error::InputTensor { input: shown(name), source })
}

fn datatype(reader: &mut Reader<'_>) -> Result<DataType> {
    let name = reader.string()?;
    DataType::from_name(&name).ok_or_else(|| {
        let known: Vec<&str> = DataType::ALL.iter().map(|dtype| dtype.name()).collect();
        Error::Invalid(format!("'{}' is not a datatype, expected one of {}", printable(&name), known.join(", ")))
    })
}

/// An input's name in an error text; its name may come after the member that is wrong.
fn shown(name: Option<&str>) -> String {
    printable(name.unwrap_or("?"))
}
