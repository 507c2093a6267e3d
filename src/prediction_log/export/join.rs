//! Which predictions have a label, and why others are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::{Float32Type, TimestampMicrosecondType, UInt32Type};

use super::columns::{primitive, text};
use super::labels::{Labels, Said};
use super::standing::RowLabel;
use super::{Export, ExportError, LabelType};
use crate::inference::PredictionId;
use crate::prediction_log::read::{Scan, list};

/// Length of what is sorted at once, in µs.
pub const HOUR_US: i64 = 3_600_000_000;

/// Bits of a row's flags without which its features are not whole: 1 truncated, 16 payload dropped.
const TRUNCATED: u32 = 1;
const PAYLOAD_DROPPED: u32 = 16;

/// What the first pass found.
#[derive(Debug, Default)]
pub struct Joined<'l> {
    /// The rows of the training set, with their labels.
    pub rows: HashMap<PredictionId, RowLabel<'l>>,
    /// Hours since 1970 that have such rows.
    pub hours: BTreeSet<i64>,
    /// Predictions within the bounds, whatever their age.
    pub predictions: u64,
    /// Predictions that have a label, whether or not they are left out for another reason.
    pub labelled: u64,
    pub left_out: BTreeMap<&'static str, u64>,
    /// Rows that a label names and none of these predictions is.
    pub unmatched: u64,
    /// Those that are there, by how they are named: one prediction has an id, several may have a request's name.
    matched_ids: u64,
    matched_requests: HashSet<(String, u32)>,
    /// Predictions for which the ones within the bounds stand as well, by their sampling probabilities.
    pub sampled_out: f64,
    /// Files that have rows of the training set, and how many.
    pub files: Vec<(PathBuf, u64)>,
    /// Whether labels are numbers.
    pub is_number: bool,
}

/// Predictions of which something was told by the name of their request and the row in it.
type Requests<'l> = HashMap<(String, u32), Vec<Named<'l>>>;

struct Named<'l> {
    id: PredictionId,
    /// When its request came, and when the feedback arrived; Unix time in µs.
    came_us: i64,
    told_us: i64,
    /// Its label if that feedback is not on it, and whether that makes a difference.
    alone: Result<RowLabel<'l>, &'static str>,
    is_changed: bool,
    /// Nothing else that was told of it is a label.
    is_only_label: bool,
}

/// What the first pass reads of predictions.
const COLUMNS: [&str; 9] =
    ["prediction_id", "request_id", "row_index", "ts", "ts_received", "arm", "status", "flags", "sample_probability"];

impl<'l> Joined<'l> {
    pub fn read(export: &Export, labels: &'l Labels) -> Result<Self, ExportError> {
        let scan = Scan { columns: Some(COLUMNS.map(str::to_owned).to_vec()), ..export.predictions() };
        let mut joined = Self::default();
        let mut requests = Requests::new();
        let (mut hours, mut at) = (HashMap::new(), vec![]);
        for source in list(&scan)? {
            let path = source.path().to_owned();
            let file = at.len();
            at.push(path);
            for batch in source.batches(&scan)? {
                for (id, ts) in joined.add(export, &batch?, labels, &mut requests)? {
                    hours.insert(id, (ts.div_euclid(HOUR_US), file));
                }
            }
        }
        joined.settle_requests(requests);
        let matched = joined.matched_ids + joined.matched_requests.len() as u64;
        joined.unmatched = labels.subjects().saturating_sub(matched);
        let mut used: BTreeMap<usize, u64> = BTreeMap::new();
        for id in joined.rows.keys() {
            let Some((hour, file)) = hours.get(id) else { continue };
            joined.hours.insert(*hour);
            *used.entry(*file).or_default() += 1;
        }
        joined.files = used.into_iter().filter_map(|(file, rows)| Some((at.get(file)?.clone(), rows))).collect();
        joined.check(export, labels)?;
        Ok(joined)
    }

