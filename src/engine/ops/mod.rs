//! Operators that tract lacks, runs slowly or gets wrong.
//!
//! Each follows the operator's definition in ONNX; where that leaves a question open, it does what ONNX Runtime does,
//! and says so. Attributes come from an untrusted file: whatever is inconsistent is an error that names the attribute.

mod attributes;
mod kernel;
mod ml;
#[cfg(test)]
mod testing;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::{InferenceOp, TractResult, TypedOp};

pub use self::ml::{ClassLabels, class_labels};

/// What tract wants from a builder: the operator, and the names it takes from the graph around it.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Puts our operators into tract's registry, in place of its own where it has them.
pub fn register(register: &mut OnnxOpRegister) {
    ml::register(register);
}

/// Where one of our operators keeps data of its own and how many bytes that is; `None` for any other operator. Plans of
/// one file share the data, and so the address.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    kernel::held_bytes(op)
}
