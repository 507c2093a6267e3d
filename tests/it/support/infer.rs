//! One inference call, the same over every encoding that the server takes.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde_json::json;
use tonic::transport::Channel;

use headgate::proto::inference::ModelInferRequest;
use headgate::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use headgate::proto::inference::model_infer_request::InferInputTensor;
use headgate::tensor::{DataType, Tensor};

use super::client::{Answer, Http, grpc};
use super::json::Json;
use super::server::Server;
use super::tensors;

/// How a request's tensors travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// HTTP, elements as JSON, both ways.
    Json,
    /// HTTP, binary tensors behind the JSON, both ways.
    Binary,
    /// gRPC, `raw_input_contents`.
    Raw,
    /// gRPC, `contents`; the answer is raw.
    Typed,
}

impl Encoding {
    pub const ALL: [Self; 4] = [Self::Json, Self::Binary, Self::Raw, Self::Typed];

    /// Whether it has a form for these tensors.
    pub fn takes(self, inputs: &[(String, Tensor)]) -> bool {
        inputs.iter().all(|(_, tensor)| match self {
            Self::Json => tensors::to_json(tensor).is_some(),
            Self::Typed => tensors::to_contents(tensor).is_some(),
            Self::Binary | Self::Raw => true,
        })
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub model: &'a str,
    /// Empty for the bare name.
    pub version: &'a str,
    pub inputs: &'a [(String, Tensor)],
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub model: String,
    pub version: u64,
    pub outputs: BTreeMap<String, Tensor>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Http {
        status: u16,
        text: String,
    },
    Grpc {
        code: tonic::Code,
        text: String,
    },
    /// The connection broke.
    Transport(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { status, text } => write!(f, "{status}: {text}"),
            Self::Grpc { code, text } => write!(f, "{code:?}: {text}"),
            Self::Transport(text) => write!(f, "no answer: {text}"),
        }
    }
}

/// A client of both protocols, with connections of its own.
#[derive(Clone)]
pub struct Wires {
    pub http: Http,
    pub grpc: GrpcInferenceServiceClient<Channel>,
}

impl Wires {
    pub async fn connect(server: &Server) -> Self {
        Self { http: Http::new(server.http), grpc: grpc(server.grpc).await }
    }

    pub async fn infer(&self, encoding: Encoding, call: &Call<'_>) -> Result<Reply, Refusal> {
        match encoding {
            Encoding::Json | Encoding::Binary => self.http_infer(encoding == Encoding::Binary, call).await,
            Encoding::Raw | Encoding::Typed => self.grpc_infer(grpc_request(call, encoding == Encoding::Raw)).await,
        }
    }

    async fn http_infer(&self, binary: bool, call: &Call<'_>) -> Result<Reply, Refusal> {
        let (head, length, body) = http_body(call, binary);
        let request = match length {
            Some(length) => http::Request::post("/").header("Inference-Header-Content-Length", length),
            None => http::Request::post("/"),
        };
        let path = infer_path(call);
        let body = [head.into_bytes(), body].concat();
        http_reply(self.http.send(request, &path, body).await.map_err(Refusal::Transport)?)
    }

    pub async fn grpc_infer(&self, request: ModelInferRequest) -> Result<Reply, Refusal> {
        let response = self.grpc.clone().model_infer(request).await.map_err(|status| {
            // A status without a source came from the server; any other is the client's own.
            match std::error::Error::source(&status) {
                None => Refusal::Grpc { code: status.code(), text: status.message().to_owned() },
                Some(_) => Refusal::Transport(format!("{status:?}")),
            }
        })?;
        let version =
            response.metadata().get("headgate-version").expect("headgate-version").to_str().unwrap().to_owned();
        let response = response.into_inner();
        assert_eq!(response.model_version, version);
        assert_eq!(response.outputs.len(), response.raw_output_contents.len(), "one raw entry an output");
        let output = |(output, raw): (headgate::proto::inference::model_infer_response::InferOutputTensor, Bytes)| {
            assert!(output.contents.is_none(), "answers are raw");
            let dtype = DataType::from_name(&output.datatype).unwrap();
            let shape = output.shape.iter().map(|&dim| dim as usize).collect();
            (output.name, Tensor::from_raw(dtype, shape, raw).unwrap())
        };
        let outputs = response.outputs.into_iter().zip(response.raw_output_contents).map(output).collect();
        Ok(Reply { model: response.model_name, version: version.parse().unwrap(), outputs })
    }
}

