//! Which columns a question names, and whether any file has them.

use super::{Query, QueryError};
use crate::error::nearest;
use crate::prediction_log::read::{ReadError, Scan, list};

/// The columns of the files that a scan would read, in the order of their first file.
///
/// # Errors
/// As [`list`].
pub fn known_columns(scan: &Scan) -> Result<Vec<String>, ReadError> {
    let mut known = vec![];
    for source in list(scan)? {
        extend(&mut known, source.columns(scan)?);
    }
    Ok(known)
}

/// Refuses a question that names a column which no file has; a log without files has every column.
pub fn check(query: &Query) -> Result<(), QueryError> {
    let named = named(query);
    let mut known: Vec<String> = vec![];
    for source in list(&query.scan)? {
        if named.iter().all(|name| known.contains(name)) {
            return Ok(());
        }
        extend(&mut known, source.columns(&query.scan)?);
    }
    match named.into_iter().find(|name| !known.contains(name)) {
        Some(column) if !known.is_empty() => {
            let nearest = nearest(&column, known.iter().map(String::as_str));
            Err(QueryError::UnknownColumn { column, nearest, known })
        }
        _ => Ok(()),
    }
}

/// The columns that must be read; `None`: all.
pub fn needed(query: &Query) -> Option<Vec<String>> {
    if query.select.is_empty() && query.by.is_empty() {
        return None;
    }
    // Something must be read for rows to be counted.
    Some([named(query), vec![query.scan.table.time_column().to_owned()]].concat())
}

fn named(query: &Query) -> Vec<String> {
    let conditions = query.conditions.iter().map(|condition| condition.column.clone());
    let select = query.select.iter().filter_map(|select| select.column().map(str::to_owned));
    conditions.chain(select).chain(query.by.iter().cloned()).collect()
}

fn extend(known: &mut Vec<String>, more: Vec<String>) {
    for name in more {
        if !known.contains(&name) {
            known.push(name);
        }
    }
}
