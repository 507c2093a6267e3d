//! What a version's rows look like: its columns, made once when it is loaded.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::quality::Plan;
use super::ring::RowCounts;
use super::settings::LogSettings;
use crate::signature::Signature;

/// One loaded version as the log sees it. Outlives the version's service for as long as entries of it wait.
#[derive(Debug)]
pub struct VersionLog {
    pub model: String,
    pub version: u64,
    /// sha256 of the version's files, hexadecimal.
    pub digest: String,
    pub settings: LogSettings,
    pub schema: SchemaRef,
    /// `None` where the settings say nothing of quality.
    pub quality: Option<Arc<Plan>>,
    pub counts: Arc<RowCounts>,
}

/// Why the settings of a log don't fit a model. The text is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("log.{key} names column '{column}', which the model's rows don't have{}: they have {}", nearest_text(nearest), known.join(", "))]
    UnknownColumn { key: &'static str, column: String, nearest: Option<String>, known: Vec<String> },
    #[error("features names input '{input}', which the model does not have")]
    UnknownInput { input: String },
    #[error("features.{input} has {got} names, and a row of that input has {expected} elements")]
    FeatureCount { input: String, expected: String, got: usize },
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean '{name}'?)")).unwrap_or_default()
}

impl VersionLog {
    /// Works out the columns.
    ///
    /// # Errors
    /// `RuleError` for settings that name what the model doesn't have.
    pub fn new(
        (model, version, digest): (&str, u64, &str),
        signature: &Signature,
        settings: LogSettings,
        counts: Arc<RowCounts>,
    ) -> Result<Self, RuleError> {
        let _ = signature;
        Ok(Self {
            model: model.to_owned(),
            version,
            digest: digest.to_owned(),
            settings,
            schema: Arc::new(Schema::empty()),
            quality: None,
            counts,
        })
    }

    /// The same, with its predictions held against feedback.
    pub fn with_quality(self, quality: Option<Plan>) -> Self {
        Self { quality: quality.map(Arc::new), ..self }
    }
}
