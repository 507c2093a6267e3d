//! `headgate log tail`: the newest predictions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::TimestampMicrosecondType;
use serde_json::{Map, Value};

use super::directory::LogArgs;
use super::grid;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::cli::table::Table;
use crate::prediction_log::query::{object, text};
use crate::prediction_log::read::{LeftOut, Scan, newest, primitives};

/// Time between two looks with --follow.
const INTERVAL: Duration = Duration::from_secs(1);
/// Most rows that one look shows; of more, the newest.
const MAX_ROWS: usize = 1000;
/// How far a row may come to the disk after one that ended later, in µs: batches of versions are written in turn.
const MAX_LATENESS_US: i64 = 60_000_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Rows to show, at most 1000
    #[arg(short = 'n', long = "lines", value_name = "COUNT", default_value_t = 10)]
    count: usize,
    /// Only predictions of this model
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Go on with what comes until the command is stopped
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// One look after another.
pub struct Follow {
    scan: Scan,
    /// Highest number that was shown, by model, version and incarnation: rows of one version come in their order.
    shown: BTreeMap<(String, u64, u64), u64>,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write, left_out: &LeftOut) -> Result<(), Failure> {
        let scan = self.log.predictions(self.model.as_deref(), left_out)?;
        let mut follow = Follow::new(scan);
        let rows = follow.look(self.count.min(MAX_ROWS))?;
        if self.log.admin.json() && !self.follow {
            return print_json(out, &serde_json::json!({"rows": rows}));
        }
        self.print(out, &rows, true)?;
        if !self.follow {
            return Ok(());
        }
        let mut said = BTreeSet::new();
        loop {
            out.flush()?;
            // This never ends by itself, so what is left out is said when it is met.
            for (path, reason) in left_out.files() {
                if said.insert(path) {
                    eprintln!("headgate: left out: {reason}");
                }
            }
            std::thread::sleep(INTERVAL);
            let rows = follow.look(MAX_ROWS)?;
            self.print(out, &rows, false)?;
        }
    }

    /// With --follow and --json each row is a line of its own.
    fn print(&self, out: &mut dyn Write, rows: &[Map<String, Value>], with_header: bool) -> Result<(), Failure> {
        if self.log.admin.json() {
            for row in rows {
                serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from)?;
                writeln!(out)?;
            }
            return Ok(());
        }
        let mut table = Table::new(["TIME", "PREDICTION", "MODEL", "V", "ARM", "STATUS", "US", "OUTPUTS"]);
        rows.iter().for_each(|row| table.row(line(row)));
        for line in table.to_string().lines().skip(usize::from(!with_header)) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

impl Follow {
    /// Of the rows of a scan; nothing is shown yet.
    pub fn new(scan: Scan) -> Self {
        Self { scan, shown: BTreeMap::new() }
    }

    /// The newest rows that were not shown yet, oldest first.
    ///
    /// # Errors
    /// As [`newest`].
    pub fn look(&mut self, count: usize) -> Result<Vec<Map<String, Value>>, Failure> {
        let rows: Vec<RecordBatch> = newest(&self.scan, count)?;
        let mut fresh = vec![];
        for row in rows.iter().map(|row| object(row, 0)) {
            let number = |column: &str| row.get(column).and_then(Value::as_u64).unwrap_or_default();
            let model = row.get("model_name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let key = (model, number("model_version"), number("incarnation"));
            let seq = number("seq");
            if self.shown.get(&key).is_none_or(|shown| seq > *shown) {
                fresh.push((key, seq, row));
            }
        }
        for (key, seq, _) in &fresh {
            let shown = self.shown.entry(key.clone()).or_default();
            *shown = (*shown).max(*seq);
        }
        let times = rows.last().and_then(|newest| primitives::<TimestampMicrosecondType>(newest, "ts"));
        if let Some(times) = times {
            self.scan.since_us = Some(times.value(0) - MAX_LATENESS_US);
        }
        Ok(fresh.into_iter().map(|(_, _, row)| row).collect())
    }
}

fn line(row: &Map<String, Value>) -> [String; 8] {
    let outputs = row.iter().filter(|(name, value)| name.starts_with("out_") && !value.is_null());
    let outputs: Vec<String> =
        outputs.map(|(name, value)| format!("{}={}", &name["out_".len()..], text(value))).collect();
    let outcome = match row.get("error").and_then(Value::as_str) {
        Some(error) => error.to_owned(),
        None => outputs.join(" "),
    };
    let cell = |column: &str| grid::cell(row.get(column).unwrap_or(&Value::Null));
    [
        cell("ts"),
        cell("prediction_id"),
        cell("model_name"),
        cell("model_version"),
        cell("arm"),
        cell("status"),
        cell("total_us"),
        grid::cell(&Value::from(outcome)),
    ]
}
