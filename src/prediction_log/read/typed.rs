//! Columns of a batch as the types that they should have.

use arrow::array::{ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch, StringArray};

/// A column of texts; `None` where there is none of this name, or it holds something else.
pub fn texts<'a>(batch: &'a RecordBatch, column: &str) -> Option<&'a StringArray> {
    batch.column_by_name(column)?.as_string_opt()
}

/// A column of numbers or times; `None` as for [`texts`].
pub fn primitives<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, column: &str) -> Option<&'a PrimitiveArray<T>> {
    batch.column_by_name(column)?.as_primitive_opt()
}
