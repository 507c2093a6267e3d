//! Aligned columns for people.

use std::fmt;

/// A header and rows, printed two spaces apart. The last column is as wide as it is.
#[derive(Debug, Clone)]
pub struct Table<const COLUMNS: usize> {
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub fn new(header: [&str; COLUMNS]) -> Self {
        Self { rows: vec![header.map(str::to_owned)] }
    }

    pub fn row(&mut self, cells: [String; COLUMNS]) {
        // A line break or an escape sequence in a reason would break the row.
        self.rows.push(cells.map(|cell| cell.replace(char::is_control, " ")));
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&aligned(&self.rows))
    }
}

/// A line for each row, its cells two spaces apart and as wide as the widest of their column; all rows have as many as the
/// first.
pub fn aligned<Row: AsRef<[String]>>(rows: &[Row]) -> String {
    let mut widths = vec![0; rows.first().map_or(0, |row| row.as_ref().len())];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &Row| {
        let cells = row.as_ref().iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_a_row_stays_one_line() {
        let mut table = Table::new(["MODEL", "V", "REASON"]);
        table.row(["éa".into(), "12".into(), "broken\nfile".into()]);
        table.row(["digits-large".into(), "1".into(), String::new()]);
        assert_eq!(
            table.to_string(),
            "MODEL         V   REASON\n\
             éa            12  broken file\n\
             digits-large  1\n"
        );
    }
}