pub fn infer_path(call: &Call<'_>) -> String {
    match call.version {
        "" => format!("/v2/models/{}/infer", call.model),
        version => format!("/v2/models/{}/versions/{version}/infer", call.model),
    }
}

/// The JSON, its length where tensors follow, and the tensors.
pub fn http_body(call: &Call<'_>, binary: bool) -> (String, Option<usize>, Vec<u8>) {
    let mut tensors_behind = Vec::new();
    let input = |(name, tensor): &(String, Tensor)| {
        let name = serde_json::Value::from(name.as_str());
        let shape = json!(tensor.shape());
        let data = if binary {
            tensors_behind.extend_from_slice(tensor.data());
            format!(r#""parameters":{{"binary_data_size":{}}}"#, tensor.data().len())
        } else {
            format!(r#""data":{}"#, tensors::to_json(tensor).expect("a tensor with a JSON form"))
        };
        format!(r#"{{"name":{name},"shape":{shape},"datatype":"{}",{data}}}"#, tensor.dtype())
    };
    let inputs: Vec<String> = call.inputs.iter().map(input).collect();
    let head = format!(r#"{{"parameters":{{"binary_data_output":{binary}}},"inputs":[{}]}}"#, inputs.join(","));
    let length = binary.then_some(head.len());
    (head, length, tensors_behind)
}

pub fn grpc_request(call: &Call<'_>, raw: bool) -> ModelInferRequest {
    let input = |(name, tensor): &(String, Tensor)| InferInputTensor {
        name: name.clone(),
        datatype: tensor.dtype().name().to_owned(),
        shape: tensor.shape().iter().map(|&dim| dim as i64).collect(),
        contents: if raw { None } else { Some(tensors::to_contents(tensor).expect("a datatype with typed contents")) },
        ..InferInputTensor::default()
    };
    ModelInferRequest {
        model_name: call.model.to_owned(),
        model_version: call.version.to_owned(),
        inputs: call.inputs.iter().map(input).collect(),
        raw_input_contents: match raw {
            true => call.inputs.iter().map(|(_, tensor)| tensor.data().clone()).collect(),
            false => vec![],
        },
        ..ModelInferRequest::default()
    }
}

/// Reads an answer to an HTTP inference request, JSON or binary.
pub fn http_reply(answer: Answer) -> Result<Reply, Refusal> {
    if answer.status != 200 {
        return Err(Refusal::Http { status: answer.status, text: answer.error() });
    }
    let head_length = match answer.header("inference-header-content-length") {
        "" => answer.body.len(),
        length => length.parse().unwrap(),
    };
    let head = Json::parse(&answer.body[..head_length]);
    let mut behind = answer.body.slice(head_length..);
    let mut outputs = BTreeMap::new();
    for output in head.get("outputs").list() {
        let dtype = DataType::from_name(output.get("datatype").text()).unwrap();
        let shape: Vec<usize> = output.get("shape").list().iter().map(|dim| dim.text().parse().unwrap()).collect();
        let tensor = match output.get("data") {
            Json::Null => {
                let size = output.get("parameters").get("binary_data_size").text().parse().unwrap();
                Tensor::from_raw(dtype, shape, behind.split_to(size)).unwrap()
            }
            data => {
                assert!(*output.get("parameters") == Json::Null, "a JSON output must have no parameters of its own");
                tensors::from_json(dtype, &shape, data.list())
            }
        };
        outputs.insert(output.get("name").text().to_owned(), tensor);
    }
    assert!(behind.is_empty(), "{} bytes behind the last tensor", behind.len());
    let version = head.get("model_version").text().to_owned();
    assert_eq!(version, answer.header("headgate-version"));
    Ok(Reply { model: head.get("model_name").text().to_owned(), version: version.parse().unwrap(), outputs })
}
