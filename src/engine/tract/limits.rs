//! How much a file may ask for while it is loaded.

use std::fs;
use std::path::Path;

use tract_onnx::pb::ModelProto;

use crate::engine::external;
use crate::engine::ops::bounded::MIN_LIMIT;
use crate::engine::warm_up::{MAX_DECLARED_BYTES, declared_bytes};
use crate::signature::TensorSpec;

/// How many times its own size a file's weights may become: bits become floats, weights are laid out anew.
const TIMES_FILE: u64 = 10;

/// Most bytes of a tensor that a model makes of constants, or on made-up inputs: the larger of [`MIN_LIMIT`] and what its
/// file, with the weights beside it, and its declared inputs and outputs account for.
pub fn most_bytes(path: &Path, proto: &ModelProto, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> usize {
    let file = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let beside = external::bytes(proto, path.parent().unwrap_or(Path::new("")));
    let declared: u64 = inputs.iter().chain(outputs).map(declared_bytes).fold(0, u64::saturating_add);
    let accounted =
        file.saturating_add(beside).saturating_mul(TIMES_FILE).saturating_add(declared.min(MAX_DECLARED_BYTES));
    usize::try_from(accounted).unwrap_or(usize::MAX).max(MIN_LIMIT)
}
