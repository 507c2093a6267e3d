//! The columns of a training set: features, the label and its weight, and what a prediction was.

use std::sync::Arc;

use arrow::array::{ArrayRef, PrimitiveArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Metadata, Schema, SchemaRef, TimeUnit};

use super::{Export, ExportError};
use crate::prediction_log::read::{list, primitives, texts};
use crate::prediction_log::table::{META_MODEL, META_SCHEMA_VERSION, META_VERSION, SCHEMA_VERSION};

/// Key of a training set's metadata: the name of the feedback that its labels are.
pub const META_LABEL: &str = "headgate.label";

/// Columns of the log, in the order of the first version that has them.
#[derive(Debug)]
pub struct Columns {
    pub features: Vec<FieldRef>,
    pub outputs: Vec<FieldRef>,
}

impl Columns {
    /// The columns of every file within the bounds; one that some versions lack is null there.
    ///
    /// # Errors
    /// `MixedColumns` where two files disagree on a type.
    pub fn of(export: &Export) -> Result<Self, ExportError> {
        let scan = export.mature();
        let mut columns = Self { features: vec![], outputs: vec![] };
        let mut schemas: Vec<SchemaRef> = vec![];
        for source in list(&scan)? {
            schemas.extend(source.schema(&scan)?);
        }
        // Not the order in which files happen to lie there: that of versions, and within one version all files agree.
        schemas.sort_by_cached_key(|schema| {
            let version = schema.metadata().get(META_VERSION).and_then(|version| version.parse::<u64>().ok());
            (version, schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>())
        });
        for schema in schemas {
            for field in schema.fields() {
                match field.name().split_once('_') {
                    Some(("in", _)) => add(&mut columns.features, field)?,
                    Some(("out", _)) => add(&mut columns.outputs, field)?,
                    _ => {}
                }
            }
        }
        Ok(columns)
    }

    /// Names of all columns that are read from the log.
    pub fn names(&self) -> Vec<String> {
        let own = ["prediction_id", "ts", "model_version", "arm_probability", "sample_probability"];
        let fields = self.features.iter().chain(&self.outputs).map(|field| field.name().clone());
        own.map(str::to_owned).into_iter().chain(fields).collect()
    }

    /// The schema of the training set: features, label, weight, prediction_id, ts, model_version, outputs; with implicit
    /// negatives `label_source` behind the label.
    pub fn schema(&self, export: &Export, is_number: bool) -> SchemaRef {
        let label = if is_number { DataType::Float64 } else { DataType::Utf8 };
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let own = [
            Field::new("label", label, false),
            Field::new("weight", DataType::Float64, false),
            Field::new("prediction_id", DataType::Utf8, false),
            Field::new("ts", time, false),
            Field::new("model_version", DataType::UInt64, false),
        ];
        let mut own = own.to_vec();
        if export.negatives.is_some() {
            own.insert(1, Field::new("label_source", DataType::Utf8, false));
        }
        let own = own.into_iter().map(Arc::new);
        let fields = self.features.iter().cloned().chain(own).chain(self.outputs.iter().cloned());
        let version = SCHEMA_VERSION.to_string();
        let facts = [(META_SCHEMA_VERSION, version.as_str()), (META_MODEL, &export.model), (META_LABEL, &export.label)];
        Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), Metadata::from(facts)))
    }
}

/// A column of a batch, or nulls where its version has none.
pub fn column(batch: &RecordBatch, field: &Field) -> ArrayRef {
    let found = batch.column_by_name(field.name()).cloned();
    found.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
}

/// A column of texts.
pub fn text<'a>(batch: &'a RecordBatch, column: &'static str) -> Result<&'a StringArray, ExportError> {
    texts(batch, column).ok_or(ExportError::Column { column, expected: "a text" })
}

/// A column of numbers or times.
pub fn primitive<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    column: &'static str,
) -> Result<&'a PrimitiveArray<T>, ExportError> {
    primitives(batch, column).ok_or(ExportError::Column { column, expected: "of the expected type" })
}

fn add(known: &mut Vec<FieldRef>, field: &FieldRef) -> Result<(), ExportError> {
    let Some(at) = known.iter().position(|known| known.name() == field.name()) else {
        // What a version notes of its columns beside their shapes is not the training set's.
        let mut metadata = field.metadata().clone();
        metadata.retain(|key, _| key.starts_with("ARROW:extension:"));
        known.push(Arc::new(field.as_ref().clone().with_nullable(true).with_metadata(metadata)));
        return Ok(());
    };
    let (first, second) = (describe(&known[at]), describe(field));
    if first == second {
        return Ok(());
    }
    Err(ExportError::MixedColumns { column: field.name().clone(), first, second })
}

/// The type, with the shape that an extension gives it.
fn describe(field: &Field) -> String {
    let shape = field.metadata().get("ARROW:extension:metadata");
    shape.map_or_else(|| field.data_type().to_string(), |shape| format!("{} {shape}", field.data_type()))
}
