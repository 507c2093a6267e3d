//! Operators of our own.
use tract_onnx::model::OnnxOpRegister;
pub fn register(_register: &mut OnnxOpRegister) {}
