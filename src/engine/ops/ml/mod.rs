//! The `ai.onnx.ml` domain: what scikit-learn, LightGBM and XGBoost exports are made of.

mod label_encoder;
mod scaler;
mod trees;
mod zip_map;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::TypedOp;

use super::{Built, attributes};

/// Puts the domain's operators into tract's registry, in place of its own where it has them.
pub fn register(register: &mut OnnxOpRegister) {
    register.insert("LabelEncoder", label_encoder::build);
    register.insert("Scaler", scaler::build);
    register.insert("TreeEnsembleClassifier", trees::classifier::build);
    register.insert("TreeEnsembleRegressor", trees::regressor::build);
    register.insert("ZipMap", zip_map::build);
}

/// Where an operator of the domain keeps data of its own and how many bytes that is; `None` for any other operator.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    trees::held_bytes(op)
}
