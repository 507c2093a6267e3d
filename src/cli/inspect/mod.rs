//! `headgate inspect`: what a model file takes and gives, which engine can run it, and how fast.
//!
//! With `--probe` the same command is the child process in which a server tries a file it has not seen before.

mod latency;
mod probe;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::latency::Effort;
use self::probe::Limits;
use self::report::{EngineVerdict, Report};
use super::failure::Failure;
use super::print_json;
use crate::engine::auto::AutoEngine;
use crate::engine::onnx::{self, OnnxFacts};
use crate::engine::padding::DeclaredPadding;
use crate::engine::{Engine, EngineChoice, LoadError, LoadTerms, Model};
use crate::registry::directory::YAML_FILE;
use crate::registry::model_yaml;
use crate::tensor::shape_text;

/// Largest batch that may be measured.
const MAX_BATCH_SIZE: u64 = 65_536;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// ONNX file
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// Rows per run to measure
    #[arg(long, value_name = "ROWS", value_delimiter = ',', default_value = "1,2,4,8,16",
          value_parser = clap::value_parser!(u64).range(1..=MAX_BATCH_SIZE))]
    batch_sizes: Vec<u64>,
    /// Time to measure each batch size for, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = seconds)]
    seconds: Duration,
    /// Engine to load it with: auto tries each that is there
    #[arg(long, value_name = "ENGINE", default_value = "auto", value_parser = engine_choice)]
    engine: EngineChoice,
    /// libonnxruntime.so or its folder, or none to do without [default: ORT_DYLIB_PATH, else the Python package's folder]
    #[arg(long, value_name = "FILE")]
    onnxruntime_library: Option<PathBuf>,
    /// Only say whether the file can be loaded and run, as one line of JSON, under the limits given
    #[arg(long, hide = true)]
    probe: bool,
    /// Address space that this process may take, in bytes
    #[arg(long, hide = true, requires = "probe")]
    memory_limit_bytes: Option<u64>,
    /// Processor time that this process may take, in seconds
    #[arg(long, hide = true, requires = "probe")]
    cpu_limit_seconds: Option<u64>,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.probe {
            let limits = Limits { memory_bytes: self.memory_limit_bytes, cpu_seconds: self.cpu_limit_seconds };
            return probe::run(limits, || self.load(&self.engine()), out);
        }
        if !self.file.exists() {
            return Err(Failure::NotFound(format!("there is no file {}", self.file.display())));
        }
        let engine = self.engine();
        let refused = |error: LoadError| Failure::Refused(format!("{}: {error}", self.file.display()));
        let facts = onnx::read(&self.file).map_err(refused)?;
        let loaded = self.load(&engine);
        let report = self.report(&facts, &engine, &loaded);
        if self.json {
            print_json(out, &report)?;
        } else {
            write!(out, "{report}")?;
        }
        // The report is for whoever reads it, the exit status for a script that asks whether the file can be served.
        match loaded {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Refused(format!("{}: no engine can run it", self.file.display()))),
        }
    }

    fn engine(&self) -> AutoEngine {
        AutoEngine::open(self.onnxruntime_library.as_deref())
    }

    fn load(&self, engine: &AutoEngine) -> Result<Arc<dyn Model>, LoadError> {
        engine.load_on(&self.file, &LoadTerms { choice: self.engine, judge: &|_| None })
    }

    fn report(&self, facts: &OnnxFacts, engine: &AutoEngine, loaded: &Result<Arc<dyn Model>, LoadError>) -> Report {
        if let Ok(model) = loaded {
            model.choose_engine(None);
        }
        let engines = engine.engines().iter().map(|engine| EngineVerdict::of(&**engine, &self.file)).collect();
        let mut report = Report::of(&self.file, facts, engines, loaded.as_ref().map(|model| &**model));
        report.notes.extend(engine.onnxruntime_absent().map(str::to_owned));
        if let Ok(model) = loaded {
            report.notes.extend(padding_note(&self.file, model));
            let effort = Effort { time: self.seconds, ..Effort::default() };
            report.latency = latency::measure(model, &self.batch_sizes, effort);
        }
        report
    }
}

/// What the model says to the sequence padding that the model.yaml of the file's repository declares; `None` without.
fn padding_note(file: &Path, model: &Arc<dyn Model>) -> Option<String> {
    let settings = std::path::absolute(file).ok()?.ancestors().nth(2)?.join(YAML_FILE);
    let bytes = std::fs::read(settings).ok()?;
    let rule = match model_yaml::parse(&bytes) {
        Ok(file) => file.sequence_padding?,
        Err(fault) => return Some(format!("{YAML_FILE}: {fault}")),
    };
    if let Err(misfit) = rule.fit(model.signature()) {
        return Some(format!("{YAML_FILE}: {misfit}"));
    }
    let padding = DeclaredPadding::check(&rule, model);
    Some(padding.note().unwrap_or_else(|| {
        format!("sequence padding along '{}' up to {}: proven", rule.dimension, shape_text(&rule.buckets))
    }))
}

fn engine_choice(text: &str) -> Result<EngineChoice, String> {
    let all = [EngineChoice::Auto, EngineChoice::Tract, EngineChoice::OnnxRuntime];
    let expected = || "expected auto, tract or onnxruntime".to_owned();
    all.into_iter().find(|choice| choice.name() == text).ok_or_else(expected)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    parsed.filter(|time| *time <= Duration::from_secs(3600)).ok_or_else(|| "expected seconds from 0 to 3600".to_owned())
}
