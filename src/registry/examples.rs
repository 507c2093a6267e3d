//! Recorded examples: what a version must answer before it may serve.
//!
//! Engines compute some exports wrongly without any error, so a version may carry its own proof: `examples/*.npz` with
//! keys `in/<name>` and `out/<name>` (strings in `<same name>.strings.json`), or `examples/*.json` with an inference
//! request's `inputs` and the `outputs` it must give.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{Model, RunError};
use crate::npz::read_example;
use crate::registry::example_json;
use crate::registry::model_config::Tolerance;
use crate::tensor::{DataType, Tensor, shape_text};

/// Why recorded examples fail a version.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    #[error("recorded example {file} can't be read: {cause}")]
    Unreadable { file: String, cause: String },
    #[error("recorded example {file} does not fit the model: {cause}")]
    Misfit { file: String, cause: String },
    #[error("recorded example {file} could not be run: {cause}")]
    Run { file: String, cause: RunError },
    #[error("recorded example {file} disagrees: {0}", .difference)]
    Mismatch { file: String, difference: Difference },
}

impl ExampleError {
    /// Whether the model itself gave a wrong answer, so that it must not serve.
    pub fn is_wrong_answer(&self) -> bool {
        matches!(self, Self::Mismatch { .. })
    }
}

/// The first element in which an output differs from what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("output '{output}'{}: expected {expected}, received {received}", row_text(row))]
pub struct Difference {
    pub output: String,
    /// Index along the first axis; `None` where the shape or datatype differs, or the output is a scalar.
    pub row: Option<usize>,
    pub expected: String,
    pub received: String,
}

/// Most example files of one version that are run, in the order of their names.
pub const MAX_EXAMPLES: usize = 64;

/// Runs the examples of a version, if it has any, and says how many. Blocks while they run.
///
/// # Errors
/// The first example that can't be read, doesn't fit, can't be run, or disagrees.
pub fn run_examples(version: &Path, model: &Arc<dyn Model>, tolerance: Tolerance) -> Result<usize, ExampleError> {
    let files = example_files(&version.join("examples"));
    for file in &files {
        run_example(file, model, tolerance)?;
    }
    Ok(files.len())
}

fn example_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let hidden = name.starts_with('.');
            !hidden && (name.ends_with(".npz") || (name.ends_with(".json") && !name.ends_with(".strings.json")))
        })
        .collect();
    files.sort();
    files.truncate(MAX_EXAMPLES);
    files
}

fn run_example(path: &Path, model: &Arc<dyn Model>, tolerance: Tolerance) -> Result<(), ExampleError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = if file.ends_with(".npz") {
        read_example(path).map_err(|cause| cause.to_string())
    } else {
        fs::read(path).map_err(|cause| cause.to_string()).and_then(|bytes| example_json::parse(&bytes))
    };
    let example = match read {
        Ok(example) => example,
        Err(cause) => return Err(ExampleError::Unreadable { file, cause }),
    };
    let signature = model.signature();
    let inputs = match signature.check_inputs("this version", "", example.inputs.into_iter().collect()) {
        Ok(inputs) => inputs,
        Err(cause) => return Err(ExampleError::Misfit { file, cause: cause.to_string() }),
    };
    let output = match model.clone().session().run(&inputs, &|| false) {
        Ok(output) => output,
        Err(cause) => return Err(ExampleError::Run { file, cause }),
    };
    for (name, expected) in &example.outputs {
        let Some(position) = signature.outputs.iter().position(|spec| spec.name == *name) else {
            return Err(ExampleError::Misfit { file, cause: format!("the model has no output '{name}'") });
        };
        if let Some(difference) = first_difference(name, &output.tensors[position], expected, tolerance) {
            return Err(ExampleError::Mismatch { file, difference });
        }
    }
    Ok(())
}

/// The first element that is not within tolerance. NaN equals NaN, an infinity only itself; what isn't a float must be
/// equal.
pub fn first_difference(name: &str, got: &Tensor, expected: &Tensor, tolerance: Tolerance) -> Option<Difference> {
    let describe = |tensor: &Tensor| format!("{} {}", tensor.dtype(), shape_text(tensor.shape()));
    let difference = |row, expected, received| Some(Difference { output: name.to_owned(), row, expected, received });
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return difference(None, describe(expected), describe(got));
    }
    let close = |got: f64, expected: f64| {
        got == expected
            || (got.is_nan() && expected.is_nan())
            || (got - expected).abs() <= tolerance.atol + tolerance.rtol * expected.abs()
    };
    let row_of = |element: usize| {
        let rows = *got.shape().first()?;
        Some(element / (got.element_count() / rows).max(1))
    };
    match (floats(got), floats(expected)) {
        (Some(got), Some(expected)) => {
            let at = got.iter().zip(&expected).position(|(&got, &expected)| !close(got, expected))?;
            difference(row_of(at), expected[at].to_string(), got[at].to_string())
        }
        _ => {
            let (got, expected) = (texts(got), texts(expected));
            let at = got.iter().zip(&expected).position(|(got, expected)| got != expected)?;
            difference(row_of(at), expected[at].clone(), got[at].clone())
        }
    }
}

fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    crate::engine::closeness::floats(tensor)
}

/// Each element of a tensor that holds no floats, as text.
fn texts(tensor: &Tensor) -> Vec<String> {
    match tensor.dtype().size() {
        None => tensor.byte_elements().map(|element| format!("{:?}", String::from_utf8_lossy(element))).collect(),
        Some(size) => {
            let signed = matches!(tensor.dtype(), DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64);
            tensor.data().chunks_exact(size).map(|bytes| integer_text(bytes, signed)).collect()
        }
    }
}

fn integer_text(little_endian: &[u8], signed: bool) -> String {
    let negative = signed && little_endian.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..little_endian.len()].copy_from_slice(little_endian);
    i128::from_le_bytes(wide).to_string()
}

fn row_text(row: &Option<usize>) -> String {
    row.map(|row| format!(", row {row}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-3 };

    fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_elements(DataType::Fp32, shape.to_vec(), values).unwrap()
    }

    #[test]
    fn the_first_difference_names_output_row_expected_and_received() {
        let expected = f32s(&[2, 2], &[1.0, 2.0, 3.0, f32::NAN]);
        assert_eq!(first_difference("y", &expected, &expected, TIGHT), None);
        let got = f32s(&[2, 2], &[1.0, 2.001, 3.5, f32::NAN]);
        let difference = first_difference("y", &got, &expected, TIGHT).unwrap();
        assert_eq!(difference.to_string(), "output 'y', row 1: expected 3, received 3.5");
    }

    #[test]
    fn shapes_datatypes_and_integers_must_be_equal() {
        let shape = first_difference("y", &f32s(&[1, 2], &[0.0; 2]), &f32s(&[2], &[0.0; 2]), TIGHT).unwrap();
        assert_eq!(shape.to_string(), "output 'y': expected FP32 [2], received FP32 [1,2]");
        let ints = |values: &[i64]| Tensor::from_elements(DataType::Int64, vec![values.len()], values).unwrap();
        let wrong = first_difference("label", &ints(&[1, -2]), &ints(&[1, 2]), TIGHT).unwrap();
        assert_eq!(wrong.to_string(), "output 'label', row 1: expected 2, received -2");
        let strings = |text: &str| Tensor::from_byte_elements(vec![1], &[text]).unwrap();
        let wrong = first_difference("s", &strings("a"), &strings("b"), TIGHT).unwrap();
        assert_eq!(wrong.to_string(), "output 's', row 0: expected \"b\", received \"a\"");
    }
}
