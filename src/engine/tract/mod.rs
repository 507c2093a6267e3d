//! The tract engine: pure Rust, no native library.
//!
//! What must not be forgotten when this is changed: a run state keeps the hidden state of recurrent operators, so each
//! run gets its own; a plan for concrete shapes is faster than a symbolic one; tract may panic on a client's data; it may
//! give INT64 outputs as its own symbolic type; and some patterns it computes wrongly without any error: those that are known
//! have an operator of ours in their place, or a pass that writes them otherwise.

mod attribute_bounds;
mod builder;
mod convert;
mod cycles;
mod dangling;
mod graph;
mod guard;
mod limits;
mod memory;
mod model;
mod plan_key;
mod plan_policy;
mod plans;
mod prepare;
mod shared_weights;
mod support;
#[cfg(test)]
mod value_tests;
#[cfg(test)]
mod zoo_tests;

use std::path::Path;
use std::sync::Arc;

use tract_onnx::Onnx;

use self::builder::Builder;
pub use self::builder::MAX_QUEUED_BUILDS;
use self::graph::Graph;
use self::model::TractModel;
pub use self::plan_policy::MAX_REMEMBERED_SHAPES;
pub use self::plans::{MAX_CONCRETE_PLANS, MAX_PINNED_PLANS};
use self::prepare::prepare;
use super::{Engine, LoadError, Model, clean_up, deciding_inputs, external, onnx, ops, warm_up};
use crate::engine::onnx::OnnxFacts;
use crate::signature::TensorSpec;

/// The engine's name in metadata, logs and errors.
pub const NAME: &str = "tract";

/// Loads ONNX files with tract and this crate's own operators.
pub struct TractEngine {
    onnx: Onnx,
    /// Builds the plans that shapes earn, for all its models.
    builder: Arc<Builder>,
}

impl TractEngine {
    pub fn new() -> Self {
        // Exporters write shapes of intermediate values for one batch size only, which then refuse every other.
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
        // Reads weights beside the file by plain reads: a file cut short under a mapping would kill the process.
        onnx.provider = Arc::new(tract_onnx::data_resolver::FopenDataResolver);
        ops::register(&mut onnx.op_register);
        Self { onnx, builder: Arc::default() }
    }

    /// Whether this engine could run a file of these facts as far as operators tell, without loading it.
    ///
    /// # Errors
    /// `MissingOperators` with every operator it lacks.
    pub fn has_operators(&self, facts: &OnnxFacts) -> Result<(), LoadError> {
        let mut facts = facts.clone();
        facts.operators.retain(|operator| !clean_up::replaces(&operator.domain, &operator.name));
        support::operators(&facts, &self.onnx.op_register)
    }

    fn prepared(&self, path: &Path) -> Result<TractModel, LoadError> {
        let mut proto = onnx::read_proto(path)?;
        let facts = onnx::facts(&proto);
        dangling::check(&proto)?;
        cycles::check(&proto)?;
        attribute_bounds::check(&proto)?;
        clean_up::apply(&mut proto);
        // Of what is left: some operators are cleaned away.
        support::operators(&onnx::facts(&proto), &self.onnx.op_register)?;
        support::datatypes(&proto)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        external::check(&proto, folder)?;
        let specs = |declared: &[onnx::Declared]| -> Result<Vec<TensorSpec>, LoadError> {
            declared.iter().map(|each| each.spec(NAME)).collect()
        };
        let (inputs, outputs) = (specs(&facts.inputs)?, specs(&facts.outputs)?);
        warm_up::check_declared(&inputs).map_err(|cause| LoadError::Unsupported { engine: NAME, cause })?;
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let deciding = deciding_inputs::deciding(&proto, &names);
        let limit = limits::most_bytes(path, &proto, &inputs, &outputs);
        let graph = Graph::parse(&self.onnx, &proto, folder.to_str(), limit).map_err(|fault| {
            let cause = external::without_folder(fault.into_cause("reading the graph"), folder);
            LoadError::Unsupported { engine: NAME, cause }
        })?;
        // The weights are in the graph now; the file's copy of them goes before plans are made.
        drop(proto);
        prepare(graph, (inputs, outputs), deciding, &self.builder)
    }
}

impl Default for TractEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, path: &Path) -> Result<Arc<dyn Model>, LoadError> {
        Ok(Arc::new(self.prepared(path)?))
    }
}
