//! `headgate log export`: a training set with its manifest.

use std::io::Write;
use std::path::PathBuf;

use super::directory::LogArgs;
use super::moment;
use super::query::Rows;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::export::{Export, Weights, manifest_path};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    rows: Rows,
    /// Name of the feedback that is the label
    #[arg(long, value_name = "NAME")]
    label: String,
    /// Only predictions that are at least so old, such as 7d; without it, all that have a label
    #[arg(long, value_name = "AGE", value_parser = moment::parse_age_us)]
    mature: Option<i64>,
    /// What a row weighs: 1, or 1 / (sampling probability × arm probability); times the weight that its feedback has
    #[arg(long, value_name = "WEIGHTS", default_value = "equal", value_parser = ["equal", "ips"])]
    weights: String,
    /// Leave out what the log learnt from then on, so that a training set can be made again: the manifest's as_of
    #[arg(long, value_name = "TIME", value_parser = moment::parse_us)]
    as_of: Option<i64>,
    /// The Parquet file to write; its manifest lies beside it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Some(model) = self.rows.model.clone() else {
            return Err(Failure::Usage("--model is needed: a training set is one model's".to_owned()));
        };
        let export = Export {
            data_dir: self.log.directory()?,
            model,
            version: self.rows.version,
            label: self.label.clone(),
            since_us: self.rows.since,
            until_us: self.rows.until,
            as_of_us: self.as_of.unwrap_or_else(moment::now_us),
            mature_us: self.mature,
            weights: if self.weights == "ips" { Weights::Ips } else { Weights::Equal },
        };
        let manifest = export.run(&self.output)?;
        if self.log.admin.json() {
            return print_json(out, &manifest);
        }
        let counts = &manifest.counts;
        let left_out: Vec<String> = counts.left_out.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let left_out = if left_out.is_empty() { String::new() } else { format!("; left out: {}", left_out.join(", ")) };
        writeln!(out, "{} rows of {} predictions{left_out}", counts.exported, counts.predictions)?;
        writeln!(out, "{}  {} bytes", self.output.display(), manifest.output.bytes)?;
        writeln!(out, "{}", manifest_path(&self.output).display())?;
        Ok(writeln!(out, "dataset {}", manifest.dataset)?)
    }
}
