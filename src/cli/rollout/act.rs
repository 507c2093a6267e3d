//! `headgate rollout pause`, `resume`, `approve`, `promote` and `abort`.

use std::io::Write;

use hyper::Method;
use serde_json::json;

use super::api::{named_or_only, rollout_path};
use super::render;
use crate::cli::admin_api::AdminArgs;
use crate::cli::failure::Failure;
use crate::rollout::view::{Action, RolloutView};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the rollout, or the route that it splits; may be left out while one rollout is under way
    #[arg(value_name = "ROLLOUT_OR_ROUTE")]
    rollout: Option<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, action: Action, out: &mut dyn Write) -> Result<(), Failure> {
        let rollout = named_or_only(&self.admin, self.rollout.as_deref())?;
        let path = format!("{}/{}", rollout_path(&rollout), action.name());
        let body = json!({"reason": self.reason}).to_string();
        let view: RolloutView = self.admin.ask(Method::POST, &path, body.into())?;
        self.admin.print(out, &view, || format!("{}\n", render::line(&view)))
    }
}
