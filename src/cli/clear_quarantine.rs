//! `headgate clear-quarantine`.

use std::io::Write;

use bytes::Bytes;
use hyper::Method;

use super::admin_api::{AdminArgs, model_path};
use super::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the model
    model: String,
    /// The quarantined version
    version: u64,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let path = format!("{}/versions/{}/quarantine", model_path(&self.model), self.version);
        self.admin.print_model(out, Method::DELETE, &path, Bytes::new())
    }
}
