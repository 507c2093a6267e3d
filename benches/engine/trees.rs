//! Tree ensembles: rows per second of our operators as a multiple of ONNX Runtime's, and whether both give the same labels.

use std::path::Path;
use std::sync::Arc;

use headgate::engine::{Engine, Model};
use headgate::npz::read_npy;
use headgate::tensor::{DataType, Tensor};

use crate::rounds::{Ratio, micros, rounds};

const BATCHES: [usize; 3] = [1, 8, 256];
const ROUNDS: usize = 15;

/// A line a model; `folder` has `<name>.onnx` and `<name>.npy`.
pub fn trees(tract: &dyn Engine, onnxruntime: &dyn Engine, folder: &Path) {
    println!("## Tree ensembles\n");
    println!(
        "Rows per second of the built-in engine as a multiple of ONNX Runtime's, and µs a run of each; goal: 1 or more at each size.\n"
    );
    println!("| Model | 1 row | 8 rows | 256 rows | Labels that are equal |\n|---|---|---|---|---|");
    let mut least = f64::INFINITY;
    for name in names(folder) {
        let load = |engine: &dyn Engine| engine.load(&folder.join(format!("{name}.onnx"))).expect("made here");
        let models = [load(tract), load(onnxruntime)];
        let rows = read_npy(&std::fs::read(folder.join(format!("{name}.npy"))).expect("made here")).expect("made here");
        let cells: Vec<String> = BATCHES.iter().map(|&batch| one_size(&models, &rows, batch, &mut least)).collect();
        println!("| {name} | {} | {} |", cells.join(" | "), equal_labels(&models, &rows));
    }
    println!("\nLeast of the medians: {least:.2}: {}.\n", if least >= 1.0 { "met" } else { "**missed**" });
}

fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("the folder of models").flatten();
    let name = |file: std::fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".npy")?.to_owned());
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    names
}

fn one_size(models: &[Arc<dyn Model>; 2], rows: &Tensor, batch: usize, least: &mut f64) -> String {
    let inputs = batches(rows, batch);
    // As a server does for a size that it runs often.
    models[0].prepare(&inputs[0]).expect("a plan of this size");
    let mut sessions: Vec<_> = models.iter().map(|model| model.clone().session()).collect();
    let times = rounds(ROUNDS, &mut sessions, &inputs).expect("it runs");
    models[0].release(&inputs[0]);
    let ratio = Ratio::of(&times, |times| times[1] / times[0]);
    *least = least.min(ratio.median);
    format!("{ratio}; {:.1} / {:.1}", micros(&times, 0), micros(&times, 1))
}

/// The rows in runs of `batch` of them.
fn batches(rows: &Tensor, batch: usize) -> Vec<Vec<Tensor>> {
    let width = rows.shape()[1];
    let bytes = batch * width * 4;
    let whole = rows.data().len() / bytes;
    let tensor = |at: usize| {
        Tensor::from_raw(DataType::Fp32, vec![batch, width], rows.data().slice(at * bytes..(at + 1) * bytes))
    };
    (0..whole).map(|at| vec![tensor(at).expect("it fills the shape")]).collect()
}

/// Of all rows, run at once.
fn equal_labels(models: &[Arc<dyn Model>; 2], rows: &Tensor) -> String {
    let labels = models.each_ref().map(|model| {
        let outputs = model.clone().session().run(std::slice::from_ref(rows), &|| false).expect("it runs").tensors;
        outputs.into_iter().find(|output| output.dtype() == DataType::Int64)
    });
    let [Some(ours), Some(theirs)] = &labels else { return "no labels".to_owned() };
    let pairs = ours.data().chunks(8).zip(theirs.data().chunks(8));
    format!("{} of {}", pairs.filter(|(ours, theirs)| ours == theirs).count(), rows.shape()[0])
}
