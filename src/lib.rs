//! Headgate: a model serving gateway.

pub mod engine;
pub mod error;
pub mod inference;
pub mod proto;
pub mod registry;
pub mod served_config;
pub mod signature;
pub mod store;
pub mod tensor;
pub mod yaml;
