//! Questions to the log: which rows, and what they add up to. Evaluated batch by batch with Arrow's own kernels.

mod aggregate;
mod cells;
mod columns;
mod condition;
mod groups;
mod select;

use arrow::array::RecordBatch;
use arrow::compute::{and, filter_record_batch};
use arrow::error::ArrowError;
use serde_json::Value;

pub use self::cells::{cell, double, moment, object, text};
pub use self::columns::known_columns;
pub use self::condition::{Condition, Operator, Test};
use self::groups::Groups;
pub use self::groups::MAX_GROUPS;
pub use self::select::{Function, Select};
use super::read::{ReadError, Scan, settled};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Query {
    pub scan: Scan,
    /// All of them must be met.
    pub conditions: Vec<Condition>,
    /// One row of the answer for each combination of these columns' values.
    pub by: Vec<String>,
    /// Columns of the answer; empty with `by`: the number of rows; empty without: all columns.
    pub select: Vec<Select>,
    /// Most rows of the answer.
    pub limit: usize,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    /// There are more rows than the limit.
    pub is_cut: bool,
}

impl Answer {
    /// Each row as an object by its columns' names.
    pub fn objects(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| self.columns.iter().cloned().zip(row.iter().cloned()).collect();
        self.rows.iter().map(object).collect()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the log can't be evaluated: {0}")]
    Arrow(#[from] ArrowError),
    #[error("no row has a column '{column}'{}: there are {}", nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default(), known.join(", "))]
    UnknownColumn { column: String, nearest: Option<String>, known: Vec<String> },
    #[error("column '{column}' holds {kind}, and '{value}' is none")]
    Value { column: String, kind: String, value: String },
    #[error("column '{column}' holds lists, which can't be {use_for}")]
    Nested { column: String, use_for: &'static str },
    #[error("{function}({column}) needs numbers, and the column holds {kind}")]
    NoNumbers { function: &'static str, column: String, kind: String },
    #[error(
        "'{column}' is selected beside sums and counts: put it into --by as well, so that it has one value in each row"
    )]
    NotGrouped { column: String },
    #[error("there are more than {MAX_GROUPS} combinations of {}: narrow the question, or ask DuckDB", by.join(", "))]
    TooManyGroups { by: Vec<String> },
}

impl Query {
    /// The answer. Rows come in the order of the files; groups in that of their columns' values. Files that can't be read
    /// are left out as a whole where the scan does so.
    ///
    /// # Errors
    /// `QueryError`.
    pub fn run(&self) -> Result<Answer, QueryError> {
        settled(self.scan.left_out.as_ref(), || self.once())
    }

    fn once(&self) -> Result<Answer, QueryError> {
        columns::check(self)?;
        if self.by.is_empty() && self.select.iter().all(|select| matches!(select, Select::Column(_))) {
            return self.rows();
        }
        let select = self.grouped_select()?;
        let mut groups = Groups::new(self.by.clone(), select);
        for batch in self.scan_of(columns::needed(self)).batches()? {
            groups.add(&self.matching(&batch?)?)?;
        }
        Ok(groups.answer(self.limit))
    }

    fn rows(&self) -> Result<Answer, QueryError> {
        let mut wanted: Vec<String> = self.select.iter().filter_map(Select::column).map(str::to_owned).collect();
        if wanted.is_empty() {
            wanted = known_columns(&self.scan)?;
        }
        let mut answer = Answer { columns: wanted.clone(), ..Answer::default() };
        for batch in self.scan_of(columns::needed(self)).batches()? {
            let batch = self.matching(&batch?)?;
            for row in 0..batch.num_rows() {
                if answer.rows.len() >= self.limit {
                    answer.is_cut = true;
                    return Ok(answer);
                }
                let value =
                    |column: &String| batch.column_by_name(column).map_or(Value::Null, |array| cell(array, row));
                answer.rows.push(wanted.iter().map(value).collect());
            }
        }
        Ok(answer)
    }

    /// What is added up; a column beside it must be one of `by`, and is shown there.
    fn grouped_select(&self) -> Result<Vec<Select>, QueryError> {
        for select in &self.select {
            if let Select::Column(column) = select
                && !self.by.contains(column)
            {
                return Err(QueryError::NotGrouped { column: column.clone() });
            }
        }
        let sums: Vec<Select> =
            self.select.iter().filter(|select| !matches!(select, Select::Column(_))).cloned().collect();
        Ok(if sums.is_empty() { vec![Select::Count] } else { sums })
    }

    fn scan_of(&self, columns: Option<Vec<String>>) -> Scan {
        Scan { columns, ..self.scan.clone() }
    }

    fn matching(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let mut met = None;
        for condition in &self.conditions {
            let rows = condition.rows(batch)?;
            met = Some(match met {
                None => rows,
                Some(before) => and(&before, &rows)?,
            });
        }
        Ok(met.map_or_else(|| Ok(batch.clone()), |met| filter_record_batch(batch, &met))?)
    }
}

#[cfg(test)]
mod tests;
