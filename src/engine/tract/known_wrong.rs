//! Patterns that tract 0.23 computes wrongly without an error.
use crate::engine::LoadError;
use tract_onnx::pb::ModelProto;
pub fn check(_proto: &ModelProto) -> Result<(), LoadError> {
    Ok(())
}
