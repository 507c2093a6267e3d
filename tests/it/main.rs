//! What users rely on, tested as users meet it: a server process, real sockets, real clients, real files.

mod batching;
mod cli;
mod cold_models;
mod docs;
mod encodings;
mod engines;
mod inspect;
mod interop;
mod isolation;
mod lifecycle;
mod limits;
mod node_tests;
mod padding;
mod load;
mod partial_upload;
mod prediction_log;
mod repository_files;
mod restart;
mod rollouts;
mod shutdown;
mod startup;
mod swap;
mod tidy;
mod validation;
mod zoo;

mod support;