    /// The rows of a batch that have a label and are whole, with their times.
    fn add(
        &mut self,
        export: &Export,
        batch: &RecordBatch,
        labels: &'l Labels,
        requests: &mut Requests<'l>,
    ) -> Result<Vec<(PredictionId, i64)>, ExportError> {
        let (ids, names) = (text(batch, "prediction_id")?, text(batch, "request_id")?);
        let (arms, statuses) = (text(batch, "arm")?, text(batch, "status")?);
        let (rows, flags) = (primitive::<UInt32Type>(batch, "row_index")?, primitive::<UInt32Type>(batch, "flags")?);
        let times = primitive::<TimestampMicrosecondType>(batch, "ts")?;
        let came = primitive::<TimestampMicrosecondType>(batch, "ts_received")?;
        let probabilities = primitive::<Float32Type>(batch, "sample_probability")?;
        let mut found = vec![];
        for at in 0..batch.num_rows() {
            self.predictions += 1;
            self.sampled_out += 1.0 / f64::from(probabilities.value(at)) - 1.0;
            let Ok(id) = ids.value(at).parse::<PredictionId>() else {
                self.leave_out("bad_id");
                continue;
            };
            // A copy that nobody waited for has its primary's inputs, and the truth was told of that one.
            let is_shadow = arms.value(at) == "shadow";
            let (own, by_request) = (labels.on_prediction(id), labels.on_request(names.value(at), rows.value(at)));
            self.matched_ids += u64::from(own.told.is_some());
            if by_request.is_some_and(|by_request| by_request.told.is_some()) {
                self.matched_requests.insert((names.value(at).to_owned(), rows.value(at)));
            }
            let own = if is_shadow { Said::default() } else { own };
            let by_request = by_request.filter(|_| !is_shadow);
            let said = by_request.map_or(own, |by_request| own.and(by_request));
            let label = export.label_of(&said, times.value(at));
            self.labelled += u64::from(said.told.is_some());
            // Also one that is left out may be the one that is meant; but who asks again after an error means the answer.
            if let Some(by_request) = by_request.filter(|_| statuses.value(at) == "ok") {
                let alone = export.label_of(&own, times.value(at));
                let (came_us, told_us) = (came.value(at), by_request.received_us);
                let (is_changed, is_only_label) = (alone != label, said.told.is_some() && own.told.is_none());
                let named = Named { id, came_us, told_us, alone, is_changed, is_only_label };
                requests.entry((names.value(at).to_owned(), rows.value(at))).or_default().push(named);
            }
            let fitting = match label {
                _ if times.value(at) >= export.mature_until_us() => Err("too_young"),
                _ if is_shadow => Err("shadow"),
                _ if statuses.value(at) != "ok" => Err("error"),
                Ok(_) if flags.value(at) & TRUNCATED != 0 => Err("truncated"),
                Ok(_) if flags.value(at) & PAYLOAD_DROPPED != 0 => Err("payload_dropped"),
                label => label,
            };
            if self.take(id, fitting) {
                found.push((id, times.value(at)));
            }
        }
        Ok(found)
    }

    /// A row of the training set, or one that is left out. Gives whether it is in.
    fn take(&mut self, id: PredictionId, label: Result<RowLabel<'l>, &'static str>) -> bool {
        match label {
            Ok(label) => _ = self.rows.insert(id, label),
            Err(reason) => self.leave_out(reason),
        }
        label.is_ok()
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// Feedback that names a request which several predictions have is on the only one of them that had come by then. If
    /// more had, it says nothing certain of any.
    fn settle_requests(&mut self, requests: Requests<'l>) {
        for named in requests.into_values().filter(|named| named.len() > 1) {
            let mut meant = named.iter().filter(|named| named.came_us <= named.told_us).map(|named| named.id);
            let (first, second) = (meant.next(), meant.next());
            let only = first.filter(|_| second.is_none());
            for other in named.iter().filter(|named| named.is_changed && Some(named.id) != only) {
                if self.rows.remove(&other.id).is_none() {
                    // Left out already, for another reason.
                    continue;
                }
                if only.is_some() {
                    self.labelled -= u64::from(other.is_only_label);
                    self.take(other.id, other.alone);
                } else {
                    self.leave_out("ambiguous_request");
                }
            }
        }
    }

    /// Rows that are negative because nothing was told of them in time.
    pub fn implicit(&self) -> u64 {
        self.rows.values().filter(|label| label.is_none()).count() as u64
    }

    fn check(&mut self, export: &Export, labels: &Labels) -> Result<(), ExportError> {
        if self.predictions == 0 {
            export.predictions().check_model()?;
        }
        if let Some(label) = labels.lacks(export) {
            let known = labels.names.iter().cloned().collect();
            return Err(ExportError::NoLabel { label: label.to_owned(), known });
        }
        // How many there are of each kind, and the least id, so that the same log always names the same two.
        let kind = |is_text: bool| {
            let is_it = |label: &RowLabel<'_>| label.is_some_and(|told| told.is_text() == is_text);
            let ids = self.rows.iter().filter(|(_, label)| is_it(label)).map(|(id, _)| *id);
            ids.clone().min().map(|least| (ids.count(), least))
        };
        self.is_number = match (export.label_type, kind(false), kind(true)) {
            (Some(wanted), ..) => wanted == LabelType::Number,
            (None, Some((numbers, number)), Some((texts, text))) => {
                let label = export.label.clone();
                return Err(ExportError::MixedLabels { label, numbers, number, texts, text });
            }
            (None, _, texts) => texts.is_none(),
        };
        Ok(())
    }
}
