//! Operators that pick, move and arrange elements.

mod center_crop_pad;
mod compress;
mod flatten;
mod reverse_sequence;
mod space_to_depth;
mod tensor_scatter;
mod unique;

use tract_onnx::model::OnnxOpRegister;

#[cfg(test)]
use super::testing;
use super::{Built, inputs, kernel};

pub fn register(register: &mut OnnxOpRegister) {
    register.insert("CenterCropPad", center_crop_pad::build);
    register.insert("Compress", compress::build);
    register.insert("Flatten", flatten::build);
    register.insert("ReverseSequence", reverse_sequence::build);
    register.insert("SpaceToDepth", space_to_depth::build);
    register.insert("TensorScatter", tensor_scatter::build);
    register.insert("Unique", unique::build);
}
