//! Where the log lies.

use std::path::PathBuf;

use bytes::Bytes;
use hyper::Method;

use crate::admin::view::LogStats;
use crate::cli::admin_api::AdminArgs;
use crate::cli::failure::Failure;
use crate::prediction_log::read::{LeftOut, Scan};
use crate::prediction_log::table::Table;

/// The path of what a server says of its log.
pub const STATS: &str = "/admin/v1/log/stats";

/// Flags of every command that reads the log.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// The server's data directory; without it, the one that the server at --admin names
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl LogArgs {
    /// The data directory.
    ///
    /// # Errors
    /// `NotFound` for a directory that is not there, and where the server keeps no log; else as [`AdminArgs::ask`].
    pub fn directory(&self) -> Result<PathBuf, Failure> {
        let directory = match (&self.data_dir, self.ask()?) {
            (Some(directory), _) => directory.clone(),
            (None, stats) => stats.and_then(|stats| stats.directory).map(PathBuf::from).ok_or_else(|| {
                Failure::NotFound("the server has no --data-dir, so it keeps no prediction log".to_owned())
            })?,
        };
        if directory.is_dir() {
            return Ok(directory);
        }
        Err(Failure::NotFound(format!("there is no directory {}", directory.display())))
    }

    /// The predictions of a model, or all. Files that can't be read are left out and named there.
    ///
    /// # Errors
    /// As [`LogArgs::directory`]; `NotFound` for a model that has none.
    pub fn predictions(&self, model: Option<&str>, left_out: &LeftOut) -> Result<Scan, Failure> {
        let all = Scan::all(self.directory()?, Table::Predictions);
        let scan = Scan { model: model.map(str::to_owned), left_out: Some(left_out.clone()), ..all };
        scan.check_model()?;
        Ok(scan)
    }

    /// What the server says of its log; `None` where the directory is given and no server is asked.
    ///
    /// # Errors
    /// As [`AdminArgs::ask`].
    pub fn ask(&self) -> Result<Option<LogStats>, Failure> {
        if self.data_dir.is_some() {
            return Ok(None);
        }
        self.admin.ask(Method::GET, STATS, Bytes::new()).map(Some)
    }
}
