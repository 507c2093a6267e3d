//! `headgate log query`: which predictions, and what they add up to.

use std::io::Write;

use super::directory::LogArgs;
use super::{grid, moment};
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::query::{Condition, Query, Select};
use crate::prediction_log::read::{LeftOut, Scan};

/// Columns of the table for people where none is selected; `--json` has all.
const SHOWN: [&str; 8] =
    ["ts", "prediction_id", "model_name", "model_version", "arm", "status", "total_us", "request_id"];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub rows: Rows,
    /// Only rows that meet this, such as 'out_score >= 0.5', 'status = error', 'arm in (candidate, control)' or
    /// 'error is null'; several must all be met
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// One row for each combination of these columns' values
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    by: Vec<String>,
    /// Columns, or count, count(COLUMN), sum(COLUMN), avg(COLUMN), min(COLUMN), max(COLUMN)
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    select: Vec<Select>,
    /// Most rows to print
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    log: LogArgs,
}

/// Flags that say which predictions are meant.
#[derive(Debug, clap::Args)]
pub struct Rows {
    /// Only predictions of this model
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Only those of this version
    #[arg(long, value_name = "NUMBER")]
    pub version: Option<u64>,
    /// Only those that ended from then on: a time such as 2026-03-01T12:00:00Z, or how long ago, such as 1h
    #[arg(long, value_name = "TIME", value_parser = moment::parse_us)]
    pub since: Option<i64>,
    /// Only those that ended before then, written as for --since
    #[arg(long, value_name = "TIME", value_parser = moment::parse_us)]
    pub until: Option<i64>,
}

impl Rows {
    /// The predictions meant.
    fn scan(&self, log: &LogArgs, left_out: &LeftOut) -> Result<Scan, Failure> {
        let of_model = log.predictions(self.model.as_deref(), left_out)?;
        Ok(Scan { version: self.version, since_us: self.since, until_us: self.until, ..of_model })
    }
}

impl Args {
    pub fn run(&self, out: &mut dyn Write, left_out: &LeftOut) -> Result<(), Failure> {
        let mut select = self.select.clone();
        if select.is_empty() && self.by.is_empty() && !self.log.admin.json() {
            select = SHOWN.map(|column| Select::Column(column.to_owned())).to_vec();
        }
        let (conditions, by) = (self.conditions.clone(), self.by.clone());
        let scan = self.rows.scan(&self.log, left_out)?;
        let answer = Query { scan, conditions, by, select, limit: self.limit }.run()?;
        if self.log.admin.json() {
            return print_json(out, &serde_json::json!({"rows": answer.objects(), "more": answer.is_cut}));
        }
        write!(out, "{}", grid::table(&answer))?;
        if answer.is_cut {
            writeln!(out, "… and more: --limit shows them")?;
        }
        Ok(())
    }
}
