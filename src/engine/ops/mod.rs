//! Operators that tract lacks, runs slowly or gets wrong: those of `ai.onnx.ml`, which scikit-learn, LightGBM and XGBoost
//! exports are made of, texts, control flow, some others of ONNX itself, and those that our passes over a graph write (see
//! `clean_up`).
//!
//! Each follows the operator's definition in ONNX; where that leaves a question open, it does what ONNX Runtime does,
//! and says so. Attributes come from an untrusted file: whatever is inconsistent is an error that names the attribute.

mod array;
mod at_run;
mod attention;
mod attributes;
pub mod bounded;
pub mod control;
pub mod convolution;
mod float8;
mod for_passes;
mod image;
mod inputs;
mod kernel;
mod math;
mod ml;
mod nn;
mod quantised;
mod recurrence;
mod stand_in;
#[cfg(test)]
pub mod testing;
mod text;
mod unfit;
mod wide;
mod written;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::{InferenceOp, TractResult, TypedOp};

pub use self::float8::Format as Format8;
pub use self::kernel::{Kernel, hold_once};
pub use self::math::mend;
pub use self::ml::zip_map_classes;
pub use self::nn::narrow_softmax;
pub use self::unfit::is_unfit;

/// What tract wants from a builder: the operator, and the names it takes from the graph around it.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Puts our operators into tract's registry, in place of its own where it has them, and all of them within bounds of memory.
pub fn register(register: &mut OnnxOpRegister) {
    ml::register(register);
    array::register(register);
    image::register(register);
    math::register(register);
    nn::register(register);
    attention::register(register);
    quantised::register(register);
    recurrence::register(register);
    register.insert("Cast", text::cast::build);
    register.insert("Expand", at_run::build_expand);
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
    register.insert("RegexFullMatch", text::full_match::build);
    register.insert("OneHot", at_run::build_one_hot);
    register.insert("Pad", at_run::build_pad);
    register.insert("Reshape", at_run::build_reshape);
    register.insert("Slice", at_run::build_slice);
    register.insert("StringConcat", text::concat::build);
    register.insert("StringNormalizer", text::normalizer::build);
    register.insert("StringSplit", text::split::build);
    register.insert("TfIdfVectorizer", text::tfidf::build);
    register.insert("Tokenizer", text::tokenizer::build);
    bounded::bound_all(register);
}

/// Where one of our operators keeps data of its own and how many bytes that is; `None` for any other operator. Plans of
/// one file share the data, and so the address.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    kernel::held_bytes(op)
}
