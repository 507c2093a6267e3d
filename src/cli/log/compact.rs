//! `headgate log compact`: few large files of many small ones.

use std::io::Write;

use serde_json::json;

use super::directory::LogArgs;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::compact::{self, MAX_FILE_BYTES, Report};
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
        let Report { merged_files, merged_bytes, new_files, new_bytes, rows, failed } = &report;
        if self.log.admin.json() {
            let failed: Vec<_> = failed.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect();
            print_json(
                out,
                &json!({"merged_files": merged_files, "merged_bytes": merged_bytes, "new_files": new_files,
                    "new_bytes": new_bytes, "rows": rows, "failed": failed}),
            )?;
        } else {
            writeln!(
                out,
                "{merged_files} files of {merged_bytes} bytes became {new_files} files of {new_bytes} bytes, {rows} rows"
            )?;
        }
        match failed.first() {
            None => Ok(()),
            Some((path, reason)) => {
                out.flush()?;
                let count = failed.len();
                Err(Failure::Refused(format!("{count} not merged, the first {}: {reason}", path.display())))
            }
        }
    }
}
