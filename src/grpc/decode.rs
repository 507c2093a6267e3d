//! From the wire's request to the gateway's.

use bytes::Bytes;

use super::parameters::Scheduling;
use super::{contents, parameters};
use crate::error::{Error, Result};
use crate::inference::{InferRequest, RequestedOutput, printable};
use crate::proto::inference::ModelInferRequest;
use crate::proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::tensor::{DataType, Tensor, parse_shape};

/// Reads an inference request. Raw contents become tensors without a copy.
///
/// # Errors
/// The first thing wrong, whatever model the request is for: a parameter, datatype, shape, count or length.
pub fn infer_request(message: ModelInferRequest) -> Result<InferRequest> {
    let Scheduling { timeout, priority } = parameters::scheduling(&message.parameters)?;
    let own = parameters::own(&message.parameters);
    let outputs = message.outputs.into_iter().map(requested_output).collect::<Result<_>>()?;
    let inputs = match message.raw_input_contents {
        raw if raw.is_empty() => message.inputs.into_iter().map(typed_input).collect::<Result<_>>()?,
        raw => raw_inputs(&message.model_name, message.inputs, raw)?,
    };
    Ok(InferRequest { id: message.id, inputs, outputs, timeout, priority, parameters: own })
}

fn requested_output(output: InferRequestedOutputTensor) -> Result<RequestedOutput> {
    let classification = parameters::classification(&output.name, &output.parameters)?;
    Ok(RequestedOutput { name: output.name, classification })
}

fn typed_input(input: InferInputTensor) -> Result<(String, Tensor)> {
    let (dtype, shape) = head(&input)?;
    let contents = input.contents.unwrap_or_default();
    let tensor = contents::tensor(&input.name, dtype, shape, &contents)?;
    Ok((input.name, tensor))
}

