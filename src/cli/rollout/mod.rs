//! `headgate rollout`: gives a version a growing share of a model's traffic, watched and decided by the server.

mod act;
mod api;
mod document;
mod explain;
mod history;
mod moment;
mod render;
mod start;
mod status;
mod watch;

use std::io::Write;

use super::failure::Failure;
use crate::rollout::view::Action;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start a rollout, and show its spec with every default filled in
    Start(start::Args),
    /// Show a rollout, or list all of them
    Status(status::Args),
    /// Stop the clock of a rollout: weights stay, guards go on
    Pause(act::Args),
    /// Go on from a pause or a hold
    Resume(act::Args),
    /// Let a rollout that waits for a person go on
    Approve(act::Args),
    /// End the remaining steps now and make the candidate stable
    Promote(act::Args),
    /// Take the candidate's share away and end the rollout
    Abort(act::Args),
    /// Show what a rollout did and why, or who served a route at one moment
    History(history::Args),
    /// Show which version a sticky key meets, and why
    Explain(explain::Args),
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.command {
            Command::Start(args) => args.run(out),
            Command::Status(args) => args.run(out),
            Command::Pause(args) => args.run(Action::Pause, out),
            Command::Resume(args) => args.run(Action::Resume, out),
            Command::Approve(args) => args.run(Action::Approve, out),
            Command::Promote(args) => args.run(Action::Promote, out),
            Command::Abort(args) => args.run(Action::Abort, out),
            Command::History(args) => args.run(out),
            Command::Explain(args) => args.run(out),
        }
    }
}

#[cfg(test)]
mod tests;
