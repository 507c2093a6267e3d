//! All feedback on one prediction.

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::UInt32Type;

use super::error::ReadError;
use super::scan::Scan;
use super::typed::{primitives, texts};

/// Every piece of feedback on the row of a prediction, told by its id or by its request and row, as [`super::lookup`] gives
/// the row. `all`: the table of feedback.
///
/// # Errors
/// As [`Scan::batches`]; `Broken` for a row without the columns that name it.
pub fn feedback_on(all: &Scan, prediction: &RecordBatch) -> Result<Vec<RecordBatch>, ReadError> {
    let missing =
        |column: &str| ReadError::broken(&all.data_dir, format!("column '{column}' is missing or of another type"));
    let text = |column: &str| {
        let found = texts(prediction, column).filter(|array| !array.is_empty());
        found.map(|array| array.value(0).to_owned()).ok_or_else(|| missing(column))
    };
    let (id, request, model) = (text("prediction_id")?, text("request_id")?, text("model_name")?);
    let row = primitives::<UInt32Type>(prediction, "row_index");
    let row = row.filter(|row| !row.is_empty()).map(|row| row.value(0)).ok_or_else(|| missing("row_index"))?;
    let scan = Scan { model: Some(model), ..all.clone() };
    let mut found = vec![];
    for batch in scan.batches()? {
        let batch = batch?;
        let texts = |column: &str| texts(&batch, column).ok_or_else(|| missing(column));
        let (ids, requests) = (texts("prediction_id")?, texts("request_id")?);
        let rows = primitives::<UInt32Type>(&batch, "row_index").ok_or_else(|| missing("row_index"))?;
        let is_meant = |at: usize| {
            if ids.is_valid(at) {
                return ids.value(at) == id;
            }
            requests.is_valid(at) && requests.value(at) == request && (rows.is_null(at) || rows.value(at) == row)
        };
        let kept: BooleanArray = (0..batch.num_rows()).map(|at| Some(is_meant(at))).collect();
        let told = filter_record_batch(&batch, &kept).map_err(|cause| ReadError::broken(&all.data_dir, cause))?;
        if told.num_rows() > 0 {
            found.push(told);
        }
    }
    Ok(found)
}