fn raw_inputs(model: &str, inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> Result<Vec<(String, Tensor)>> {
    let (expected, got) = (inputs.len(), raw.len());
    if expected != got {
        return Err(Error::invalid(format!(
            "expected {expected} entries in raw_input_contents, one for each input of the request, got {got}"
        )));
    }
    let input = |(input, data): (InferInputTensor, Bytes)| {
        if input.contents.is_some() {
            return Err(Error::invalid(format!(
                "contents field must not be specified when using raw_input_contents for '{}' for model '{}'",
                printable(&input.name),
                printable(model)
            )));
        }
        let (dtype, shape) = head(&input)?;
        let tensor = Tensor::from_raw(dtype, shape, data);
        let tensor = tensor.map_err(|source| contents::wrong_tensor(&input.name, source))?;
        Ok((input.name, tensor))
    };
    inputs.into_iter().zip(raw).map(input).collect()
}

fn head(input: &InferInputTensor) -> Result<(DataType, Vec<usize>)> {
    parameters::refuse_shared_memory("input", &input.name, &input.parameters)?;
    let dtype = DataType::from_name(&input.datatype).ok_or_else(|| {
        let known: Vec<&str> = DataType::ALL.into_iter().map(DataType::name).collect();
        let (name, got) = (printable(&input.name), printable(&input.datatype));
        Error::invalid(format!("input '{name}' expects a datatype of {}, got '{got}'", known.join(", ")))
    })?;
    let shape = parse_shape(&input.shape).map_err(|source| contents::wrong_tensor(&input.name, source))?;
    Ok((dtype, shape))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::inference::{InferParameter, InferTensorContents, infer_parameter::ParameterChoice};
    use proptest::prelude::*;
    use prost::Message;
    use std::time::Duration;

    fn input(name: &str, dtype: &str, shape: &[i64]) -> InferInputTensor {
        InferInputTensor {
            name: name.into(),
            datatype: dtype.into(),
            shape: shape.to_vec(),
            ..InferInputTensor::default()
        }
    }

    fn raw_request(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> ModelInferRequest {
        ModelInferRequest { model_name: "m".into(), inputs, raw_input_contents: raw, ..ModelInferRequest::default() }
    }

    #[test]
    fn raw_contents_of_every_datatype_are_slices_of_what_was_received() {
        for dtype in DataType::ALL {
            let sent = match dtype.size() {
                Some(size) => Bytes::from((0..2 * size as u8).collect::<Vec<_>>()),
                None => Bytes::from_static(&[1, 0, 0, 0, b'a', 0, 0, 0, 0]),
            };
            let request = infer_request(raw_request(vec![input("x", dtype.name(), &[2])], vec![sent.clone()])).unwrap();
            let (name, tensor) = &request.inputs[0];
            assert_eq!((name.as_str(), tensor.dtype(), tensor.shape()), ("x", dtype, &[2][..]));
            assert_eq!((tensor.data().as_ptr(), tensor.data().len()), (sent.as_ptr(), sent.len()));
        }
    }

    #[test]
    fn the_rest_of_a_request_comes_along() {
        let mut request = raw_request(vec![input("x", "BOOL", &[1])], vec![Bytes::from_static(&[1])]);
        request.id = "42".into();
        request.outputs = vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }];
        let timeout = InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(10)) };
        request.parameters.insert("timeout".into(), timeout);
        let read = infer_request(request).unwrap();
        assert_eq!((read.id.as_str(), read.timeout), ("42", Some(Duration::from_micros(10))));
        assert_eq!(read.outputs, [RequestedOutput { name: "y".into(), classification: None }]);
    }

    #[test]
    fn each_mistake_is_told() {
        let error = |request| infer_request(request).unwrap_err().to_string();
        let four = Bytes::from_static(&[0; 4]);
        assert_eq!(
            error(raw_request(vec![input("x", "FP32", &[1]), input("k", "FP32", &[1])], vec![four.clone()])),
            "expected 2 entries in raw_input_contents, one for each input of the request, got 1"
        );
        let mut mixed = input("x", "FP32", &[1]);
        mixed.contents = Some(InferTensorContents { fp32_contents: vec![1.0], ..Default::default() });
        assert_eq!(
            error(raw_request(vec![mixed], vec![four.clone()])),
            "contents field must not be specified when using raw_input_contents for 'x' for model 'm'"
        );
        assert_eq!(
            error(raw_request(vec![input("x", "FP32", &[2])], vec![four.clone()])),
            "input 'x': expected 8 bytes for shape [2] of FP32, got 4"
        );
        assert_eq!(
            error(raw_request(vec![input("x", "FP32", &[i64::MAX, i64::MAX])], vec![four.clone()])),
            "input 'x': shape [9223372036854775807,9223372036854775807] has more elements than can be addressed"
        );
        assert_eq!(
            error(raw_request(vec![input("x", "FP32", &[-1])], vec![four.clone()])),
            "input 'x': shape [-1] has a negative dimension"
        );
        assert!(
            error(raw_request(vec![input("x", "float", &[1])], vec![four]))
                .starts_with("input 'x' expects a datatype of BOOL, INT8,")
        );
        assert_eq!(
            error(raw_request(vec![input("x", "FP32", &[1])], vec![])),
            "input 'x': expected 1 elements for shape [1], got 0"
        );
    }

    #[test]
    fn an_empty_tensor_needs_no_contents() {
        let request = infer_request(raw_request(vec![input("x", "FP32", &[0, 4])], vec![])).unwrap();
        assert_eq!(request.inputs[0].1.element_count(), 0);
    }

    fn any_input() -> impl Strategy<Value = InferInputTensor> {
        let dtype = prop_oneof![
            prop::sample::select(DataType::ALL.to_vec()).prop_map(|dtype| dtype.name().to_owned()),
            ".{0,4}".prop_map(String::from)
        ];
        let shape = prop::collection::vec(prop_oneof![0i64..4, any::<i64>()], 0..5);
        let contents = prop::option::of((
            prop::collection::vec(any::<i32>(), 0..5),
            prop::collection::vec(any::<u32>(), 0..5),
            prop::collection::vec(any::<bool>(), 0..5),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..5),
        ));
        (".{0,6}", dtype, shape, contents).prop_map(|(name, datatype, shape, contents)| InferInputTensor {
            name,
            datatype,
            shape,
            contents: contents.map(|(ints, uints, bools, bytes)| InferTensorContents {
                int_contents: ints,
                uint_contents: uints,
                bool_contents: bools,
                bytes_contents: bytes.into_iter().map(Bytes::from).collect(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    proptest! {
        #[test]
        fn no_request_makes_decoding_panic(
            inputs in prop::collection::vec(any_input(), 0..4),
            raw in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
        ) {
            let raw = raw.into_iter().map(Bytes::from).collect();
            if let Ok(request) = infer_request(raw_request(inputs, raw)) {
                for (_, tensor) in request.inputs {
                    prop_assert!(tensor.dtype().size().is_none_or(|size| tensor.data().len() == size * tensor.element_count()));
                }
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = ModelInferRequest::decode(&*bytes) {
                let _ = infer_request(message);
            }
        }
    }
}
