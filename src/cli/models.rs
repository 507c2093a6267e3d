//! `headgate models`: what a server has, and in which state.

use std::io::Write;

use bytes::Bytes;
use hyper::Method;

use super::admin_api::{AdminArgs, model_path};
use super::failure::Failure;
use super::table::Table;
use crate::admin::view::{ModelView, VersionView};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show this model only
    model: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.model {
            None => self.admin.print_list(out),
            Some(model) => self.admin.print_model(out, Method::GET, &model_path(model), Bytes::new()),
        }
    }
}

/// Prints one row a version.
pub fn print_models(out: &mut dyn Write, models: &[ModelView]) -> Result<(), Failure> {
    let mut table = Table::new(["MODEL", "VERSION", "STATE", "MEMORY", "DEFAULT", "LABELS", "REASON"]);
    for model in models {
        if model.versions.is_empty() {
            let dash = || "-".to_owned();
            let [none, reason] = [String::new(), model.fault.clone()];
            table.row([model.name.clone(), dash(), dash(), none.clone(), none.clone(), none, reason]);
        }
        for version in &model.versions {
            table.row(row(model, version));
        }
    }
    Ok(write!(out, "{table}")?)
}

fn row(model: &ModelView, version: &VersionView) -> [String; 7] {
    let labels = model.labels.iter().filter(|(_, points_at)| **points_at == version.version);
    let reasons = [version.reason.as_str(), model.fault.as_str()];
    [
        model.name.clone(),
        version.version.to_string(),
        version.state.clone(),
        version.loaded.as_ref().map_or_else(String::new, |loaded| mebibytes(loaded.memory_bytes)),
        if model.default_version == Some(version.version) { "yes".to_owned() } else { String::new() },
        labels.map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(","),
        reasons.into_iter().filter(|reason| !reason.is_empty()).collect::<Vec<_>>().join(": "),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}
