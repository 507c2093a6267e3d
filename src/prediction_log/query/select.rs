//! Columns of an answer, such as `model_version`, `count` and `avg(out_score)`.

use std::fmt;
use std::str::FromStr;

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    Column(String),
    /// The number of rows.
    Count,
    /// What the values that are there come to.
    Of(Function, String),
}

/// How values are put together. Nulls are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl Function {
    const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Avg, Self::Min, Self::Max];

    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
        }
    }
}

impl Select {
    /// The column that it reads.
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Column(column) | Self::Of(_, column) => Some(column),
            Self::Count => None,
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => f.write_str(column),
            Self::Count => f.write_str("count"),
            Self::Of(function, column) => write!(f, "{}({column})", function.name()),
        }
    }
}

impl FromStr for Select {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "'{text}' can't be selected: expected a column, count, count(column), sum(column), avg(column), min(column) or max(column)"
            )
        };
        let text = text.trim();
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if let Some((function, rest)) = text.split_once('(') {
            let column = rest.strip_suffix(')').map(str::trim).ok_or_else(expected)?;
            let function = function.trim().to_lowercase();
            let function = Function::ALL.into_iter().find(|known| known.name() == function).ok_or_else(expected)?;
            return match column {
                "*" if function == Function::Count => Ok(Self::Count),
                column if is_name(column) => Ok(Self::Of(function, column.to_owned())),
                _ => Err(expected()),
            };
        }
        match text {
            "count" => Ok(Self::Count),
            column if is_name(column) => Ok(Self::Column(column.to_owned())),
            _ => Err(expected()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_sums_read_and_print_alike() {
        for text in ["seq", "count", "count(in_x)", "sum(seq)", "avg(out_score)", "min(ts)", "max(in_width)"] {
            assert_eq!(text.parse::<Select>().unwrap().to_string(), text);
        }
        assert_eq!(" AVG( out_score ) ".parse::<Select>().unwrap().to_string(), "avg(out_score)");
        assert_eq!("count(*)".parse(), Ok(Select::Count));
        for odd in ["", "avg", "median(x)", "avg(", "avg()", "sum(*)", "a b", "avg(a)b"] {
            let read = odd.parse::<Select>();
            assert!(read.is_err() || odd == "avg", "{odd}: {read:?}");
        }
    }
}
