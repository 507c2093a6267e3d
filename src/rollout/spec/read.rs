//! Reading.
use super::RolloutSpec;
use crate::yaml::SettingsError;
use serde_json::Value;

/// Reads a spec from a document, or from a string that holds one as YAML or JSON.
///
/// # Errors
/// The first fault, naming its key, what was expected and what came.
pub fn read(document: &Value) -> Result<RolloutSpec, SettingsError> {
    todo!("{document}")
}

/// Reads a spec from YAML or JSON text.
///
/// # Errors
/// As [`read`].
pub fn read_text(text: &str) -> Result<RolloutSpec, SettingsError> {
    todo!("{text}")
}
