//! Headgate: a model serving gateway.

// the whole, and the way in
pub mod app;
pub mod cli;

// data plane, in the order a request meets it
pub mod server;
pub mod grpc;
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

// control plane
pub mod registry;
pub mod store;
pub mod admin;

// what the binary runs

// between the planes
pub mod config;
pub mod control;
pub mod health;

// foundations
pub mod budget;
pub mod error;
pub mod json;
pub mod npz;
pub mod proto;
pub mod served_config;
pub mod signature;
pub mod telemetry;
pub mod tensor;
pub mod yaml;
#[doc(hidden)]
pub mod testing;
