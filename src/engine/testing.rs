//! The models of `tests/zoo` and what was recorded for them, for the tests of engines.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Model;
use crate::engine::closeness::floats;
use crate::npz::{Example, read_example};
use crate::tensor::{DataType, Tensor};

/// Runs a model's recorded cases and compares, within the tolerance that is recorded with them.
pub fn check_recorded(model: &Arc<dyn Model>, folder: &Path) -> Result<(), String> {
    let meta: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
    let tolerance = meta["tol"].as_f64().unwrap();
    let cases = examples(folder);
    assert!(!cases.is_empty(), "{} has no recorded cases", folder.display());
    for (case, example) in cases {
        let inputs = inputs(model, &example)?;
        let outputs = model.clone().session().run(&inputs, &|| false).map_err(|error| format!("{case}: {error}"))?;
        for (spec, got) in model.signature().outputs.iter().zip(&outputs.tensors) {
            let expected = &example.outputs.get(&spec.name).ok_or(format!("{case}: no output '{}'", spec.name))?;
            agree(got, expected, tolerance).map_err(|fault| format!("{case}, output '{}': {fault}", spec.name))?;
        }
    }
    Ok(())
}

fn agree(got: &Tensor, expected: &Tensor, tolerance: f64) -> Result<(), String> {
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return Err(format!("{got:?} instead of {expected:?}"));
    }
    let (Some(a), Some(b)) = (floats(got), floats(expected)) else {
        return if got == expected { Ok(()) } else { Err("elements differ".into()) };
    };
    let differs = |(a, b): &(&f64, &f64)| {
        let difference = (**a - **b).abs() / b.abs().max(1.0);
        !(difference <= tolerance || (a.is_nan() && b.is_nan()) || a == b)
    };
    match a.iter().zip(&b).find(differs) {
        None => Ok(()),
        Some((a, b)) => Err(format!("{a} instead of {b}")),
    }
}

/// A case's inputs in the model's order.
pub fn inputs(model: &Arc<dyn Model>, example: &Example) -> Result<Vec<Tensor>, String> {
    let named = example.inputs.clone().into_iter().collect();
    model.signature().check_inputs("m", "", named).map_err(|error| error.to_string())
}

pub fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")
}

/// Every model's folder, by name.
pub fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(zoo()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|folder| folder.join("model.onnx").exists()).collect();
    folders.sort();
    assert!(folders.len() > 40, "the zoo is not whole: {} models", folders.len());
    folders
}

/// The recorded cases of a model, by name.
pub fn examples(folder: &Path) -> Vec<(String, Example)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "npz")).collect();
    cases.sort();
    let read = |path: PathBuf| {
        let mut example = read_example(&path).unwrap();
        example.outputs.extend(rendered_maps(&path.with_extension("strings.json")));
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), example)
    };
    cases.into_iter().map(read).collect()
}

/// The outputs of a ZipMap, recorded as Python writes a list of dictionaries, as the tensors of their scores.
fn rendered_maps(path: &Path) -> Vec<(String, Tensor)> {
    let Ok(bytes) = fs::read(path) else { return vec![] };
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let scores = |text: &str| {
        let rows: Vec<&str> = text.split('}').filter(|row| row.contains(':')).collect();
        let cells = rows.iter().flat_map(|row| row.split(':').skip(1));
        let values: Vec<f32> = cells.map(|cell| cell.split(',').next().unwrap().trim().parse().unwrap()).collect();
        Tensor::from_elements(DataType::Fp32, vec![rows.len(), values.len() / rows.len()], &values).unwrap()
    };
    let outputs = json["out"].as_object().into_iter().flatten();
    outputs.filter_map(|(name, entry)| Some((name.clone(), scores(entry.get("nontensor")?.as_str()?)))).collect()
}
