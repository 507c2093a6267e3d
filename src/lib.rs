//! Headgate: a model serving gateway.
//!
//! # The life of a request
//!
//! [`server`] accepts the connection, within limits of count and time. [`http`] or [`grpc`] reads the call; only they know
//! a wire. Both hand it to [`pipeline::infer`], one function that reads as the request's way:
//!
//! 1. **route**: one load of the snapshot ([`routing::Serving`]) gives the version that answers, held until the end. Where
//!    a rollout splits the route, the request's key and the weights in force choose the arm ([`routing::Assignment`],
//!    [`routing::Dial`]);
//! 2. **decode**: the wire's bytes become an [`inference::InferRequest`], knowing that version's signature;
//! 3. **check**: names, datatypes and shapes fit ([`servable`], [`signature`]);
//! 4. **admit**: a place in the version's bounded queue, or a refusal now ([`batching`]);
//! 5. **run**: a worker thread runs the model ([`engine`]);
//! 6. **encode**: the answer becomes the wire's bytes;
//! 7. **copy**: during a shadow phase a share of the requests is handed to the candidate as well ([`routing::shadow`]), on
//!    spare capacity and for nobody to wait for;
//! 8. **record**: the outcome is counted once ([`record`]), also when the client has left; that of a split route is also
//!    handed to the rollout.
//!
//! What is served is decided elsewhere: [`registry`] looks at the model repository, loads versions and publishes
//! snapshots; [`rollout`] decides by evidence how much of a route's traffic a new version gets; [`store`] remembers what
//! must outlive the process; [`audit`] holds who changed what; [`outbound`] tells
//! others of it; [`admin`] lets an operator see and change it.
//! [`app`] puts all of it together.

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
pub mod prediction_log;
pub mod data_plane;

// control plane
pub mod registry;
pub mod rollout;
pub mod store;
pub mod audit;
pub mod outbound;
pub mod admin;

// between the planes
pub mod config;
pub mod control;
pub mod health;

// foundations
pub mod budget;
pub mod error;
pub mod hmac;
pub mod json;
pub mod npz;
pub mod proto;
pub mod rfc3339;
pub mod served_config;
pub mod signature;
pub mod telemetry;
pub mod tensor;
pub mod yaml;
#[doc(hidden)]
pub mod testing;
