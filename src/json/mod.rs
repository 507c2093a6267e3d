//! JSON as tensors need it: typed elements straight from and to bytes, NaN and Infinity included.
//!
//! A general parser would build a tree with a node per number, and refuse or lose the non-finite numbers that clients
//! send and expect. Small answers without tensors are made with serde_json instead.

mod decimal;
mod element;
mod numbers;
pub mod reader;
mod strings;
pub mod tensor;
pub mod writer;

use crate::error::Error;

pub use reader::Reader;

impl From<reader::JsonError> for Error {
    fn from(error: reader::JsonError) -> Self {
        Self::Invalid(format!("failed to parse the request JSON buffer: {error}"))
    }
}

/// Fills a slot that a key may fill once.
///
/// # Errors
/// `Invalid` when the key came before: which of the two was meant nobody can tell.
pub fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("'{key}' is given twice in one JSON object"))),
    }
}
