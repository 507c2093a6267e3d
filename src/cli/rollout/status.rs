//! `headgate rollout status`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::api::{list, named_or_only, only_one, show};
use super::render::text::{date, percent};
use super::render::{self, Look};
use super::watch::{Screen, Watch};
use crate::cli::admin_api::AdminArgs;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::rollout::view::RolloutView;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the rollout, or the route whose latest is meant; without it, the one under way, else a list of all
    #[arg(value_name = "ROLLOUT_OR_ROUTE")]
    rollout: Option<String>,
    /// Show it anew each second until it has ended; the exit status is 0 if it was completed, else 1
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let named = self.rollout.as_deref();
        if self.watch {
            let rollout = named_or_only(&self.admin, named)?;
            // A route's latest rollout may be another one later on.
            let rollout = show(&self.admin, &rollout)?.id;
            let screen = if self.admin.json() { Screen::Json } else { Screen::of_stdout() };
            let read = || show(&self.admin, &rollout);
            return Watch { read: &read, screen, pause: std::thread::sleep }.run(out);
        }
        match named {
            Some(rollout) => self.print_one(out, &show(&self.admin, rollout)?),
            // Programs get the list whatever it holds.
            None if self.admin.json() => self.print_list(out),
            None => match only_one(&self.admin) {
                Ok(one) => self.print_one(out, &one),
                Err(Failure::Usage(_)) => self.print_list(out),
                Err(failure) => Err(failure),
            },
        }
    }

    fn print_one(&self, out: &mut dyn Write, view: &RolloutView) -> Result<(), Failure> {
        let look = Screen::of_stdout().look().unwrap_or(Look::PLAIN);
        self.admin.print(out, view, || render::render(view, look, now_ms()))
    }

    fn print_list(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let list = list(&self.admin)?;
        let mut table =
            Table::new(["ROLLOUT", "FROM", "TO", "STATE", "STEP", "CANDIDATE", "SINCE", "BY", "WAITING FOR"]);
        for view in &list.rollouts {
            table.row([
                view.id.clone(),
                view.stable.to_string(),
                view.candidate.to_string(),
                view.state.clone(),
                view.step.map_or("-".to_owned(), |step| format!("{}/{}", step + 1, view.steps.len())),
                percent(view.weights.candidate),
                date(view.since_ms),
                view.requested_by.clone(),
                view.waiting_for.clone(),
            ]);
        }
        self.admin.print(out, &list, || table.to_string())
    }
}

/// Unix time in ms.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
