//! Rows put together by the values of some columns.

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::DataType;
use arrow::row::{OwnedRow, RowConverter, SortField};
use serde_json::Value;

use super::aggregate::{Numbers, Sum};
use super::cells::cell;
use super::select::Select;
use super::{Answer, QueryError};

/// Most groups that are kept in memory.
pub const MAX_GROUPS: usize = 100_000;

/// What has been added up so far.
pub struct Groups {
    by: Vec<String>,
    select: Vec<Select>,
    /// By the JSON of the group's values: files may hold one column in different types.
    known: HashMap<String, usize>,
    groups: Vec<(Vec<Value>, Vec<Sum>)>,
    /// Of the last batch's types: its rows' keys lead to their groups without making JSON of each.
    keys: Option<Keys>,
}

struct Keys {
    types: Vec<DataType>,
    converter: RowConverter,
    groups: HashMap<OwnedRow, usize>,
}

impl Groups {
    pub fn new(by: Vec<String>, select: Vec<Select>) -> Self {
        let mut groups = Self { by, select, known: HashMap::new(), groups: vec![], keys: None };
        if groups.by.is_empty() {
            // One group, also of no rows.
            groups.groups.push((vec![], vec![Sum::default(); groups.select.len()]));
        }
        groups
    }

    /// # Errors
    /// `TooManyGroups`; `Nested` and `NoNumbers` for columns that can't be used so.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let groups = self.groups_of(batch)?;
        for (at, select) in self.select.iter().enumerate() {
            let Select::Of(function, name) = select else {
                groups.iter().for_each(|group| self.groups[*group].1[at].count());
                continue;
            };
            let Some(column) = batch.column_by_name(name) else { continue };
            let numbers = Numbers::of(column, name, *function)?;
            for (row, group) in groups.iter().enumerate() {
                self.groups[*group].1[at].add(&numbers, row);
            }
        }
        Ok(())
    }

    /// The group of each row.
    fn groups_of(&mut self, batch: &RecordBatch) -> Result<Vec<usize>, QueryError> {
        if self.by.is_empty() {
            return Ok(vec![0; batch.num_rows()]);
        }
        let mut columns: Vec<ArrayRef> = vec![];
        for name in &self.by {
            let column = batch.column_by_name(name).cloned();
            let column = column.unwrap_or_else(|| new_null_array(&DataType::Null, batch.num_rows()));
            if column.data_type().is_nested() {
                return Err(QueryError::Nested { column: name.clone(), use_for: "grouped by" });
            }
            columns.push(column);
        }
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        let mut keys = match self.keys.take().filter(|keys| keys.types == types) {
            Some(keys) => keys,
            None => {
                let fields = types.iter().cloned().map(SortField::new).collect();
                Keys { types, converter: RowConverter::new(fields)?, groups: HashMap::new() }
            }
        };
        let rows = keys.converter.convert_columns(&columns)?;
        let mut found = Vec::with_capacity(batch.num_rows());
        for (at, row) in rows.iter().enumerate() {
            let key = row.owned();
            let group = match keys.groups.get(&key) {
                Some(group) => *group,
                None => {
                    let group = self.group(columns.iter().map(|column| cell(column, at)).collect())?;
                    keys.groups.insert(key, group);
                    group
                }
            };
            found.push(group);
        }
        self.keys = Some(keys);
        Ok(found)
    }

    fn group(&mut self, values: Vec<Value>) -> Result<usize, QueryError> {
        let name = Value::from(values.clone()).to_string();
        if let Some(group) = self.known.get(&name) {
            return Ok(*group);
        }
        if self.groups.len() >= MAX_GROUPS {
            return Err(QueryError::TooManyGroups { by: self.by.clone() });
        }
        self.groups.push((values, vec![Sum::default(); self.select.len()]));
        self.known.insert(name, self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }

    /// The first groups in the order of their values.
    pub fn answer(mut self, limit: usize) -> Answer {
        self.groups.sort_by(|(a, _), (b, _)| {
            a.iter().zip(b).map(|(a, b)| order(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        });
        let is_cut = self.groups.len() > limit;
        let select = self.select;
        let row = |(values, sums): (Vec<Value>, Vec<Sum>)| {
            values.into_iter().chain(select.iter().zip(&sums).map(|(select, sum)| sum.json(select))).collect()
        };
        let rows = self.groups.into_iter().take(limit).map(row).collect();
        let columns = self.by.into_iter().chain(select.iter().map(Select::to_string)).collect();
        Answer { columns, rows, is_cut }
    }
}

/// Nothing before numbers, numbers by their value, then texts.
fn order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        _ => 3,
    };
    let whole = |value: &Value| value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    let by_value = || match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.as_str().cmp(&b.as_str()),
        },
    };
    rank(a).cmp(&rank(b)).then_with(by_value)
}
