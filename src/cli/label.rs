//! `headgate label`.

use std::io::Write;

use bytes::Bytes;
use hyper::Method;
use serde_json::json;

use super::admin_api::{AdminArgs, model_path};
use super::client::segment;
use super::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the model
    model: String,
    /// Name of the label, such as stable
    label: String,
    /// Version that the label is to name
    #[arg(required_unless_present = "remove", conflicts_with = "remove")]
    version: Option<u64>,
    /// Take the label away
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let path = format!("{}/labels/{}", model_path(&self.model), segment(&self.label));
        match self.version {
            Some(version) => {
                let body = json!({"version": version}).to_string();
                self.admin.print_model(out, Method::PUT, &path, body.into())
            }
            None => self.admin.print_model(out, Method::DELETE, &path, Bytes::new()),
        }
    }
}
