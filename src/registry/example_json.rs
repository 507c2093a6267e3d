//! Recorded examples as JSON: a request's `inputs` and the `outputs` that it must give.

use crate::npz::Example;

/// Reads an example.
///
/// # Errors
/// What was expected and what came.
pub fn parse(_json: &[u8]) -> Result<Example, String> {
    Err("not yet".to_owned())
}
