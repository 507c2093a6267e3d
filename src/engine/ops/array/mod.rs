//! Operators that pick, move and arrange elements.

mod center_crop_pad;
mod compress;
mod flatten;
mod gather_nd;
mod nd_places;
mod reverse_sequence;
mod scatter_nd;
mod space_to_depth;
mod tensor_scatter;
mod tile;
mod unique;

use tract_onnx::model::OnnxOpRegister;

#[cfg(test)]
use super::testing;
use super::{Built, at_run, bounded, inputs, kernel, stand_in, unfit};

pub fn register(register: &mut OnnxOpRegister) {
    register.insert("CenterCropPad", center_crop_pad::build);
    register.insert("Compress", compress::build);
    register.insert("Flatten", flatten::build);
    register.insert("GatherND", gather_nd::build);
    register.insert("ReverseSequence", reverse_sequence::build);
    register.insert("ScatterND", scatter_nd::build);
    register.insert("SpaceToDepth", space_to_depth::build);
    register.insert("TensorScatter", tensor_scatter::build);
    register.insert("Tile", tile::build);
    register.insert("Unique", unique::build);
}
