//! The `ai.onnx.ml` domain: what scikit-learn, LightGBM and XGBoost exports are made of.
//!
//! Left out are `DictVectorizer` and `CastMap`: their inputs are maps, which no client can send.

mod array_feature_extractor;
mod binarizer;
mod dense;
mod distances;
mod feature_vectorizer;
mod imputer;
mod label_encoder;
mod labels;
mod linear;
mod normalizer;
mod one_hot_encoder;
mod post_transform;
mod scaler;
mod svm;
mod trees;
mod zip_map;

use tract_onnx::model::OnnxOpRegister;

pub use self::zip_map::zip_map_classes;
use super::{Built, attributes, inputs, kernel, unfit, written};

/// Most classes, targets or columns that an operator may give a row: every row of a request takes so many numbers.
const MAX_OUTPUTS: usize = 1 << 16;

/// Puts the domain's operators into tract's registry, in place of its own where it has them.
pub fn register(register: &mut OnnxOpRegister) {
    register.insert("ArrayFeatureExtractor", array_feature_extractor::build);
    register.insert("Binarizer", binarizer::build);
    register.insert("CategoryMapper", label_encoder::build_category_mapper);
    register.insert("FeatureVectorizer", feature_vectorizer::build);
    register.insert("Imputer", imputer::build);
    register.insert("LabelEncoder", label_encoder::build);
    register.insert("LinearClassifier", linear::build_classifier);
    register.insert("LinearRegressor", linear::build_regressor);
    register.insert("Normalizer", normalizer::build);
    register.insert("OneHotEncoder", one_hot_encoder::build);
    register.insert("SVMClassifier", svm::classifier::build);
    register.insert("SVMRegressor", svm::regressor::build);
    register.insert("Scaler", scaler::build);
    register.insert("TreeEnsemble", trees::regressor::build_version_5);
    register.insert("TreeEnsembleClassifier", trees::classifier::build);
    register.insert("TreeEnsembleRegressor", trees::regressor::build);
    register.insert("HeadgateDistances", distances::build);
    register.insert("ZipMap", zip_map::build);
}
