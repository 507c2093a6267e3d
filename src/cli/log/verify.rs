//! `headgate log verify`: whether the log is whole.

use std::io::Write;

use super::directory::LogArgs;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::read::{Fault, Report, verify};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let directory = self.log.directory()?;
        let mut report = verify(&directory)?;
        // Asked after the files are read: what is dropped meanwhile is then counted already.
        if let Some(stats) = self.log.ask()?
            && let (Some(incarnation), Some(dropped)) = (stats.incarnation, stats.dropped())
        {
            compare(&mut report, incarnation, dropped);
        }
        if self.log.admin.json() {
            print_json(out, &report)?;
        } else {
            print(out, &report)?;
        }
        let count = report.faults.len();
        if count == 0 {
            return Ok(());
        }
        // What was found comes before what is wrong with it.
        out.flush()?;
        Err(Failure::Refused(format!("{} has {count} fault{}", directory.display(), if count == 1 { "" } else { "s" })))
    }
}

/// Holds the gaps of the running server's rows against what it counted as dropped. Rows that retention deleted are missing
/// too, but then the first ones are.
fn compare(report: &mut Report, incarnation: u64, dropped: u64) {
    let Some(found) = report.incarnations.iter().find(|found| found.incarnation == incarnation) else { return };
    if found.missing > dropped {
        let what = format!(
            "{} rows of incarnation {incarnation} are missing, and the server dropped {dropped}",
            found.missing
        );
        report.faults.push(Fault { path: String::new(), what });
    }
}

fn print(out: &mut dyn Write, report: &Report) -> Result<(), Failure> {
    writeln!(
        out,
        "{} predictions and {} pieces of feedback in {} sealed files and {} segments, {} bytes",
        report.predictions, report.feedback, report.sealed_files, report.segments, report.bytes
    )?;
    for run in &report.incarnations {
        let (rows, missing) = (run.rows, run.missing);
        writeln!(
            out,
            "incarnation {}: {rows} rows, {} to {}, {missing} missing",
            run.incarnation, run.first_seq, run.last_seq
        )?;
    }
    for torn in &report.torn {
        writeln!(out, "{}: {} bytes after the last whole batch", torn.path, torn.bytes)?;
    }
    for Fault { path, what } in &report.faults {
        // A fault's text begins with the file where reading it failed.
        let path = if path.is_empty() || what.contains(path.as_str()) { String::new() } else { format!("{path}: ") };
        writeln!(out, "FAULT {path}{what}")?;
    }
    Ok(())
}
