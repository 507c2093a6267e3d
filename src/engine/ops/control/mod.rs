//! Operators that hold graphs of their own: If and Loop.
//!
//! tract has no Loop, and its If wants both branches to give the same shapes, analyses a branch that can't be taken, and
//! plans the taken one anew at each run. Here a graph inside a node is typed with what is known of its inputs, constants
//! of the outer graph included, and planned once, when the outer plan is made.
//!
//! A run of such a node is watched: [`eval`] is to be used in place of tract's own evaluation of a node, so that a run
//! can be stopped within a loop and no loop runs for ever.

mod body;
pub mod branch;
mod branches;
mod nested;
pub mod repeat;
mod scans;
mod symbols;
#[cfg(test)]
mod testing;
mod turns;
mod watch;

pub use self::body::plain_outputs;
pub use self::scans::begin_anew;
pub use self::watch::{Watch, eval};

use tract_onnx::tract_hir::internal::{InferenceModel, InferenceOp, TypedModel, TypedOp};

/// The graphs that an operator of this folder holds, planned or not.
pub fn graphs(op: &dyn TypedOp) -> Vec<&TypedModel> {
    if let Some(branches) = op.downcast_ref::<branches::Branches>() {
        return branches.graphs();
    }
    op.downcast_ref::<turns::Repeat>().map(|repeat| vec![repeat.graph()]).unwrap_or_default()
}

/// The same for an operator as it was parsed.
pub fn parsed_graphs(op: &dyn InferenceOp) -> Vec<&InferenceModel> {
    if let Some(branches) = op.as_op().downcast_ref::<branch::If>() {
        return branches.graphs();
    }
    op.as_op().downcast_ref::<repeat::Loop>().map(|repeat| vec![repeat.graph()]).unwrap_or_default()
}
