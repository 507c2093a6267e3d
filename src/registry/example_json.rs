//! Recorded examples as JSON: an inference request's `inputs` and the `outputs` that they must give.
//!
//! `{"inputs": [{"name", "datatype", "shape", "data"}, …], "outputs": [the same, …]}`, in the protocol's JSON form.

use crate::budget::{ByteBudget, ByteLease};
use crate::error::Error;
use crate::json::reader::Number;
use crate::json::tensor::TensorReader;
use crate::json::{Reader, once};
use crate::npz::Example;
use crate::tensor::{DataType, Tensor, parse_shape};

/// Most bytes that the tensors of one example may take.
const MAX_TENSOR_BYTES: u64 = 256 << 20;

/// Reads an example.
///
/// # Errors
/// What was expected and what came.
pub fn parse(json: &[u8]) -> Result<Example, String> {
    example(json).map_err(|cause| cause.to_string())
}

fn example(json: &[u8]) -> Result<Example, Error> {
    let mut lease = ByteBudget::new(MAX_TENSOR_BYTES).lease();
    let (mut inputs, mut outputs) = (None, None);
    let mut reader = Reader::new(json);
    reader.object(|key, reader| match key {
        "inputs" => once(&mut inputs, key, tensors(reader, &mut lease)?),
        "outputs" => once(&mut outputs, key, tensors(reader, &mut lease)?),
        _ => Err(Error::invalid(format!("expected 'inputs' and 'outputs', got '{key}'"))),
    })?;
    reader.finish()?;
    let missing = |key| Error::invalid(format!("expected 'inputs' and 'outputs', '{key}' is missing"));
    Ok(Example {
        inputs: inputs.ok_or_else(|| missing("inputs"))?.into_iter().collect(),
        outputs: outputs.ok_or_else(|| missing("outputs"))?.into_iter().collect(),
    })
}

fn tensors(reader: &mut Reader<'_>, lease: &mut ByteLease) -> Result<Vec<(String, Tensor)>, Error> {
    let mut tensors = Vec::new();
    reader.array(|reader| {
        tensors.push(tensor(reader, lease)?);
        Ok::<_, Error>(())
    })?;
    Ok(tensors)
}

fn tensor(reader: &mut Reader<'_>, lease: &mut ByteLease) -> Result<(String, Tensor), Error> {
    let (mut name, mut dtype, mut shape, mut data) = (None, None, None, None);
    reader.object(|key, reader| match key {
        "name" => once(&mut name, key, reader.string()?.into_owned()),
        "datatype" => {
            let text = reader.string()?;
            let known = DataType::from_name(&text);
            once(&mut dtype, key, known.ok_or_else(|| Error::invalid(format!("unknown datatype '{text}'")))?)
        }
        "shape" => {
            let mut dims = Vec::new();
            reader.array(|reader| {
                let dim = match reader.number()? {
                    Number::Whole(text) => text.parse().ok(),
                    _ => None,
                };
                dims.push(dim.ok_or_else(|| Error::invalid("a shape expects whole numbers"))?);
                Ok::<_, Error>(())
            })?;
            let parsed = parse_shape(&dims).map_err(|cause| Error::invalid(cause.to_string()))?;
            once(&mut shape, key, parsed)
        }
        "data" => {
            let (Some(dtype), Some(shape)) = (dtype, shape.clone()) else {
                return Err(Error::invalid("expected 'datatype' and 'shape' before 'data'"));
            };
            let of = name.clone().unwrap_or_default();
            let read = TensorReader::read_shaped(dtype, shape, reader, lease);
            once(&mut data, key, read.map_err(|fault| fault.of_input(&of))?)
        }
        _ => Err(Error::invalid(format!("expected name, datatype, shape and data, got '{key}'"))),
    })?;
    name.zip(data).ok_or_else(|| Error::invalid("expected name, datatype, shape and data of each tensor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_a_request_and_its_outputs() {
        let text = br#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}],
            "outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [7]}]}"#;
        let example = parse(text).unwrap();
        assert_eq!(example.inputs["x"].elements::<f32>().collect::<Vec<_>>(), [1.0, 2.5]);
        assert_eq!(example.outputs["y"].elements::<i64>().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn what_is_missing_or_foreign_is_named() {
        assert_eq!(parse(br#"{"inputs": []}"#).unwrap_err(), "expected 'inputs' and 'outputs', 'outputs' is missing");
        assert_eq!(parse(br#"{"input": []}"#).unwrap_err(), "expected 'inputs' and 'outputs', got 'input'");
        let short = br#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1]}], "outputs": []}"#;
        assert!(parse(short).unwrap_err().contains("expected 2 elements"));
    }
}
