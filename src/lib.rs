//! Headgate: a model serving gateway.

pub mod engine;
pub mod error;
pub mod inference;
pub mod npz;
pub mod signature;
pub mod tensor;
