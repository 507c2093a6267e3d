//! Operators that tract lacks, runs slowly or gets wrong: those of `ai.onnx.ml`, which scikit-learn, LightGBM and XGBoost
//! exports are made of, texts, control flow, some others of ONNX itself, and those that our passes over a graph write (see
//! `clean_up`).
//!
//! Each follows the operator's definition in ONNX; where that leaves a question open, it does what ONNX Runtime does,
//! and says so. Attributes come from an untrusted file: whatever is inconsistent is an error that names the attribute.

mod affine_grid;
mod at_run;
mod attention;
mod attributes;
mod batch_normalization;
mod bit_cast;
mod bit_shift;
pub mod bounded;
mod celu;
mod center_crop_pad;
mod col2im;
mod compress;
pub mod control;
pub mod convolution;
mod cum_prod;
mod deform_conv;
mod det;
mod dot;
mod equal;
mod extremes;
mod flatten;
mod float8;
mod for_passes;
mod inputs;
mod kernel;
mod losses;
mod max_unpool;
mod ml;
mod non_max_suppression;
mod recurrence;
mod resize;
mod reverse_sequence;
mod space_to_depth;
mod stand_in;
mod tensor_scatter;
#[cfg(test)]
pub mod testing;
mod text;
mod top_k;
mod unique;
mod wrap_pad;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::{InferenceOp, TractResult, TypedOp};

pub use self::float8::Format as Format8;
pub use self::kernel::{Kernel, hold_once};
pub use self::ml::zip_map_classes;

/// What tract wants from a builder: the operator, and the names it takes from the graph around it.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Puts our operators into tract's registry, in place of its own where it has them, and all of them within bounds of memory.
pub fn register(register: &mut OnnxOpRegister) {
    ml::register(register);
    attention::register(register);
    recurrence::register(register);
    resize::register(register);
    register.insert("AffineGrid", affine_grid::build);
    register.insert("ArgMax", extremes::build_places);
    register.insert("ArgMin", extremes::build_places);
    register.insert("BatchNormalization", batch_normalization::build);
    register.insert("BitCast", bit_cast::build);
    register.insert("BitShift", bit_shift::build);
    register.insert("Celu", celu::build);
    register.insert("CenterCropPad", center_crop_pad::build);
    register.insert("Col2Im", col2im::build);
    register.insert("Compress", compress::build);
    register.insert("CumProd", cum_prod::build);
    register.insert("DeformConv", deform_conv::build);
    register.insert("Det", det::build);
    register.insert("Equal", equal::build);
    register.insert("Expand", at_run::build_expand);
    register.insert("Flatten", flatten::build);
    register.insert("HeadgateBarrier", for_passes::barrier);
    register.insert("HeadgateJoin", for_passes::join);
    register.insert("HeadgateReverse", for_passes::reverse);
    register.insert("HeadgateRound16", for_passes::round_to);
    register.insert("HeadgateRound8", float8::round);
    register.insert("HeadgateScale", float8::scale);
    register.insert("HeadgateWidenBf16", for_passes::widen_bf16);
    register.insert("HeadgateZeroState", for_passes::zero_state);
    register.insert("If", control::branch::build);
    register.insert("Loop", control::repeat::build);
    register.insert("MatMul", dot::build);
    register.insert("MaxUnpool", max_unpool::build);
    register.insert("NegativeLogLikelihoodLoss", losses::of_log_probabilities);
    register.insert("NonMaxSuppression", non_max_suppression::build);
    register.insert("Pad", wrap_pad::build);
    register.insert("ReduceMax", extremes::build_values);
    register.insert("ReduceMin", extremes::build_values);
    register.insert("ReduceProd", extremes::build_values);
    register.insert("RegexFullMatch", text::full_match::build);
    register.insert("Reshape", at_run::build_reshape);
    register.insert("ReverseSequence", reverse_sequence::build);
    register.insert("Slice", at_run::build_slice);
    register.insert("SoftmaxCrossEntropyLoss", losses::of_scores);
    register.insert("SpaceToDepth", space_to_depth::build);
    register.insert("StringConcat", text::concat::build);
    register.insert("StringNormalizer", text::normalizer::build);
    register.insert("StringSplit", text::split::build);
    register.insert("TensorScatter", tensor_scatter::build);
    register.insert("TfIdfVectorizer", text::tfidf::build);
    register.insert("Tokenizer", text::tokenizer::build);
    register.insert("TopK", top_k::build);
    register.insert("Unique", unique::build);
    bounded::bound_all(register);
}

/// Where one of our operators keeps data of its own and how many bytes that is; `None` for any other operator. Plans of
/// one file share the data, and so the address.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    kernel::held_bytes(op)
}
