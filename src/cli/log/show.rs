//! `headgate log show`: one prediction, and what was told of it.

use std::io::Write;

use serde_json::{Map, Value};

use super::directory::LogArgs;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::inference::PredictionId;
use crate::prediction_log::query::{object, text};
use crate::prediction_log::read::{LeftOut, Scan, feedback_on, lookup};
use crate::prediction_log::table::Table;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the prediction, as the header headgate-prediction-id gave it
    #[arg(value_name = "PREDICTION_ID", value_parser = prediction_id)]
    id: PredictionId,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write, left_out: &LeftOut) -> Result<(), Failure> {
        let predictions = self.log.predictions(None, left_out)?;
        let row = lookup(&predictions, self.id)?.ok_or_else(|| not_logged(self.id))?;
        let feedback = Scan { table: Table::Feedback, ..predictions };
        let mut told: Vec<Map<String, Value>> = vec![];
        for batch in feedback_on(&feedback, &row)? {
            told.extend((0..batch.num_rows()).map(|at| object(&batch, at)));
        }
        // As they arrived: for each name the last one counts.
        told.sort_by_cached_key(|told| told.get("received_time").map(text));
        let row = object(&row, 0);
        if self.log.admin.json() {
            return print_json(out, &serde_json::json!({"prediction": row, "feedback": told}));
        }
        print(out, &row, "")?;
        for told in &told {
            writeln!(out, "feedback {}", told.get("feedback_id").map(text).unwrap_or_default())?;
            print(out, told, "  ")?;
        }
        if told.is_empty() {
            writeln!(out, "no feedback")?;
        }
        Ok(())
    }
}

/// An id that is not in the log.
pub fn not_logged(id: PredictionId) -> Failure {
    Failure::NotFound(format!(
        "prediction {id} is not in the log. If it was answered just now, ask again: rows reach the disk within half a sync \
         interval, half a second by default. Else it was sampled out or dropped, its request was refused, or it is of \
         another gateway's log or was deleted for its age"
    ))
}

/// A prediction id in an argument.
pub fn prediction_id(text: &str) -> Result<PredictionId, String> {
    text.parse().map_err(|_| "expected a prediction id such as 019ca949-0a80-8003-8000-018000000400".to_owned())
}

fn print(out: &mut dyn Write, row: &Map<String, Value>, indent: &str) -> Result<(), Failure> {
    let width = row.keys().map(|name| name.chars().count()).max().unwrap_or_default();
    for (name, value) in row {
        let value = text(value).replace(char::is_control, " ");
        writeln!(out, "{indent}{name:width$}  {value}")?;
    }
    Ok(())
}
