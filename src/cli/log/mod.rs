//! `headgate log`: what the prediction log holds, read from its files; no server need run.

mod compact;
mod directory;
mod export;
mod grid;
mod moment;
mod outputs;
mod query;
mod replay;
mod show;
mod stats;
mod tail;
mod verify;

use std::io::Write;

use super::failure::Failure;
use crate::prediction_log::export::ExportError;
use crate::prediction_log::query::QueryError;
use crate::prediction_log::read::{LeftOut, ReadError};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the newest predictions
    Tail(tail::Args),
    /// Show one prediction in full, with all feedback on it
    Show(show::Args),
    /// Filter predictions, and count and sum them up
    Query(query::Args),
    /// Count rows, files and bytes, and what was dropped
    Stats(stats::Args),
    /// Open every file and check that the log is whole
    Verify(verify::Args),
    /// Merge small files of a day into larger ones; may run beside a server
    Compact(compact::Args),
    /// Write a training set: predictions joined with their labels
    Export(export::Args),
    /// Send logged inputs to a version and compare its outputs with the logged ones
    Replay(Box<replay::Args>),
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let left_out = LeftOut::default();
        let done = match &self.command {
            Command::Tail(args) => args.run(out, &left_out),
            Command::Show(args) => args.run(out, &left_out),
            Command::Query(args) => args.run(out, &left_out),
            Command::Stats(args) => args.run(out, &left_out),
            Command::Verify(args) => args.run(out),
            Command::Compact(args) => args.run(out),
            Command::Export(args) => args.run(out),
            Command::Replay(args) => args.run(out, &left_out),
        };
        if left_out.is_empty() {
            return done;
        }
        // What was found comes before what is missing of it.
        out.flush()?;
        incomplete(done, &lacking(&left_out))
    }
}

/// What could not be read, for people.
fn lacking(left_out: &LeftOut) -> String {
    let reasons: Vec<String> = left_out.files().into_iter().map(|(_, reason)| format!("\n  {reason}")).collect();
    let files = if reasons.len() == 1 { "1 file".to_owned() } else { format!("{} files", reasons.len()) };
    format!("all rows of {files} are left out, `headgate log verify` checks each:{}", reasons.concat())
}

/// What was not found may lie where it can't be read.
fn incomplete(done: Result<(), Failure>, lacking: &str) -> Result<(), Failure> {
    match done {
        Ok(()) => Err(Failure::Incomplete(lacking.to_owned())),
        Err(Failure::NotFound(what)) => Err(Failure::Incomplete(format!("{what}\n{lacking}"))),
        Err(failure) => {
            eprintln!("headgate: {lacking}");
            Err(failure)
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoDirectory { .. } | ReadError::NoModel { .. } => Self::NotFound(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Read(error) => error.into(),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Read(error) => error.into(),
            error => Self::Refused(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
