//! What a version's rows look like: its columns, made once when it is loaded, and the way of tensors into them and back.
//!
//! A row is one instance. First come the [`standard`] columns: whose prediction it is, when and by whom it was answered,
//! and with which probability it was written. Then, for each input and output, `in_<name>` or `out_<name>`:
//!
//! | a row of the tensor is | its column is |
//! |---|---|
//! | one element | of the element's type |
//! | an input whose elements `features` names | one column for each, `in_<feature>` |
//! | of a known shape | a list of a fixed size, marked as a tensor of its shape |
//! | of one dimension of unknown size | a list |
//! | of more dimensions, or of an unknown number | a struct of `shape` and `data` |
//!
//! FP16 and BF16 are widened to FP32 and BYTES are text. Along a proven batch axis each instance is a row; inputs that the
//! instances share are part of every row, and a model without a proven axis gives one row a request. A list of a fixed size
//! takes its room where it is null as well, so a shape whose rows are all too large to be written becomes a plain list.
//!
//! [`layout`] decides the columns of a tensor, [`rules`] applies the operator's settings to them, [`slices`] cuts tensors
//! into rows, [`rows`] samples, redacts and appends, and [`back`] makes tensors of a row again by what [`field_notes`] left
//! in the file's schema.

pub mod back;
mod builder;
mod elements;
mod field_notes;
pub mod flags;
mod layout;
mod names;
mod rows;
mod rules;
mod slices;
mod standard;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

pub use self::back::{NotReplayable, tensors_of};
pub use self::field_notes::Notes;
pub use self::layout::{Column, Cut, Kind, Side, TensorLayout, is_float};
pub use self::rows::{Pushed, RowContext, RowsBuilder};
use self::rules::Plan;
pub use self::rules::{RuleError, check, columns};
pub use self::slices::{Slices, Starts};
use super::quality;
use super::ring::RowCounts;
use super::settings::LogSettings;
use super::table::{
    META_DIGEST, META_MODEL, META_PROGRAM, META_RULES, META_SCHEMA_VERSION, META_TABLE, META_VERSION, SCHEMA_VERSION,
    Table,
};
use crate::signature::Signature;

/// One loaded version as the log sees it. Outlives the version's service for as long as entries of it wait.
#[derive(Debug)]
pub struct VersionLog {
    pub model: String,
    pub version: u64,
    /// sha256 of the version's files, hexadecimal.
    pub digest: String,
    pub settings: LogSettings,
    pub schema: SchemaRef,
    /// `None` where the settings say nothing of quality.
    pub quality: Option<Arc<quality::Plan>>,
    pub counts: Arc<RowCounts>,
    plan: Plan,
}

impl VersionLog {
    /// Works out the columns.
    ///
    /// # Errors
    /// `RuleError` for settings that don't fit the model.
    pub fn new(
        (model, version, digest): (&str, u64, &str),
        signature: &Signature,
        settings: LogSettings,
        counts: Arc<RowCounts>,
    ) -> Result<Self, RuleError> {
        let plan = Plan::of(signature, &settings)?;
        let mut log = Self {
            model: model.to_owned(),
            version,
            digest: digest.to_owned(),
            settings,
            schema: Arc::new(Schema::empty()),
            quality: None,
            counts,
            plan,
        };
        log.schema = Arc::new(log.make_schema());
        Ok(log)
    }

    /// The columns of tensors, in a row's order; the standard columns come before them.
    pub fn columns(&self) -> &[Column] {
        &self.plan.columns
    }

    /// The column of that name, `None` for standard columns.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.plan.columns.iter().find(|column| column.name == name)
    }

    /// How the tensors of one side lie in rows, in the signature's order.
    pub fn layouts(&self, side: Side) -> &[TensorLayout] {
        match side {
            Side::Input => &self.plan.inputs,
            Side::Output => &self.plan.outputs,
        }
    }

    /// How a tensor lies in rows.
    ///
    /// # Panics
    /// When there are not so many tensors.
    pub fn layout(&self, side: Side, tensor: usize) -> &TensorLayout {
        &self.layouts(side)[tensor]
    }

    /// Places of a tensor's columns among [`Self::columns`].
    fn places(&self, side: Side, tensor: usize) -> Range<usize> {
        let before = if side == Side::Input { 0 } else { self.plan.inputs.len() };
        self.plan.places[before + tensor].clone()
    }

    fn make_schema(&self) -> Schema {
        let mut fields = standard::fields();
        fields.extend(
            self.plan.columns.iter().map(|column| field_notes::field(column, self.layout(column.side, column.tensor))),
        );
        let notes = [
            (META_SCHEMA_VERSION, SCHEMA_VERSION.to_string()),
            (META_TABLE, Table::Predictions.name().to_owned()),
            (META_MODEL, self.model.clone()),
            (META_VERSION, self.version.to_string()),
            (META_DIGEST, self.digest.clone()),
            (META_PROGRAM, env!("CARGO_PKG_VERSION").to_owned()),
            (META_RULES, rules::digest(&self.settings)),
        ];
        let notes: HashMap<String, String> = notes.map(|(key, value)| (key.to_owned(), value)).into();
        Schema::new_with_metadata(fields, notes)
    }

    /// The same, with its predictions held against feedback.
    pub fn with_quality(self, quality: Option<quality::Plan>) -> Self {
        Self { quality: quality.map(Arc::new), ..self }
    }
}
