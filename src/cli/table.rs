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
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
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
