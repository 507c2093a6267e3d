//! Headgate: a model serving gateway.

// data plane, in the order a request meets it
pub mod http;
pub mod inference;
pub mod pipeline;
pub mod routing;
pub mod servable;
pub mod batching;
pub mod engine;
pub mod classification;
pub mod record;
pub mod data_plane;

// between the planes
pub mod control;
pub mod health;

// control plane
pub mod registry;
pub mod served_config;
pub mod store;

// foundations
pub mod budget;
pub mod error;
pub mod proto;
pub mod signature;
pub mod telemetry;
pub mod tensor;
#[doc(hidden)]
pub mod testing;
pub mod yaml;
