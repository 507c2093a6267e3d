//! What is asked, and the answer that is due: recorded runs of a model, cut into requests of one row.

use std::path::PathBuf;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use headgate::engine::rows::slice_rows;
use headgate::npz::{Example, read_example};
use headgate::proto::inference::ModelInferRequest;
use headgate::proto::inference::model_infer_request::InferInputTensor;
use headgate::tensor::{DataType, Tensor};

/// How requests and answers look on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, tensors as JSON.
    Json,
    /// HTTP/1.1, tensors as raw bytes behind a JSON head, both ways.
    Binary,
    /// gRPC, tensors in `raw_input_contents`.
    Grpc,
}

/// `MODEL=FILE`: a model's name on the server, and a recorded run of it.
#[derive(Debug, Clone)]
pub struct Case {
    pub model: String,
    file: PathBuf,
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (model, file) = text.split_once('=').ok_or("expected MODEL=FILE.npz")?;
        Ok(Self { model: model.to_owned(), file: file.into() })
    }
}

/// Tensors by name.
pub type Named = Vec<(String, Tensor)>;

/// One request and what it must give.
#[derive(Debug, Clone)]
pub struct Row {
    pub inputs: Named,
    pub outputs: Named,
}

impl Case {
    /// The requests: one for each row, where every tensor has as many rows along axis 0; else the whole run is one.
    pub fn rows(&self) -> Result<Vec<Row>, String> {
        let Example { inputs, outputs } =
            read_example(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let count = inputs.values().next().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(0);
        let splits = inputs.values().chain(outputs.values()).all(|tensor| tensor.shape().first() == Some(&count));
        let all = Row { inputs: inputs.into_iter().collect(), outputs: outputs.into_iter().collect() };
        if count < 2 || !splits {
            return Ok(vec![all]);
        }
        let cut = |tensors: &Named, at| {
            tensors.iter().map(|(name, tensor)| (name.clone(), slice_rows(tensor, 0, at, 1))).collect()
        };
        Ok((0..count).map(|at| Row { inputs: cut(&all.inputs, at), outputs: cut(&all.outputs, at) }).collect())
    }
}

/// A request as the bytes that are sent: a whole HTTP/1.1 request, or a length-prefixed gRPC message.
///
/// `path` replaces the Open Inference Protocol's, for servers that speak only its JSON.
pub fn encode(protocol: Protocol, model: &str, path: Option<&str>, inputs: &Named) -> Result<Bytes, String> {
    let default_path = format!("/v2/models/{model}/infer");
    let path = path.unwrap_or(&default_path);
    Ok(match protocol {
        Protocol::Json => http_request(path, "content-type: application/json\r\n", json_body(inputs)?.as_bytes()),
        Protocol::Binary => {
            let (head, data) = binary_body(inputs);
            let header = format!(
                "content-type: application/octet-stream\r\ninference-header-content-length: {}\r\n",
                head.len()
            );
            http_request(path, &header, &[head.as_bytes(), &data].concat())
        }
        Protocol::Grpc => grpc_message(model, inputs),
    })
}

fn http_request(path: &str, headers: &str, body: &[u8]) -> Bytes {
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat().into()
}

fn json_body(inputs: &Named) -> Result<String, String> {
    let each = |(name, tensor): &(String, Tensor)| -> Result<String, String> {
        let (shape, datatype, data) = (tensor.shape(), tensor.dtype().name(), json_data(tensor)?);
        Ok(format!(r#"{{"name":"{name}","shape":{shape:?},"datatype":"{datatype}","data":[{data}]}}"#))
    };
    let inputs: Vec<String> = inputs.iter().map(each).collect::<Result<_, _>>()?;
    Ok(format!(r#"{{"inputs":[{}]}}"#, inputs.join(",")))
}

fn json_data(tensor: &Tensor) -> Result<String, String> {
    let numbers: Vec<String> = match tensor.dtype() {
        DataType::Fp32 => tensor.elements::<f32>().map(|value| value.to_string()).collect(),
        DataType::Int64 => tensor.elements::<i64>().map(|value| value.to_string()).collect(),
        other => return Err(format!("no workload has {other} in JSON yet")),
    };
    Ok(numbers.join(","))
}

fn binary_body(inputs: &Named) -> (String, Vec<u8>) {
    let each = |(name, tensor): &(String, Tensor)| {
        let (shape, datatype, size) = (tensor.shape(), tensor.dtype().name(), tensor.data().len());
        format!(
            r#"{{"name":"{name}","shape":{shape:?},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}"#
        )
    };
    let heads: Vec<String> = inputs.iter().map(each).collect();
    let head = format!(r#"{{"inputs":[{}],"parameters":{{"binary_data_output":true}}}}"#, heads.join(","));
    (head, inputs.iter().flat_map(|(_, tensor)| tensor.data().to_vec()).collect())
}

fn grpc_message(model: &str, inputs: &Named) -> Bytes {
    let each = |(name, tensor): &(String, Tensor)| InferInputTensor {
        name: name.clone(),
        datatype: tensor.dtype().name().to_owned(),
        shape: tensor.shape().iter().map(|size| *size as i64).collect(),
        ..Default::default()
    };
    let request = ModelInferRequest {
        model_name: model.to_owned(),
        inputs: inputs.iter().map(each).collect(),
        raw_input_contents: inputs.iter().map(|(_, tensor)| tensor.data().clone()).collect(),
        ..Default::default()
    };
    let mut framed = BytesMut::new();
    // Not compressed, and the length.
    framed.put_u8(0);
    framed.put_u32(request.encoded_len() as u32);
    request.encode(&mut framed).expect("the buffer grows");
    framed.freeze()
}
