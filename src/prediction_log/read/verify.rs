//! Whether a log is whole: every file opened and every value of it decoded.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{Metadata, TimestampMicrosecondType, UInt64Type};
use serde::Serialize;

use super::error::ReadError;
use super::listing::{Source, list};
use super::scan::Scan;
use super::typed::{primitives, texts};
use super::{sealed, segment};
use crate::inference::PredictionId;
use crate::prediction_log::table::{
    META_ROWS, META_SEQ_FIRST, META_SEQ_LAST, META_TABLE, META_TS_FIRST, META_TS_LAST, Table,
};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub sealed_files: u64,
    pub segments: u64,
    pub predictions: u64,
    pub feedback: u64,
    pub bytes: u64,
    /// By the process that wrote them.
    pub incarnations: Vec<Incarnation>,
    /// What is not as it should be; empty for a log that is whole.
    pub faults: Vec<Fault>,
    /// Segments with something after their last whole batch: a write under way, or one that a process did not live to end.
    pub torn: Vec<Torn>,
}

/// The rows of one run of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Incarnation {
    /// When it began; Unix time in ms.
    pub incarnation: u64,
    pub rows: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    /// Numbers between them that no row has: rows that were dropped and counted, or whose files are gone.
    pub missing: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Relative to the data directory; empty where it is no single file's.
    pub path: String,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Torn {
    pub path: String,
    pub bytes: u64,
}

/// What is remembered of all rows: 24 bytes each.
#[derive(Default)]
struct Seen {
    ids: Vec<PredictionId>,
    /// By incarnation.
    seqs: BTreeMap<u64, Vec<u64>>,
}

/// What the rows of one file have in common, held against what the file says of itself.
#[derive(Default)]
struct Facts {
    rows: u64,
    seq: Option<(u64, u64)>,
    ts: Option<(i64, i64)>,
}

/// Reads the whole log. Takes 24 bytes of memory for each prediction.
///
/// # Errors
/// `NoDirectory`, and what keeps folders from being listed; what is wrong with a file is in the report.
pub fn verify(data_dir: &Path) -> Result<Report, ReadError> {
    let (mut report, mut seen) = (Report::default(), Seen::default());
    for table in Table::ALL {
        let scan = Scan::all(data_dir, table);
        for source in list(&scan)? {
            let path = source.path().strip_prefix(data_dir).unwrap_or(source.path()).to_string_lossy().into_owned();
            report.bytes += source.path().metadata().map_or(0, |found| found.len());
            if let Err(what) = check(source, &scan, &path, (&mut report, &mut seen)) {
                report.faults.push(Fault { path, what });
            }
        }
    }
    seen.conclude(&mut report);
    Ok(report)
}

fn check(source: Source, scan: &Scan, name: &str, (report, seen): (&mut Report, &mut Seen)) -> Result<(), String> {
    let text = |fault: ReadError| fault.to_string();
    let mut facts = Facts::default();
    let metadata = match &source {
        Source::Sealed { path, .. } => {
            report.sealed_files += 1;
            sealed::open(path).map_err(text)?.map(|opened| sealed::metadata(&opened))
        }
        Source::Segment { path, file } => {
            report.segments += 1;
            let file = file.try_clone().map_err(|cause| cause.to_string())?;
            let opened = segment::open(path, file).map_err(text)?;
            let torn = opened.as_ref().map_or(0, |opened| opened.extent().torn_bytes);
            if torn > 0 {
                report.torn.push(Torn { path: name.to_owned(), bytes: torn });
            }
            opened.map(|opened| opened.schema().metadata().clone())
        }
    };
    // Deleted for its age since it was listed, or without a row yet.
    let Some(metadata) = metadata else { return Ok(()) };
    let is_sealed = matches!(source, Source::Sealed { .. });
    let outcome = source.batches(scan).and_then(|batches| {
        for batch in batches {
            let batch = batch?;
            facts.add(&batch, scan.table);
            if scan.table == Table::Predictions {
                seen.add(&batch);
            }
        }
        Ok(())
    });
    match scan.table {
        Table::Predictions => report.predictions += facts.rows,
        Table::Feedback => report.feedback += facts.rows,
    }
    outcome.map_err(text)?;
    if metadata.get(META_TABLE).is_some_and(|table| table != scan.table.name()) {
        return Err(format!("it lies among {} and says that it is of another table", scan.table.name()));
    }
    if is_sealed { facts.agree(&metadata) } else { Ok(()) }
}

