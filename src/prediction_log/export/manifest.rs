//! What a training set was made of: enough to name it, to check it, and to make it again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::join::Joined;
use super::write::{Written, sha256};
use super::{Export, ExportError, LabelType, Weights};
use crate::prediction_log::query::moment;
use crate::prediction_log::read::LeftOut;
use crate::prediction_log::table::SCHEMA_VERSION;

/// The file beside a training set. The same log and the same query, with `as_of` as it is here, make the same file again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// `sha256:` and the digest of the training set's file: what model.yaml's `lineage.dataset` takes.
    pub dataset: String,
    pub schema_version: u32,
    pub query: Query,
    pub counts: Counts,
    /// Columns with their types, in their order.
    pub schema: Vec<Column>,
    pub output: Output,
    /// Files of predictions that rows came from.
    pub files: Vec<SourceFile>,
    /// Files of predictions and feedback that could not be read, and whose rows are not in the set.
    pub damaged: Vec<DamagedFile>,
}

/// What was asked; moments in RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Query {
    pub model: String,
    pub version: Option<u64>,
    pub label: String,
    pub since: Option<String>,
    pub until: Option<String>,
    pub as_of: String,
    pub mature_s: Option<i64>,
    /// As the settings have it, such as `30m`, or null: only what was told is a label.
    pub negative_after: Option<String>,
    /// `assumed`, or the name of the feedback that says what was shown; null without `negative_after`.
    pub exposure: Option<String>,
    /// `number`, `text`, or null: labels had to be of one kind.
    pub label_type: Option<&'static str>,
    /// `equal` or `ips`.
    pub weights: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Predictions within the bounds, whatever their age.
    pub predictions: u64,
    /// Of these, those that feedback gives a label.
    pub labelled: u64,
    /// Rows of the training set.
    pub exported: u64,
    /// Of these, those whose label is 0 because nothing was told in time.
    pub implicit_negatives: u64,
    /// Predictions that are not in it, by the first reason that applies: `bad_id`, `too_young` for `mature_s`, `shadow` (a
    /// copy that nobody waited for), `error`, `unlabelled`, `too_young` for `negative_after`, `text_label` (where labels are
    /// numbers), `truncated` or `payload_dropped` (features are missing), `ambiguous_request` (feedback names a request that
    /// several predictions have).
    pub left_out: BTreeMap<&'static str, u64>,
    /// Rows of requests that a label names and that no prediction within the bounds is: it lies beyond them, is another
    /// model's, was never written (sampled out, dropped, lost with a process), or is deleted.
    pub labels_without_prediction: u64,
    /// About how many further predictions were not written, by the sampling probabilities of those that were.
    pub sampled_out_estimate: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Shape of a tensor whose elements are a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Its name, without folders.
    pub file: String,
    pub sha256: String,
    pub bytes: u64,
}

/// A file of the log. A segment that was still being written has no digest: its end was not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceFile {
    /// Relative to the data directory.
    pub path: String,
    pub sha256: Option<String>,
    pub rows_used: u64,
}

/// A file of the log that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedFile {
    /// Relative to the data directory.
    pub path: String,
    pub reason: String,
}

/// Where the manifest of a training set lies: `train.manifest.json` beside `train.parquet`.
pub fn manifest_path(output: &Path) -> PathBuf {
    output.with_extension("manifest.json")
}

impl Manifest {
    /// Reads the files that rows came from once more, for their digests.
    pub fn new(export: &Export, joined: &Joined<'_>, written: &Written, output: &Path) -> Self {
        let schema = written.schema.fields().iter().map(|field| Column {
            name: field.name().clone(),
            kind: field.data_type().to_string(),
            extension: field.metadata().get("ARROW:extension:metadata").cloned(),
        });
        let mut files = vec![];
        for (path, rows) in &joined.files {
            let is_sealed = path.extension().is_some_and(|extension| extension == "parquet");
            let digest = if is_sealed { sha256(path).ok().map(|(digest, _)| digest) } else { None };
            files.push(SourceFile { path: relative(export, path), sha256: digest, rows_used: *rows });
        }
        let damaged = export.left_out.iter().flat_map(LeftOut::files);
        let damaged = damaged.map(|(path, reason)| DamagedFile { path: relative(export, &path), reason });
        let file = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            dataset: format!("sha256:{}", written.sha256),
            schema_version: SCHEMA_VERSION,
            query: query(export),
            counts: Counts {
                predictions: joined.predictions,
                labelled: joined.labelled,
                exported: written.rows,
                implicit_negatives: joined.implicit(),
                left_out: joined.left_out.clone(),
                labels_without_prediction: joined.unmatched,
                sampled_out_estimate: joined.sampled_out.round() as u64,
            },
            schema: schema.collect(),
            output: Output { file, sha256: written.sha256.clone(), bytes: written.bytes },
            files,
            damaged: damaged.collect(),
        }
    }

    /// Writes it beside the training set.
    pub fn write(&self, output: &Path) -> Result<(), ExportError> {
        let path = manifest_path(output);
        let text = serde_json::to_vec_pretty(self).map_err(|cause| ExportError::io(&path, cause.into()))?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|cause| ExportError::io(&path, cause))
    }
}

fn relative(export: &Export, path: &Path) -> String {
    path.strip_prefix(&export.data_dir).unwrap_or(path).to_string_lossy().into_owned()
}

fn query(export: &Export) -> Query {
    Query {
        model: export.model.clone(),
        version: export.version,
        label: export.label.clone(),
        since: export.since_us.map(moment),
        until: export.until_us.map(moment),
        as_of: moment(export.as_of_us),
        mature_s: export.mature_us.map(|us| us / 1_000_000),
        negative_after: export.negatives.as_ref().map(|negatives| {
            let after = Duration::from_micros(negatives.after_us.unsigned_abs());
            humantime::format_duration(after).to_string()
        }),
        exposure: export.negatives.as_ref().map(|negatives| negatives.exposure.name().to_owned()),
        label_type: export.label_type.map(|kind| match kind {
            LabelType::Number => "number",
            LabelType::Text => "text",
        }),
        weights: match export.weights {
            Weights::Equal => "equal",
            Weights::Ips => "ips",
        },
    }
}
