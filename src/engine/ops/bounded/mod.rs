//! Every operator within bounds of memory: a few bytes of a file, or of a client's values, may ask for a tensor of any size.
//!
//! tract evaluates an operator as soon as it knows all its inputs, while it analyses a graph and while it types it. So each
//! operator that a graph is read with, tract's and ours, says first what it would make, and is refused where that is more
//! than the graph may make.

mod at_run;
mod inputs;
mod windows;

use std::cell::Cell;
use std::sync::OnceLock;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::not_a_typed_op;
use tract_onnx::tract_hir::internal::*;

pub use self::at_run::check_run;
use self::inputs::Granted;
use super::Built;
use super::unfit::unfit;

/// How the text of an error begins that says so.
pub const TOO_LARGE: &str = "a tensor of more than";

/// Most bytes of a tensor that is made of constants alone, whatever the file's size.
pub const MIN_LIMIT: usize = 256 << 20;

/// How names begin under which tract's operators are kept for ours that build on them, which are bounded themselves.
const TRACTS: &str = "HeadgateTract";

thread_local! {
    /// For the operators that are built on this thread: builders are plain functions and carry nothing.
    static LIMIT: Cell<usize> = const { Cell::new(MIN_LIMIT) };
}

/// Runs `read`; the operators that it builds make no tensor of more than `limit` bytes out of constants.
pub fn within<T>(limit: usize, read: impl FnOnce() -> T) -> T {
    struct Reset(usize);
    impl Drop for Reset {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _reset = Reset(LIMIT.replace(limit));
    read()
}

/// Puts every operator of the registry, which is to be whole, within bounds.
pub fn bound_all(register: &mut OnnxOpRegister) {
    BUILDERS.get_or_init(|| register.clone());
    let bounded = register.0.iter_mut().filter(|(name, _)| !name.starts_with(TRACTS));
    bounded.for_each(|(_, builder)| *builder = build);
}

/// What the registry held before; the same for every engine.
static BUILDERS: OnceLock<OnnxOpRegister> = OnceLock::new();

fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let builder = BUILDERS.get().and_then(|builders| builders.0.get(&node.op_type));
    let (op, closure) = builder.with_context(|| format!("there is no {}", node.op_type))?(context, node)?;
    Ok((Box::new(Bounded { op, granted: Granted::of(node)?, limit: LIMIT.get() }), closure))
}

/// Largest dimension that a Resize may make: it makes a table for each.
const MAX_RESIZED: i64 = 1 << 20;

/// As [`check`], for a Resize of an input of this shape: it goes axis by axis, in FLOAT, so that on the way one axis may be
/// as long as it will be, and another as it was.
pub fn check_resize(input: &[i64], output: &[i64], limit: usize) -> TractResult<()> {
    let largest = output.iter().find(|&&size| size > MAX_RESIZED);
    ensure!(largest.is_none(), "Resize: a dimension of {output:?} is larger than {MAX_RESIZED}");
    let between: Vec<i64> = input.iter().zip(output).map(|(&before, &after)| before.max(after)).collect();
    check("Resize", &between, DatumType::F32, limit / RESIZE_COPIES)
}

/// How many tensors a Resize holds at a time.
const RESIZE_COPIES: usize = 3;

/// # Errors
/// A shape of which a tensor would have more than `limit` bytes, or that has a negative dimension. `what` begins the text.
pub fn check(what: &str, shape: &[i64], datum_type: DatumType, limit: usize) -> TractResult<()> {
    let count = shape.iter().try_fold(datum_type.size_of(), |bytes, &size| {
        // Tables are made for the other dimensions even of a tensor of nothing.
        Some(bytes.saturating_mul(usize::try_from(size).ok()?.max(1)))
    });
    let count = count.with_context(|| format!("{what}: a tensor of shape {shape:?} has a negative dimension"))?;
    ensure!(count <= limit, "{TOO_LARGE} {limit} bytes: {what} would make one of shape {shape:?}");
    Ok(())
}

/// As [`check`], within [`MIN_LIMIT`], of what a run is about to make.
///
/// # Errors
/// A shape that is too large, which is the request's fault.
pub fn check_made(what: &str, shape: &[usize], datum_type: DatumType) -> TractResult<()> {
    let sizes: TVec<i64> = shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
    check(what, &sizes, datum_type, MIN_LIMIT).map_err(|error| unfit(error.to_string()))
}

#[derive(Debug, Clone)]
struct Bounded {
    op: Box<dyn InferenceOp>,
    granted: Granted,
    /// In bytes.
    limit: usize,
}

impl Bounded {
    /// # Errors
    /// Where an output of this shape may not be made. One whose shape is not known may.
    fn check(&self, inputs: &[&InferenceFact], output: &InferenceFact) -> TractResult<()> {
        let Some(shape) = known_shape(output) else { return Ok(()) };
        if self.op.name() == "Resize"
            && let Some(input) = inputs.first().and_then(|input| known_shape(input))
        {
            check_resize(&input, &shape, self.limit)?;
        }
        let datum_type = output.datum_type.concretize().unwrap_or(DatumType::U8);
        check(&self.op.name(), &shape, datum_type, self.limit)
    }
}

fn known_shape(fact: &InferenceFact) -> Option<Vec<i64>> {
    if fact.shape.is_open() {
        return None;
    }
    fact.shape.dims().map(|dim| dim.concretize()?.to_i64().ok()).collect()
}

impl PartialEq for Bounded {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Bounded {}

impl Op for Bounded {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    not_a_typed_op!();
}

impl EvalOp for Bounded {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.op.eval_out_of_plan(inputs)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.op.state(context)
    }
}

impl InferenceOp for Bounded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.granted.check(&inputs)?;
        // It is about to be evaluated.
        if inputs.iter().all(|input| input.value.is_concrete()) {
            let said = self.op.infer_facts(inputs.clone(), outputs.clone(), observed.clone())?;
            said.1.iter().try_for_each(|output| self.check(&inputs, output))?;
        }
        self.op.infer(inputs, outputs, observed)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.op.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn incorporate(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Option<InferenceModelPatch>> {
        self.op.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let is_known = |input: &OutletId| Ok(target.outlet_fact(mapping[input])?.konst.is_some());
        if node.inputs.iter().map(is_known).collect::<TractResult<Vec<bool>>>()?.into_iter().all(|known| known) {
            let (inputs, outputs) = source.node_facts(node.id)?;
            outputs.into_iter().try_for_each(|output| self.check(&inputs, output))?;
        }
        match self.granted.guard(node, target, mapping)? {
            Some(guarded) => self.op.to_typed(source, node, target, &guarded),
            None => self.op.to_typed(source, node, target, mapping),
        }
    }

    // What looks for an operator by its type is to find the one within.
    fn as_op(&self) -> &dyn Op {
        self.op.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.op.as_op_mut()
    }
}
