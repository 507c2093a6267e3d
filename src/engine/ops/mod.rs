//! Operators that tract lacks, runs slowly or gets wrong: those of the `ai.onnx.ml` domain that scikit-learn, LightGBM and
//! XGBoost exports are made of, operators on texts, and control flow.
//!
//! Each follows the operator's definition in ONNX; where that leaves a question open, it does what ONNX Runtime does,
//! and says so. Attributes come from an untrusted file: whatever is inconsistent is an error that names the attribute.

mod at_run;
mod attributes;
pub mod control;
mod equal;
mod flatten;
mod label_encoder;
mod non_max_suppression;
mod plain;
mod reverse_sequence;
mod scaler;
#[cfg(test)]
mod testing;
mod text;
mod trees;
mod unique;
mod zip_map;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::{InferenceOp, TractResult, TypedOp};

/// What tract wants from a builder: the operator, and the names it takes from the graph around it.
type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Puts our operators into tract's registry, in place of its own where it has them.
pub fn register(register: &mut OnnxOpRegister) {
    register.insert("Equal", equal::build);
    register.insert("Expand", at_run::build_expand);
    register.insert("Flatten", flatten::build);
    register.insert("If", control::branch::build);
    register.insert("LabelEncoder", label_encoder::build);
    register.insert("Loop", control::repeat::build);
    register.insert("NonMaxSuppression", non_max_suppression::build);
    register.insert("RegexFullMatch", text::full_match::build);
    register.insert("Reshape", at_run::build_reshape);
    register.insert("ReverseSequence", reverse_sequence::build);
    register.insert("Scaler", scaler::build);
    register.insert("Slice", at_run::build_slice);
    register.insert("StringConcat", text::concat::build);
    register.insert("StringNormalizer", text::normalizer::build);
    register.insert("StringSplit", text::split::build);
    register.insert("TfIdfVectorizer", text::tfidf::build);
    register.insert("Tokenizer", text::tokenizer::build);
    register.insert("TreeEnsembleClassifier", trees::classifier::build);
    register.insert("TreeEnsembleRegressor", trees::regressor::build);
    register.insert("Unique", unique::build);
    register.insert("ZipMap", zip_map::build);
}

/// Where one of our operators keeps data of its own and how many bytes that is; `None` for any other operator. Plans of
/// one file share the data, and so the address.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    trees::held_bytes(op).or_else(|| plain::held_bytes(op))
}
