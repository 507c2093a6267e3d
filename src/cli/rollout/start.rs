//! `headgate rollout start`.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use hyper::Method;
use serde_json::Value;

use super::api::ROLLOUTS;
use super::document::yaml;
use super::render;
use crate::cli::admin_api::AdminArgs;
use crate::cli::failure::Failure;
use crate::rollout::view::{RolloutView, StartRequest};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model or route whose traffic is to be split
    #[arg(value_name = "MODEL")]
    route: String,
    /// Version to try; the spec may name it instead
    #[arg(long, value_name = "VERSION", required_unless_present = "spec")]
    to: Option<u64>,
    /// File with the spec, YAML or JSON; without it the model's own from model.yaml, else the defaults
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let request = StartRequest {
            route: self.route.clone(),
            to: self.to,
            spec: self.spec.as_deref().map(read_spec).transpose()?,
            reason: self.reason.clone(),
        };
        let body = serde_json::to_vec(&request).map_err(std::io::Error::from)?;
        let view: RolloutView = self.admin.ask(Method::POST, ROLLOUTS, body.into())?;
        self.admin.print(out, &view, || text(&view))?;
        if view.state == "rejected" { Err(Failure::Refused(rejection(&view))) } else { Ok(()) }
    }
}

/// The line of the rollout, then its spec, which `--spec` would take again.
fn text(view: &RolloutView) -> String {
    let line = render::line(view);
    format!("# {line}\n{}", yaml(&view.spec))
}

fn rejection(view: &RolloutView) -> String {
    let reason = view.last_transition.as_ref().map(|last| last.cause.as_str()).filter(|cause| !cause.is_empty());
    format!("version {} of {} was rejected: {}", view.candidate, view.model, reason.unwrap_or("no reason given"))
}

/// # Errors
/// `NotFound` where there is no such file, `Usage` where it is no YAML.
fn read_spec(path: &Path) -> Result<Value, Failure> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Failure::NotFound(format!("there is no file {shown}")),
        _ => Failure::Usage(format!("{shown} can't be read: {cause}")),
    })?;
    crate::yaml::parse(&bytes).map_err(|fault| Failure::Usage(format!("{shown}: {fault}")))
}
