//! The command line: one file a subcommand.
//!
//! `serve` is the server, `inspect`, `audit verify` and `log` look at files; every other command asks a running server over HTTP. Exit status:
//! 0 done, 1 refused or failed, 2 usage, 3 not found, 4 unreachable, 5 incomplete.

mod admin_api;
mod audit;
mod clear_quarantine;
mod client;
mod completions;
mod failure;
mod inspect;
mod label;
mod load;
mod log;
mod models;
mod predict;
mod rollout;
mod serve;
mod settings_file;
mod table;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde::Serialize;

use self::failure::Failure;

/// A model serving gateway: versioned ONNX models over gRPC and HTTP, swapped without a failed request
#[derive(Debug, Parser)]
#[command(name = "headgate", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serve model repositories over HTTP and gRPC
    Serve(Box<serve::Args>),
    /// List a server's models with their versions, states and labels
    Models(models::Args),
    /// Show what an ONNX file takes and gives, which engine can run it, and how fast
    Inspect(inspect::Args),
    /// Ask a server for a prediction
    Predict(predict::Args),
    /// Look at a model's directory now, try failed versions again, and serve it if it was unloaded
    Load(load::Args),
    /// Take a model out of service until it is loaded again
    Unload(load::Args),
    /// Point a label of a model at a version, or take it away
    Label(label::Args),
    /// Let a quarantined version be loaded again
    ClearQuarantine(clear_quarantine::Args),
    /// Show or check the log of who changed what
    Audit(audit::Args),
    /// Look at the prediction log, check it, and make training sets of it
    Log(log::Args),
    /// Give a new version a growing share of a model's traffic, by evidence
    Rollout(rollout::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    crate::engine::panics::quiet_caught_panics();
    let mut out = BufWriter::new(io::stdout().lock());
    let outcome = run(std::env::args_os(), &mut out).and_then(|()| Ok(out.flush()?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// The commands and their flags, for documentation and its tests.
pub fn command() -> clap::Command {
    Cli::command()
}

fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> Result<(), Failure> {
    match Cli::try_parse_from(args)?.command {
        Command::Serve(args) => args.run(),
        Command::Models(args) => args.run(out),
        Command::Inspect(args) => args.run(out),
        Command::Predict(args) => args.run(out),
        Command::Load(args) => args.load(out),
        Command::Unload(args) => args.unload(out),
        Command::Label(args) => args.run(out),
        Command::ClearQuarantine(args) => args.run(out),
        Command::Audit(args) => args.run(out),
        Command::Log(args) => args.run(out),
        Command::Rollout(args) => args.run(out),
        Command::Completions(args) => args.run(out),
    }
}

fn print_json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests;
