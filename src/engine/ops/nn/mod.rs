//! Layers of networks, and their losses.

mod batch_normalization;
mod celu;
mod col2im;
mod deform_conv;
mod global_lp_pool;
mod losses;
mod max_unpool;
mod softmax;

use tract_onnx::model::OnnxOpRegister;

pub use self::softmax::narrow as narrow_softmax;
#[cfg(test)]
use super::testing;
use super::{Built, at_run, bounded, inputs, kernel, stand_in, unfit, wide, written};

pub fn register(register: &mut OnnxOpRegister) {
    register.insert("BatchNormalization", batch_normalization::build);
    register.insert("Celu", celu::build);
    register.insert("Col2Im", col2im::build);
    register.insert("DeformConv", deform_conv::build);
    register.insert("GlobalLpPool", global_lp_pool::build);
    register.insert("NegativeLogLikelihoodLoss", losses::of_log_probabilities);
    register.insert("SoftmaxCrossEntropyLoss", losses::of_scores);
    register.insert("MaxUnpool", max_unpool::build);
}
