//! From the gateway's answer to the wire's.

use std::collections::HashMap;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use super::context::{ARM, PREDICTION_ID, REQUEST_ID, VERSION};
use crate::inference::{InferResponse, PredictionId, RequestId};
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::model_infer_response::InferOutputTensor;
use crate::proto::inference::{InferParameter, ModelInferResponse};

/// An answer, and what goes beside it.
#[derive(Debug)]
pub struct Answer {
    pub message: ModelInferResponse,
    pub tags: Tags,
}

/// What identifies an answer: response metadata of a unary call, parameters of the response in a stream.
#[derive(Debug)]
pub struct Tags {
    version: u64,
    arm: &'static str,
    prediction_id: PredictionId,
    request_id: RequestId,
}

/// Writes an answer: always raw contents, one entry for every output. No tensor is copied.
pub fn answer(response: InferResponse) -> Answer {
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut raw_output_contents = Vec::with_capacity(response.outputs.len());
    for (name, tensor) in response.outputs {
        outputs.push(InferOutputTensor {
            name,
            datatype: tensor.dtype().name().to_owned(),
            shape: tensor.shape().iter().map(|&dim| dim as i64).collect(),
            parameters: HashMap::new(),
            contents: None,
        });
        raw_output_contents.push(tensor.into_data());
    }
    Answer {
        message: ModelInferResponse {
            model_name: response.model,
            model_version: response.version.to_string(),
            id: response.id,
            parameters: HashMap::new(),
            outputs,
            raw_output_contents,
        },
        tags: Tags {
            version: response.version,
            arm: response.arm,
            prediction_id: response.prediction_id,
            request_id: response.request_id,
        },
    }
}

impl Tags {
    pub fn write_metadata(&self, metadata: &mut MetadataMap) {
        for (name, text) in self.texts() {
            if let Ok(value) = AsciiMetadataValue::try_from(text) {
                metadata.insert(name, value);
            }
        }
    }

    pub fn write_parameters(&self, parameters: &mut HashMap<String, InferParameter>) {
        for (name, text) in self.texts() {
            let value = InferParameter { parameter_choice: Some(ParameterChoice::StringParam(text)) };
            parameters.insert(name.to_owned(), value);
        }
    }

    fn texts(&self) -> [(&'static str, String); 4] {
        [
            (VERSION, self.version.to_string()),
            (ARM, self.arm.to_owned()),
            (PREDICTION_ID, self.prediction_id.to_string()),
            (REQUEST_ID, self.request_id.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DataType, Tensor};
    use std::time::UNIX_EPOCH;

    #[test]
    fn every_output_of_every_datatype_is_raw_also_where_it_is_empty() {
        let tensors = DataType::ALL.map(|dtype| (dtype.name().to_owned(), Tensor::zeros(dtype, vec![2, 1])));
        let empty = ("empty".to_owned(), Tensor::zeros(DataType::Fp32, vec![0, 3]));
        let answer = answer(InferResponse {
            model: "m@stable".into(),
            version: 7,
            id: "42".into(),
            outputs: tensors.into_iter().chain([empty]).collect(),
            prediction_id: PredictionId::new(UNIX_EPOCH, 1, 2, 0, 3),
            arm: "stable",
            request_id: RequestId::take_over(Some("r")),
        });
        let message = answer.message;
        assert_eq!(message.outputs.len(), message.raw_output_contents.len());
        for (output, raw) in message.outputs.iter().zip(&message.raw_output_contents) {
            let expected = DataType::from_name(&output.datatype).unwrap().size().unwrap_or(4);
            let count: i64 = output.shape.iter().product();
            assert_eq!(raw.len(), expected * count as usize, "{}", output.name);
            assert_eq!(output.contents, None);
        }
        assert_eq!((message.model_name.as_str(), message.model_version.as_str()), ("m@stable", "7"));
        assert_eq!(message.id, "42");
    }
}
