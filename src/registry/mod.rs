//! The control plane's view of the model repository.

pub mod manager;
