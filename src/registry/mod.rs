//! The control plane's view of the model repository: what lies in the directories, what of it is whole, what the
//! files beside a model say, and which versions that makes wanted.
//!
//! Reading and deciding are kept apart. [`directory`], [`manifest`], [`digest`] and [`model_files`] read files;
//! [`listing`], [`settle`], [`version_policy`], [`residency_policy`], [`labels`], [`model_config`], [`model_yaml`], [`config_pbtxt`] and [`declared`]
//! decide over what was read and do no I/O. [`measurer`] finds out what batches take, and [`engine_cache`] remembers it.

pub mod config_pbtxt;
pub mod declared;
pub mod digest;
pub mod directory;
pub mod engine_cache;
pub mod example_json;
pub mod examples;
pub mod labels;
pub mod lineage;
pub mod listing;
pub mod loader;
pub mod manager;
pub mod manifest;
pub mod measurer;
pub mod model_config;
pub mod model_files;
pub mod model_yaml;
pub mod probe;
pub mod probe_report;
pub mod residency_policy;
pub mod settle;
#[cfg(test)]
mod testing;
pub mod version_policy;
