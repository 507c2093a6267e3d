//! The models with recorded answers.

use std::path::{Path, PathBuf};

use headgate::npz::{Example, read_example};
use headgate::tensor::Tensor;

pub fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")
}

/// Every model's name, in order.
pub fn names() -> Vec<String> {
    let entries = std::fs::read_dir(zoo()).unwrap().map(|entry| entry.unwrap());
    let models = entries.filter(|entry| entry.path().join("model.onnx").exists());
    let mut names: Vec<String> = models.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 55);
    names
}

/// The tags of a model's recorded runs, such as `b1`.
pub fn tags(model: &str) -> Vec<String> {
    let files = std::fs::read_dir(zoo().join(model)).unwrap().map(|entry| entry.unwrap().file_name());
    let tag = |file: std::ffi::OsString| {
        Some(file.to_str()?.strip_prefix("case_")?.strip_suffix(".npz").map(str::to_owned)).flatten()
    };
    let mut tags: Vec<String> = files.filter_map(tag).collect();
    tags.sort();
    tags
}

/// A recorded run.
pub fn case(model: &str, tag: &str) -> Example {
    read_example(&zoo().join(model).join(format!("case_{tag}.npz"))).unwrap()
}

/// The inputs of a recorded run.
pub fn inputs(model: &str, tag: &str) -> Vec<(String, Tensor)> {
    case(model, tag).inputs.into_iter().collect()
}

/// How far an answer may be from the recorded one, relative to the larger of 1 and what was recorded.
pub fn tolerance(model: &str) -> f64 {
    let meta = std::fs::read(zoo().join(model).join("meta.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&meta).unwrap()["tol"].as_f64().unwrap()
}

/// Why an answer is not the expected one; `None` if it is. NaN equals NaN; what isn't a float must be equal.
pub fn difference(got: &Tensor, expected: &Tensor, tolerance: f64) -> Option<String> {
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return Some(format!("expected {expected:?}, got {got:?}"));
    }
    let (Some(got_floats), Some(expected_floats)) = (super::tensors::floats(got), super::tensors::floats(expected))
    else {
        return (got != expected).then(|| format!("expected {:?}, got {:?}", expected.data(), got.data()));
    };
    let far = |(got, expected): (&f64, &f64)| {
        let same = got == expected || (got.is_nan() && expected.is_nan());
        let close = (got - expected).abs() <= tolerance * expected.abs().max(1.0);
        !same && !close
    };
    let at = got_floats.iter().zip(&expected_floats).position(far)?;
    Some(format!("element {at}: expected {}, got {}", expected_floats[at], got_floats[at]))
}
