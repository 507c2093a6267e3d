//! Operators on images and on what is found in them.

mod affine_grid;
mod non_max_suppression;
mod resize;
mod roi_align;
mod same_crop;
mod size_crop;

use tract_onnx::model::OnnxOpRegister;

#[cfg(test)]
use super::testing;
use super::{Built, at_run, bounded, inputs, kernel, unfit};

pub fn register(register: &mut OnnxOpRegister) {
    resize::register(register);
    register.insert("AffineGrid", affine_grid::build);
    register.insert("HeadgateSameCrop", same_crop::build);
    register.insert("HeadgateSameIndices", same_crop::build_indices);
    register.insert("HeadgateSizeCrop", size_crop::build);
    register.insert("RoiAlign", roi_align::build);
    register.insert("NonMaxSuppression", non_max_suppression::build);
}
