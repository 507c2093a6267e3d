//! `headgate log compact`: few large files of many small ones.

use std::io::Write;

use serde_json::json;

use super::directory::LogArgs;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::compact::{self, MAX_FILE_BYTES};
use crate::prediction_log::disk::RealDisk;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only files of this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let directory = self.log.directory()?;
        let done = compact::compact(&directory, self.model.as_deref(), &RealDisk::shared(), MAX_FILE_BYTES);
        let report = done.map_err(|error| Failure::Refused(error.to_string()))?;
        if self.log.admin.json() {
            let failed: Vec<_> =
                report.failed.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect();
            let (before, after) = (report.merged_files, report.new_files);
            let bytes = (report.merged_bytes, report.new_bytes);
            print_json(
                out,
                &json!({"merged_files": before, "merged_bytes": bytes.0, "new_files": after, "new_bytes": bytes.1,
                    "rows": report.rows, "failed": failed}),
            )?;
        } else {
            let (before, after) = (report.merged_files, report.new_files);
            let (bytes_before, bytes_after) = (report.merged_bytes, report.new_bytes);
            writeln!(
                out,
                "{before} files of {bytes_before} bytes became {after} files of {bytes_after} bytes, {} rows",
                report.rows
            )?;
        }
        match report.failed.first() {
            None => Ok(()),
            Some((path, reason)) => {
                out.flush()?;
                let count = report.failed.len();
                Err(Failure::Refused(format!("{count} not merged, the first {}: {reason}", path.display())))
            }
        }
    }
}
