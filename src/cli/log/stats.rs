//! `headgate log stats`: how much there is, and what was dropped.

use std::io::Write;

use serde_json::{Value, json};

use super::directory::LogArgs;
use super::grid;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::query::{Answer, Query, Select};
use crate::prediction_log::read::{LeftOut, Scan, Source, list, settled};
use crate::prediction_log::table::Table;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write, left_out: &LeftOut) -> Result<(), Failure> {
        let predictions = self.log.predictions(None, left_out)?;
        let feedback = Scan { table: Table::Feedback, ..predictions.clone() };
        // Not one file left out of the later tables alone.
        let (rows, told, runs, files) = settled(Some(left_out), || -> Result<_, Failure> {
            let rows = ask(&predictions, "model_name,model_version,status", "count,min(ts),max(ts)")?;
            let told = ask(&feedback, "model_name,name", "count,min(received_time),max(received_time)")?;
            let runs = with_missing(ask(&predictions, "incarnation", "count,min(seq),max(seq)")?);
            Ok((rows, told, runs, [files(&predictions)?, files(&feedback)?]))
        })?;
        let server = self.log.ask()?;
        if self.log.admin.json() {
            let tables = ["predictions", "feedback"].into_iter().zip(files);
            let files: serde_json::Map<String, Value> = tables.map(|(name, files)| (name.to_owned(), files)).collect();
            let objects = [&rows, &told, &runs].map(|answer| answer.objects());
            let [rows, told, runs] = objects;
            return print_json(
                out,
                &json!({"predictions": rows, "feedback": told, "incarnations": runs, "files": files, "server": server}),
            );
        }
        writeln!(out, "{}", grid::table(&rows))?;
        if !told.rows.is_empty() {
            writeln!(out, "{}", grid::table(&told))?;
        }
        writeln!(out, "{}", grid::table(&runs))?;
        for (name, files) in ["predictions", "feedback"].into_iter().zip(&files) {
            let number = |key: &str| files[key].as_u64().unwrap_or_default();
            let (sealed, segments, bytes) = (number("sealed"), number("segments"), number("bytes"));
            writeln!(out, "{name}: {sealed} sealed files, {segments} segments, {bytes} bytes")?;
        }
        for (model, counts) in server.iter().flat_map(|server| &server.models) {
            writeln!(
                out,
                "{model} since the server began: {} written, {} sampled out, {} dropped for want of room in memory, {} for the disk",
                counts.written, counts.sampled_out, counts.dropped_ring, counts.dropped_disk
            )?;
        }
        Ok(())
    }
}

/// All groups; columns and sums are known to parse, and an empty log has none.
fn ask(scan: &Scan, by: &str, select: &str) -> Result<Answer, Failure> {
    let by = by.split(',').map(str::to_owned).collect();
    let select: Result<Vec<Select>, String> = select.split(',').map(str::parse).collect();
    let select = select.map_err(Failure::Refused)?;
    Ok(Query { scan: scan.clone(), conditions: vec![], by, select, limit: usize::MAX }.run()?)
}

/// Adds the numbers that no row has.
fn with_missing(mut answer: Answer) -> Answer {
    answer.columns.push("missing".to_owned());
    for row in &mut answer.rows {
        let number = |at: usize| row.get(at).and_then(Value::as_u64).unwrap_or_default();
        let (count, first, last) = (number(1), number(2), number(3));
        row.push((last - first + 1).saturating_sub(count).into());
    }
    answer
}

fn files(scan: &Scan) -> Result<Value, Failure> {
    let (mut sealed, mut segments, mut bytes) = (0, 0, 0);
    for source in list(scan)? {
        match &source {
            Source::Sealed { .. } => sealed += 1,
            Source::Segment { .. } => segments += 1,
        }
        bytes += source.path().metadata().map_or(0, |found| found.len());
    }
    Ok(json!({"sealed": sealed, "segments": segments, "bytes": bytes}))
}