impl Facts {
    fn add(&mut self, batch: &RecordBatch, table: Table) {
        self.rows += batch.num_rows() as u64;
        let seqs = primitives::<UInt64Type>(batch, "seq");
        for seq in seqs.into_iter().flat_map(|seqs| seqs.values()) {
            self.seq = Some(self.seq.map_or((*seq, *seq), |(first, last)| (first.min(*seq), last.max(*seq))));
        }
        let times = primitives::<TimestampMicrosecondType>(batch, table.time_column());
        for time in times.into_iter().flat_map(|times| times.values()) {
            self.ts = Some(self.ts.map_or((*time, *time), |(first, last)| (first.min(*time), last.max(*time))));
        }
    }

    /// Whether the file's metadata says the same; what it doesn't say is not held against it.
    fn agree(&self, metadata: &Metadata) -> Result<(), String> {
        let facts = [
            (META_ROWS, Some(self.rows.to_string())),
            (META_SEQ_FIRST, self.seq.map(|seq| seq.0.to_string())),
            (META_SEQ_LAST, self.seq.map(|seq| seq.1.to_string())),
            (META_TS_FIRST, self.ts.map(|ts| ts.0.to_string())),
            (META_TS_LAST, self.ts.map(|ts| ts.1.to_string())),
        ];
        for (key, found) in facts {
            if let (Some(said), Some(found)) = (metadata.get(key), found)
                && *said != found
            {
                return Err(format!("its metadata says {key} {said}, and its rows {found}"));
            }
        }
        Ok(())
    }
}

impl Seen {
    fn add(&mut self, batch: &RecordBatch) {
        let ids = texts(batch, "prediction_id");
        let parse = |id: Option<&str>| id?.parse::<PredictionId>().ok();
        self.ids.extend(ids.into_iter().flat_map(|ids| ids.iter()).filter_map(parse));
        let numbers = |column: &str| primitives::<UInt64Type>(batch, column);
        let (Some(incarnations), Some(seqs)) = (numbers("incarnation"), numbers("seq")) else { return };
        for (incarnation, seq) in incarnations.values().iter().zip(seqs.values()) {
            self.seqs.entry(*incarnation).or_default().push(*seq);
        }
    }

    fn conclude(mut self, report: &mut Report) {
        let mut fault = |what: String| report.faults.push(Fault { path: String::new(), what });
        self.ids.sort_unstable();
        let mut repeated = self.ids.windows(2).filter(|pair| pair[0] == pair[1]);
        if let Some(pair) = repeated.next() {
            let first = pair[0];
            fault(format!("{} rows have the prediction id of another, the first {first}", 1 + repeated.count()));
        }
        let without_id = report.predictions.saturating_sub(self.ids.len() as u64);
        if without_id > 0 {
            fault(format!("{without_id} rows have no prediction id"));
        }
        for (incarnation, mut seqs) in self.seqs {
            seqs.sort_unstable();
            let rows = seqs.len() as u64;
            let (first_seq, last_seq) = (seqs[0], seqs[seqs.len() - 1]);
            seqs.dedup();
            let distinct = seqs.len() as u64;
            if distinct < rows {
                fault(format!("{} rows of incarnation {incarnation} have the number of another", rows - distinct));
            }
            let missing = last_seq - first_seq + 1 - distinct;
            report.incarnations.push(Incarnation { incarnation, rows, first_seq, last_seq, missing });
        }
    }
}
