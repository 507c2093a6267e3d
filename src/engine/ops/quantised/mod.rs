//! Quantised values: QuantizeLinear and DequantizeLinear (ONNX, version 25) with a scale and zero point for the whole tensor, for
//! each place of an axis, or for blocks of them. tract's go value by value, multiply by the scale's inverse where ONNX divides, and want both as constants.

mod blocks;
mod dequantise;
mod quantise;
mod scales;

use tract_onnx::model::OnnxOpRegister;

pub use self::dequantise::Dequantise;
pub use self::quantise::Quantise;
#[cfg(test)]
use super::testing;
use super::written::written;
use super::{Built, inputs, kernel, unfit, wide};

pub fn register(register: &mut OnnxOpRegister) {
    register.insert("DequantizeLinear", dequantise::build);
    register.insert("QuantizeLinear", quantise::build);
}
