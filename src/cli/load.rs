//! `headgate load` and `headgate unload`.

use std::io::Write;

use bytes::Bytes;
use hyper::Method;

use super::admin_api::{AdminArgs, model_path};
use super::failure::Failure;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the model
    model: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn load(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.post("load", out)
    }

    pub fn unload(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.post("unload", out)
    }

    fn post(&self, action: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let path = format!("{}/{action}", model_path(&self.model));
        self.admin.print_model(out, Method::POST, &path, Bytes::new())
    }
}
