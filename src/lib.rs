//! Headgate: a model serving gateway.

// data plane, in the order a request meets it
pub mod inference;
pub mod pipeline;
pub mod routing;
pub mod servable;
pub mod batching;
pub mod engine;
pub mod classification;
pub mod record;
pub mod data_plane;

// control plane
pub mod registry;
pub mod admin;

// what the binary runs
pub mod cli;

// between the planes
pub mod config;
pub mod control;
pub mod health;

// foundations
pub mod budget;
pub mod error;
pub mod npz;
pub mod proto;
pub mod served_config;
pub mod signature;
pub mod store;
pub mod telemetry;
pub mod tensor;
#[doc(hidden)]
pub mod testing;
pub mod yaml;
