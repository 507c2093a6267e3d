//! Errors that a request's own values or shapes are to blame for, told apart from the engine's.

use std::fmt;

use tract_onnx::prelude::TractError;

/// What is wrong with them.
#[derive(Debug)]
struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

/// An error of this text, which is safe to show to a client.
pub fn unfit(text: impl Into<String>) -> TractError {
    TractError::new(Unfit(text.into()))
}

/// Whether such an error is the cause of this one.
pub fn is_unfit(error: &TractError) -> bool {
    error.chain().any(<dyn std::error::Error>::is::<Unfit>)
}
