//! Which predictions have a label, and why others are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{TimestampMicrosecondType, UInt32Type};

use super::columns::text;
use super::labels::{Label, Labels, Told};
use super::{Export, ExportError};
use crate::error::nearest;
use crate::inference::PredictionId;
use crate::prediction_log::read::{Scan, list};
use crate::prediction_log::table::Table;

/// Length of what is sorted at once, in µs.
pub const HOUR_US: i64 = 3_600_000_000;

/// Bits of a row's flags without which its features are not whole: 1 truncated, 16 payload dropped.
const TRUNCATED: u32 = 1;
const PAYLOAD_DROPPED: u32 = 16;

/// What the first pass found.
#[derive(Debug, Default)]
pub struct Joined {
    /// The rows of the training set, with their labels.
    pub rows: HashMap<PredictionId, Told>,
    /// Hours since 1970 that have such rows.
    pub hours: BTreeSet<i64>,
    /// Predictions within the bounds.
    pub predictions: u64,
    /// Predictions that have a label, whether or not they are left out for another reason.
    pub labelled: u64,
    pub left_out: BTreeMap<&'static str, u64>,
    /// Files that have rows of the training set, and how many.
    pub files: Vec<(PathBuf, u64)>,
    /// Whether labels are numbers.
    pub is_number: bool,
}

/// Rows whose label came by the name of their request.
type Requests = HashMap<(String, u32), Vec<PredictionId>>;

impl Joined {
    pub fn read(export: &Export, labels: Labels) -> Result<Self, ExportError> {
        let columns = ["prediction_id", "request_id", "row_index", "ts", "arm", "status", "flags"];
        let columns = Some(columns.map(str::to_owned).to_vec());
        let scan = Scan { columns, ..export.predictions() };
        let mut joined = Self::default();
        let mut requests = Requests::new();
        let (mut hours, mut at) = (HashMap::new(), vec![]);
        for source in list(&scan)? {
            let path = source.path().to_owned();
            let file = at.len();
            at.push(path);
            for batch in source.batches(&scan)? {
                for (id, ts) in joined.add(&batch?, &labels, &mut requests)? {
                    hours.insert(id, (ts.div_euclid(HOUR_US), file));
                }
            }
        }
        joined.leave_out_ambiguous(requests);
        let mut used: BTreeMap<usize, u64> = BTreeMap::new();
        for id in joined.rows.keys() {
            let Some((hour, file)) = hours.get(id) else { continue };
            joined.hours.insert(*hour);
            *used.entry(*file).or_default() += 1;
        }
        joined.files = used.into_iter().filter_map(|(file, rows)| Some((at.get(file)?.clone(), rows))).collect();
        joined.check(export, &labels)?;
        Ok(joined)
    }

    /// The rows of a batch that have a label and are whole, with their times.
    fn add(
        &mut self,
        batch: &RecordBatch,
        labels: &Labels,
        requests: &mut Requests,
    ) -> Result<Vec<(PredictionId, i64)>, ExportError> {
        let (ids, names) = (text(batch, "prediction_id")?, text(batch, "request_id")?);
        let (arms, statuses) = (text(batch, "arm")?, text(batch, "status")?);
        let missing = |column| ExportError::Column { column, expected: "of the expected type" };
        let numbers = |column| {
            let found = batch.column_by_name(column).and_then(|array| array.as_primitive_opt::<UInt32Type>());
            found.ok_or_else(|| missing(column))
        };
        let (rows, flags) = (numbers("row_index")?, numbers("flags")?);
        let times = batch.column_by_name("ts").and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| missing("ts"))?;
        let mut found = vec![];
        for at in 0..batch.num_rows() {
            self.predictions += 1;
            let Ok(id) = ids.value(at).parse::<PredictionId>() else {
                *self.left_out.entry("bad_id").or_default() += 1;
                continue;
            };
            // A copy that nobody waited for has its primary's inputs, and the truth was told of that one.
            let is_shadow = arms.value(at) == "shadow";
            let told = if is_shadow { None } else { labels.of(id, names.value(at), rows.value(at)) };
            self.labelled += u64::from(told.is_some());
            let reason = match told {
                _ if is_shadow => Some("shadow"),
                _ if statuses.value(at) != "ok" => Some("error"),
                None => Some("unlabelled"),
                _ if flags.value(at) & TRUNCATED != 0 => Some("truncated"),
                _ if flags.value(at) & PAYLOAD_DROPPED != 0 => Some("payload_dropped"),
                Some(_) => None,
            };
            if let Some(reason) = reason {
                *self.left_out.entry(reason).or_default() += 1;
                continue;
            }
            let Some((told, by_id)) = told else { continue };
            if !by_id {
                requests.entry((names.value(at).to_owned(), rows.value(at))).or_default().push(id);
            }
            self.rows.insert(id, told.clone());
            found.push((id, times.value(at)));
        }
        Ok(found)
    }

    /// A request's name that several predictions have says nothing certain of any of them.
    fn leave_out_ambiguous(&mut self, requests: Requests) {
        for ids in requests.into_values().filter(|ids| ids.len() > 1) {
            for id in ids {
                self.rows.remove(&id);
                *self.left_out.entry("ambiguous_request").or_default() += 1;
            }
        }
    }

    fn check(&mut self, export: &Export, labels: &Labels) -> Result<(), ExportError> {
        if self.predictions == 0 {
            check_model(export)?;
        }
        if labels.is_empty() {
            let known = labels.others.iter().cloned().collect();
            return Err(ExportError::NoLabel { label: export.label.clone(), known });
        }
        // The least id of each kind, so that the same log always names the same two.
        let least = |is_number: bool| {
            let of_kind = self.rows.iter().filter(|(_, told)| matches!(told.label, Label::Number(_)) == is_number);
            of_kind.map(|(id, _)| *id).min()
        };
        match (least(true), least(false)) {
            (Some(number), Some(text)) => Err(ExportError::MixedLabels {
                label: export.label.clone(),
                number: number.to_string(),
                text: text.to_string(),
            }),
            (_, text) => {
                self.is_number = text.is_none();
                Ok(())
            }
        }
    }
}

/// Refuses a model that has no predictions at all, with the nearest that has.
fn check_model(export: &Export) -> Result<(), ExportError> {
    let all = Scan::all(&export.data_dir, Table::Predictions);
    let of_model = Scan { model: Some(export.model.clone()), ..all.clone() };
    if list(&of_model)?.iter().any(|source| source.schema(&of_model).is_ok_and(|schema| schema.is_some())) {
        return Ok(());
    }
    let known: BTreeSet<String> = list(&all)?.iter().filter_map(|source| source.model(&all)).collect();
    let nearest = nearest(&export.model, known.iter().map(String::as_str));
    Err(ExportError::NoModel { model: export.model.clone(), data_dir: export.data_dir.clone(), nearest })
}
