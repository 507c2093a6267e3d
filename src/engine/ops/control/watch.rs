//! What ends a run before its end.

use std::cell::Cell;

use tract_onnx::tract_core::ops::OpState;
use tract_onnx::tract_core::plan;
use tract_onnx::tract_hir::internal::*;

use super::super::bounded;
use super::branches::Branches;
use super::scans::last_states;
use super::turns::Repeat;

/// Most turns of all loops of one run together. ONNX bounds no loop, and a loop of tiny steps makes some million turns a
/// second; one of its own data may well have no end.
pub const MAX_TURNS: u64 = 1 << 20;

/// Watches one run.
pub struct Watch<'a> {
    stop: &'a dyn Fn() -> bool,
    turns_left: Cell<u64>,
}

impl<'a> Watch<'a> {
    /// `stop` is asked before each operator and each turn of a loop.
    pub fn new(stop: &'a dyn Fn() -> bool) -> Self {
        Self { stop, turns_left: Cell::new(MAX_TURNS) }
    }

    /// # Errors
    /// Where the run is to stop.
    fn check(&self) -> TractResult<()> {
        ensure!(!(self.stop)(), "stopped");
        Ok(())
    }

    /// To be called at each turn of a loop.
    ///
    /// # Errors
    /// Where the run is to stop, or its loops have turned too often.
    pub fn turn(&self) -> TractResult<()> {
        self.check()?;
        let left = self.turns_left.get();
        ensure!(left > 0, "the loops of one run turned more than {MAX_TURNS} times");
        self.turns_left.set(left - 1);
        Ok(())
    }
}

/// Evaluates a node as tract does, or fails where the run is to stop; graphs inside the node are watched too.
pub fn eval(
    context: &EvalContext,
    state: Option<&mut (dyn OpState + 'static)>,
    node: &TypedNode,
    inputs: TVec<TValue>,
    watch: &Watch,
) -> TractResult<TVec<TValue>> {
    watch.check()?;
    let watched = if let Some(branches) = node.op_as::<Branches>() {
        branches.run(context.symbols, &inputs, watch)
    } else if let Some(repeat) = node.op_as::<Repeat>() {
        repeat.run(context.symbols, &inputs, watch)
    } else {
        bounded::check_run(node, &inputs)?;
        let last_states = last_states(node, &inputs);
        let mut outputs = plan::eval(context, state, node, inputs)?;
        last_states.into_iter().for_each(|(slot, state)| outputs[slot] = state);
        return Ok(outputs);
    };
    watched.with_context(|| format!("Evaluating {node}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turns_of_a_run_are_bounded() {
        let watch = Watch::new(&|| false);
        assert!((0..MAX_TURNS).all(|_| watch.turn().is_ok()));
        assert!(watch.turn().unwrap_err().to_string().contains("turned more than"));
    }
}
