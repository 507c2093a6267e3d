//! Which predictions have a label, and why others are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::{Float32Type, TimestampMicrosecondType, UInt32Type};

use super::columns::{primitive, text};
use super::labels::{Labels, Told};
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
pub struct Joined {
    /// The rows of the training set, with their labels.
    pub rows: HashMap<PredictionId, Told>,
    /// Hours since 1970 that have such rows.
    pub hours: BTreeSet<i64>,
    /// Predictions within the bounds, whatever their age.
    pub predictions: u64,
    /// Predictions that have a label, whether or not they are left out for another reason.
    pub labelled: u64,
    pub left_out: BTreeMap<&'static str, u64>,
    /// Predictions for which the ones within the bounds stand as well, by their sampling probabilities.
    pub sampled_out: f64,
    /// Files that have rows of the training set, and how many.
    pub files: Vec<(PathBuf, u64)>,
    /// Whether labels are numbers.
    pub is_number: bool,
}

/// Predictions whose label came by the name of their request and the row in it.
type Requests = HashMap<(String, u32), Vec<Named>>;

struct Named {
    id: PredictionId,
    /// When its request came, and when the feedback arrived; Unix time in µs.
    came_us: i64,
    told_us: i64,
}

/// What the first pass reads of predictions.
const COLUMNS: [&str; 9] =
    ["prediction_id", "request_id", "row_index", "ts", "ts_received", "arm", "status", "flags", "sample_probability"];

impl Joined {
    pub fn read(export: &Export, labels: Labels) -> Result<Self, ExportError> {
        let scan = Scan { columns: Some(COLUMNS.map(str::to_owned).to_vec()), ..export.predictions() };
        let mut joined = Self::default();
        let mut requests = Requests::new();
        let (mut hours, mut at) = (HashMap::new(), vec![]);
        for source in list(&scan)? {
            let path = source.path().to_owned();
            let file = at.len();
            at.push(path);
            for batch in source.batches(&scan)? {
                for (id, ts) in joined.add(export, &batch?, &labels, &mut requests)? {
                    hours.insert(id, (ts.div_euclid(HOUR_US), file));
                }
            }
        }
        joined.settle_requests(requests);
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
        export: &Export,
        batch: &RecordBatch,
        labels: &Labels,
        requests: &mut Requests,
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
            let told = if is_shadow { None } else { labels.of(id, names.value(at), rows.value(at)) };
            self.labelled += u64::from(told.is_some());
            // Also one that is left out may be the one that is meant; but who asks again after an error means the answer.
            if let Some((told, false)) = told
                && statuses.value(at) == "ok"
            {
                let named = Named { id, came_us: came.value(at), told_us: told.received_us };
                requests.entry((names.value(at).to_owned(), rows.value(at))).or_default().push(named);
            }
            let reason = match told {
                _ if times.value(at) >= export.mature_until_us() => Some("too_young"),
                _ if is_shadow => Some("shadow"),
                _ if statuses.value(at) != "ok" => Some("error"),
                None => Some("unlabelled"),
                _ if flags.value(at) & TRUNCATED != 0 => Some("truncated"),
                _ if flags.value(at) & PAYLOAD_DROPPED != 0 => Some("payload_dropped"),
                Some((told, _)) if export.label_type == Some(LabelType::Number) && told.is_text() => Some("text_label"),
                Some(_) => None,
            };
            if let Some(reason) = reason {
                self.leave_out(reason);
                continue;
            }
            let Some((told, _)) = told else { continue };
            self.rows.insert(id, told.clone());
            found.push((id, times.value(at)));
        }
        Ok(found)
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// Feedback that names a request which several predictions have is on the only one of them that had come by then. If
    /// more had, it says nothing certain of any.
    fn settle_requests(&mut self, requests: Requests) {
        for named in requests.into_values().filter(|named| named.len() > 1) {
            let mut meant = named.iter().filter(|named| named.came_us <= named.told_us).map(|named| named.id);
            let (first, second) = (meant.next(), meant.next());
            let only = first.filter(|_| second.is_none());
            for other in named.iter().map(|named| named.id).filter(|id| Some(*id) != only) {
                if self.rows.remove(&other).is_none() {
                    // Left out already, for another reason.
                    continue;
                }
                if only.is_some() {
                    self.labelled -= 1;
                    self.leave_out("unlabelled");
                } else {
                    self.leave_out("ambiguous_request");
                }
            }
        }
    }

    fn check(&mut self, export: &Export, labels: &Labels) -> Result<(), ExportError> {
        if self.predictions == 0 {
            export.predictions().check_model()?;
        }
        if labels.is_empty() {
            let known = labels.others.iter().cloned().collect();
            return Err(ExportError::NoLabel { label: export.label.clone(), known });
        }
        // How many there are of each kind, and the least id, so that the same log always names the same two.
        let kind = |is_text: bool| {
            let ids = self.rows.iter().filter(|(_, told)| told.is_text() == is_text).map(|(id, _)| *id);
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
