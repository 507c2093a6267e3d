//! From entries to rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::VersionLog;
use super::builder::{Appended, ColumnBuilder};
use super::flags;
use super::layout::{Cut, Side};
use super::slices::{Slices, Starts};
use super::standard::{RowFacts, StandardBuilder, VersionNames};
use crate::prediction_log::entry::{Entry, Outcome};
use crate::prediction_log::sampling_policy::{hash_of, keeps};
use crate::routing::Arm;
use crate::tensor::Tensor;

/// What rows are given by whoever writes them.
#[derive(Debug, Clone, Copy)]
pub struct RowContext<'a> {
    /// Number of the gateway, as in its prediction ids.
    pub gateway: u16,
    /// Start of the process, Unix time in ms.
    pub incarnation: u64,
    /// Number of the first row that is written of this entry; those after it follow.
    pub first_seq: u64,
    /// Whether there is room on the disk for what models took and gave.
    pub payload: bool,
    /// The log's key, for columns that are hashed.
    pub hmac_key: &'a [u8],
}

/// What became of an entry's rows: those written and those sampled out are all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    pub written: usize,
    pub sampled_out: usize,
    /// Of those written: rows without tensors that were too large.
    pub truncated: usize,
}

/// One version's rows on their way into a batch.
#[derive(Debug)]
pub struct RowsBuilder {
    version: Arc<VersionLog>,
    standard: StandardBuilder,
    columns: Vec<ColumnBuilder>,
    // Kept from entry to entry for their memory.
    starts: Starts,
    kept: Vec<Kept>,
    /// Flags that all rows have.
    flags: u32,
}

/// A row that is written.
#[derive(Debug, Clone, Copy)]
struct Kept {
    index: usize,
    flags: u32,
}

impl RowsBuilder {
    pub fn new(version: Arc<VersionLog>) -> Self {
        let columns = version.plan.columns.iter().map(ColumnBuilder::new).collect();
        let standard = StandardBuilder::new(version.plan.standard);
        let rules = version.plan.columns.iter().any(|column| column.redaction.is_some());
        let flags = if rules || version.plan.standard != Default::default() { flags::REDACTED } else { 0 };
        Self { version, standard, columns, starts: Starts::default(), kept: Vec::new(), flags }
    }

    /// Samples an entry's rows, redacts those that are kept and appends them. The entry is one of this version.
    pub fn push(&mut self, entry: &Entry, context: &RowContext<'_>) -> Pushed {
        self.push_rows(entry, 0..entry.rows, context)
    }

    /// The same for some rows of an entry that has more than a batch should hold: a request of one byte a row can be of
    /// millions, each of which takes some 300 bytes here.
    pub fn push_rows(&mut self, entry: &Entry, rows: Range<usize>, context: &RowContext<'_>) -> Pushed {
        let offered = rows.len();
        let always = entry.arm != Arm::Stable || entry.outcome != Outcome::Answered;
        let probability = if always { 1.0 } else { self.version.settings.sample };
        self.sample(entry, rows, probability);
        if self.kept.is_empty() {
            return Pushed { sampled_out: offered, ..Pushed::default() };
        }
        self.append_side(Side::Input, &entry.inputs, entry.rows, context);
        self.append_side(Side::Output, &entry.outputs, entry.rows, context);
        for (at, kept) in self.kept.iter().enumerate() {
            let facts = RowFacts {
                index: kept.index,
                seq: context.first_seq + at as u64,
                sample_probability: probability as f32,
                flags: kept.flags,
            };
            self.standard.push(entry, facts, context);
        }
        let is_truncated = |kept: &&Kept| kept.flags & flags::TRUNCATED != 0;
        Pushed {
            written: self.kept.len(),
            sampled_out: offered - self.kept.len(),
            truncated: self.kept.iter().filter(is_truncated).count(),
        }
    }

    /// Rows that [`Self::finish`] would give.
    pub fn rows(&self) -> usize {
        self.standard.len()
    }

    /// About the bytes that [`Self::finish`] would give.
    pub fn bytes(&self) -> usize {
        let names = self.version.model.len() + self.version.digest.len();
        let columns: usize = self.columns.iter().map(ColumnBuilder::bytes).sum();
        self.standard.bytes() + self.rows() * names + columns
    }

