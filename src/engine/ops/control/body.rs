//! A graph inside a node as it was parsed, and what becomes of it for given inputs.

use tract_onnx::model::{ParseResult, ParsingContext};
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;

use super::nested::Nested;
use super::scans::begin_anew;

/// Deepest nesting of graphs: each level is analysed several times for one analysis of the level around it.
const MAX_DEPTH: usize = 8;

/// A parsed graph. Its inputs are those that it declares, and then the outer values that it uses.
#[derive(Debug, Clone)]
pub struct Body {
    model: InferenceModel,
    declared: usize,
}

impl Body {
    /// The graph of an attribute, and the names of the outer values that it uses.
    ///
    /// # Errors
    /// Where tract can't read it, or it lies too deep.
    pub fn parse(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<(Self, Vec<String>)> {
        ensure!(context.parent_graphs.len() <= MAX_DEPTH, "graphs lie in each other more than {MAX_DEPTH} deep");
        let graph = node.get_attr::<&GraphProto>(name)?;
        let own = |output: &String| {
            graph.node.iter().any(|node| node.output.contains(output))
                || graph.input.iter().any(|input| input.name == *output)
                || graph.initializer.iter().any(|tensor| tensor.name == *output)
        };
        // tract panics here.
        if let Some(foreign) = graph.output.iter().find(|output| !own(&output.name)) {
            bail!("attribute '{name}': nothing in the graph gives its output '{}'", foreign.name);
        }
        let ParseResult { model, unresolved_inputs, .. } =
            context.parse_graph(graph).with_context(|| format!("attribute '{name}'"))?;
        let declared = model.inputs.len() - unresolved_inputs.len();
        ensure!(declared == graph.input.len(), "attribute '{name}': an input of the graph has an initializer");
        Ok((Self { model, declared }, unresolved_inputs))
    }

    pub fn graph(&self) -> &InferenceModel {
        &self.model
    }

    /// How many inputs it declares.
    pub fn declared(&self) -> usize {
        self.declared
    }

    pub fn outputs(&self) -> usize {
        self.model.outputs.len()
    }

    /// What can be said of its outputs before types are fixed.
    pub fn analysed(&self, inputs: &[InferenceFact]) -> TractResult<TVec<InferenceFact>> {
        let (mut model, _) = self.with_inputs(inputs)?;
        model.analyse(false)?;
        model.outputs.iter().map(|&output| model.outlet_fact(output).cloned()).collect()
    }

    /// The graph for inputs of these types and shapes; an input whose value is known is no input of it any more. Outputs
    /// of tract's symbolic integers become plain ones.
    pub fn typed(&self, inputs: &[TypedFact]) -> TractResult<Nested> {
        let facts: Vec<InferenceFact> = inputs.iter().map(InferenceFact::from).collect();
        let (model, kept) = self.with_inputs(&facts)?;
        let mut model = model.into_typed()?;
        begin_anew(&mut model);
        let mut model = model.into_decluttered()?;
        plain_outputs(&mut model)?;
        Ok(Nested::new(kept, model))
    }

    /// The graph with these facts for inputs, and which of them are still inputs.
    fn with_inputs(&self, facts: &[InferenceFact]) -> TractResult<(InferenceModel, TVec<usize>)> {
        let mut model = self.model.clone();
        let sources = model.inputs.clone();
        ensure!(sources.len() == facts.len(), "a graph of {} inputs got {}", sources.len(), facts.len());
        let mut kept = tvec![];
        for (index, (&source, fact)) in sources.iter().zip(facts).enumerate() {
            match fact.value.concretize() {
                Some(value) => {
                    model.node_mut(source.node).op = tract_onnx::tract_core::ops::konst::Const::new(value)?.into();
                    model.inputs.retain(|&input| input != source);
                }
                None => kept.push(index),
            }
            // Whatever shape the graph declares for it, this is the one it gets.
            model.set_outlet_fact(source, fact.clone())?;
        }
        Ok((model, kept))
    }
}

/// Makes plain integers of outputs that are tract's symbolic ones: outside nothing knows what their symbols stand for.
pub fn plain_outputs(model: &mut TypedModel) -> TractResult<()> {
    let mut outputs = model.outputs.clone();
    for (index, output) in outputs.iter_mut().enumerate() {
        if model.outlet_fact(*output)?.datum_type.is_tdim() {
            *output = model.wire_node(format!("output{index}.plain"), cast(i64::datum_type()), &[*output])?[0];
        }
    }
    model.select_output_outlets(&outputs)
}
