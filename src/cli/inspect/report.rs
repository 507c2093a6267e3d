//! What `inspect` says, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::latency::Latency;
use crate::admin::view::{BatchingView, TensorView};
use crate::cli::table::Table;
use crate::engine::onnx::{Declared, DeclaredKind, OnnxFacts};
use crate::engine::{Engine, LoadError, Model};

/// The facts of a file and what an engine makes of it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub file: String,
    /// The program that wrote the file; empty where the file doesn't say.
    pub producer: String,
    pub ir_version: i64,
    /// Version of each operator domain.
    pub opsets: BTreeMap<String, i64>,
    pub operators: Vec<Operator>,
    /// As the engine serves them, else as the file declares them.
    pub inputs: Vec<TensorView>,
    pub outputs: Vec<TensorView>,
    pub engines: Vec<EngineVerdict>,
    /// Null where no engine runs the file.
    pub batching: Option<BatchingView>,
    /// What loading found out that an operator should know.
    pub notes: Vec<String>,
    pub latency: Vec<Latency>,
}

/// How often an operator occurs.
#[derive(Debug, Serialize)]
pub struct Operator {
    pub domain: String,
    pub name: String,
    pub nodes: usize,
}

/// Whether an engine can run the file.
#[derive(Debug, Serialize)]
pub struct EngineVerdict {
    pub engine: String,
    pub runs: bool,
    /// Why it can't; empty if it can.
    pub reason: String,
}

impl EngineVerdict {
    /// Loads the file for this alone.
    pub fn of(engine: &dyn Engine, file: &Path) -> Self {
        let refusal = engine.load(file).err();
        let reason = refusal.map(|error| error.to_string()).unwrap_or_default();
        Self { engine: engine.name().to_owned(), runs: reason.is_empty(), reason }
    }
}

impl Report {
    /// The report of a file that was loaded or refused, without latencies.
    pub fn of(
        file: &Path,
        facts: &OnnxFacts,
        engines: Vec<EngineVerdict>,
        loaded: Result<&dyn Model, &LoadError>,
    ) -> Self {
        let operator = |count: &crate::engine::onnx::OperatorCount| Operator {
            domain: count.domain.clone(),
            name: count.name.clone(),
            nodes: count.nodes,
        };
        let (inputs, outputs) = match loaded {
            Ok(model) => {
                let signature = model.signature();
                (views(&signature.inputs, TensorView::of), views(&signature.outputs, TensorView::of))
            }
            Err(_) => (views(&facts.inputs, declared), views(&facts.outputs, declared)),
        };
        Self {
            file: file.display().to_string(),
            producer: facts.producer.clone(),
            ir_version: facts.ir_version,
            opsets: facts.opsets.clone(),
            operators: facts.operators.iter().map(operator).collect(),
            inputs,
            outputs,
            engines,
            batching: loaded.ok().map(|model| BatchingView::of(&model.signature().batching)),
            notes: loaded.map(|model| model.notes()).unwrap_or_default(),
            latency: vec![],
        }
    }
}

fn views<T>(items: &[T], view: fn(&T) -> TensorView) -> Vec<TensorView> {
    items.iter().map(view).collect()
}

/// An input or output as the file declares it, whatever it is.
fn declared(declared: &Declared) -> TensorView {
    match (&declared.kind, declared.spec("")) {
        (_, Ok(spec)) => TensorView::of(&spec),
        (DeclaredKind::Other(kind), Err(_)) => {
            TensorView { name: declared.name.clone(), datatype: kind.clone(), shape: None }
        }
        (_, Err(_)) => TensorView { name: declared.name.clone(), datatype: "unknown".to_owned(), shape: None },
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opsets: Vec<String> = self.opsets.iter().map(|(domain, version)| format!("{domain} {version}")).collect();
        writeln!(f, "file      {}", self.file)?;
        if !self.producer.is_empty() {
            writeln!(f, "producer  {}", self.producer)?;
        }
        writeln!(f, "opsets    {} (IR version {})", opsets.join(", "), self.ir_version)?;
        for EngineVerdict { engine, runs, reason } in &self.engines {
            let verdict = if *runs { "can run it" } else { "can't run it: " };
            writeln!(f, "engine    {engine} {verdict}{reason}")?;
        }
        if let Some(batching) = &self.batching {
            writeln!(f, "batching  {}", batching_text(self, batching))?;
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        writeln!(f, "\n{}", tensor_table("INPUT", &self.inputs))?;
        writeln!(f, "{}", tensor_table("OUTPUT", &self.outputs))?;
        let mut operators = Table::new(["OPERATOR", "NODES"]);
        for Operator { domain, name, nodes } in &self.operators {
            operators.row([format!("{domain}.{name}"), nodes.to_string()]);
        }
        write!(f, "{operators}")?;
        if self.latency.is_empty() { Ok(()) } else { write!(f, "\n{}", latency_table(&self.latency)) }
    }
}

fn batching_text(report: &Report, batching: &BatchingView) -> String {
    if !batching.proven {
        return format!("not possible: {}", batching.reason);
    }
    let along = |tensors: &[TensorView], axes: &[Option<usize>]| {
        let each = |(tensor, axis): (&TensorView, &Option<usize>)| match axis {
            Some(axis) => format!("{} along axis {axis}", tensor.name),
            None => format!("{} shared by all rows", tensor.name),
        };
        tensors.iter().zip(axes).map(each).collect::<Vec<_>>().join(", ")
    };
    let (inputs, outputs) =
        (along(&report.inputs, &batching.input_axes), along(&report.outputs, &batching.output_axes));
    format!("proven, rows together give what rows alone give: {inputs}; {outputs}")
}

fn tensor_table(title: &str, tensors: &[TensorView]) -> Table<3> {
    let mut table = Table::new([title, "DATATYPE", "SHAPE"]);
    for tensor in tensors {
        table.row([tensor.name.clone(), tensor.datatype.clone(), tensor.shape_text()]);
    }
    table
}

fn latency_table(latencies: &[Latency]) -> Table<4> {
    let mut table = Table::new(["ROWS", "MEDIAN", "ROWS/S", "RUNS"]);
    for Latency { rows, runs, median_us, rows_per_s, error } in latencies {
        table.row([
            rows.map_or("-".to_owned(), |rows| rows.to_string()),
            median_us.map_or_else(|| error.clone(), time_text),
            rows_per_s.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
            runs.to_string(),
        ]);
    }
    table
}

fn time_text(us: f64) -> String {
    if us < 1000.0 { format!("{us:.1} µs") } else { format!("{:.2} ms", us / 1000.0) }
}