    /// The rows since the last batch. Begins anew.
    pub fn finish(&mut self) -> RecordBatch {
        let version = &self.version;
        let names = VersionNames { model: &version.model, version: version.version, digest: &version.digest };
        let mut arrays = self.standard.finish(&names);
        let fields = version.schema.fields().iter().skip(arrays.len());
        arrays.extend(self.columns.iter_mut().zip(fields).map(|(column, field)| column.finish(field)));
        RecordBatch::try_new(version.schema.clone(), arrays).expect("columns and schema come from one plan")
    }

    /// Fills `kept` with those of these rows that are written.
    fn sample(&mut self, entry: &Entry, rows: Range<usize>, probability: f64) {
        let version = &self.version;
        let flags = self.flags;
        self.kept.clear();
        let row = |index| Kept { index, flags };
        let column = version.plan.sample_by.filter(|_| probability < 1.0).map(|at| &version.plan.columns[at]);
        let Some(column) = column else {
            if keeps(entry.sample_hash, probability) {
                self.kept.extend(rows.map(row));
            }
            return;
        };
        let tensors = if column.side == Side::Input { &entry.inputs } else { &entry.outputs };
        let cut = version.layout(column.side, column.tensor).cut;
        let slices =
            tensors.get(column.tensor).and_then(|tensor| Slices::of(tensor, cut, entry.rows, &mut self.starts));
        let hash = |index: usize| match &slices {
            Some(slices) if column.is_feature && column.element < slices.row_elements() => {
                hash_of(slices.element(index, column.element))
            }
            Some(slices) => hash_of(&slices.row(index)),
            None => entry.sample_hash,
        };
        self.kept.extend(rows.filter(|&index| keeps(hash(index), probability)).map(row));
    }

    fn append_side(&mut self, side: Side, tensors: &[Tensor], rows: usize, context: &RowContext<'_>) {
        let Self { version, columns, starts, kept, .. } = self;
        let most_bytes = version.settings.max_tensor_bytes;
        for (at, layout) in version.layouts(side).iter().enumerate() {
            let tensor = tensors.get(at);
            let fitting = tensor.filter(|tensor| tensor.dtype() == layout.dtype);
            let slices = fitting.and_then(|tensor| Slices::of(tensor, layout.cut, rows, starts));
            if let (Side::Output, Some(slices), Some(tensor)) = (side, &slices, tensor) {
                let range = version.settings.output_ranges.get(&layout.name).copied();
                mark_values(slices, tensor, layout.cut, range, kept);
            }
            let places = version.places(side, at);
            for (column, builder) in version.plan.columns[places.clone()].iter().zip(&mut columns[places]) {
                for kept in kept.iter_mut() {
                    let whole = slices.as_ref().filter(|slices| slices.row_bytes(kept.index) <= most_bytes);
                    kept.flags |= match whole {
                        Some(slices) if context.payload => {
                            builder.push(slices, kept.index, column, context.hmac_key).flag()
                        }
                        whole => {
                            builder.push_null();
                            match (tensor, whole) {
                                // A model that failed gave nothing.
                                (None, _) => 0,
                                (Some(_), Some(_)) => flags::PAYLOAD_DROPPED,
                                // Too large, or not of the shape that the model declares.
                                (Some(_), None) => flags::TRUNCATED,
                            }
                        }
                    };
                }
            }
        }
    }
}

impl Appended {
    /// The flag that it gives its row.
    fn flag(self) -> u32 {
        match self {
            Self::AsIs => 0,
            Self::Lossy => flags::LOSSY_TEXT,
            Self::Left => flags::TRUNCATED,
        }
    }
}

/// Marks rows with numbers that an answer should not have.
fn mark_values(slices: &Slices<'_>, tensor: &Tensor, cut: Cut, range: Option<(f64, f64)>, kept: &mut [Kept]) {
    let dtype = tensor.dtype();
    let bits = |raw: &[u8]| {
        let mut bits = if flags::has_non_finite(dtype, raw) { flags::NON_FINITE } else { 0 };
        if range.is_some_and(|range| flags::leaves_range(dtype, raw, range)) {
            bits |= flags::OUT_OF_RANGE;
        }
        bits
    };
    if matches!(cut, Cut::Axis(_)) {
        kept.iter_mut().for_each(|kept| kept.flags |= bits(&slices.row(kept.index)));
    } else {
        // All rows share the tensor, which is looked at once.
        let shared = bits(tensor.data());
        kept.iter_mut().for_each(|kept| kept.flags |= shared);
    }
}
