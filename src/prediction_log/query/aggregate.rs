//! What one column's values come to.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use serde_json::Value;

use super::cells::{double, moment};
use super::select::Function;
use super::{QueryError, Select};

/// Numbers of a column in the widest type of their kind.
pub enum Numbers {
    Signed(ArrayRef),
    Unsigned(ArrayRef),
    Floats(ArrayRef),
    /// Unix time in µs.
    Times(ArrayRef),
    /// Only counted.
    Others(ArrayRef),
}

impl Numbers {
    /// # Errors
    /// `NoNumbers` where the function needs them.
    pub fn of(column: &ArrayRef, name: &str, function: Function) -> Result<Self, QueryError> {
        let kind = column.data_type();
        let no_numbers =
            || QueryError::NoNumbers { function: function.name(), column: name.to_owned(), kind: kind.to_string() };
        Ok(match kind {
            _ if function == Function::Count => Self::Others(column.clone()),
            DataType::Timestamp(TimeUnit::Microsecond, _) if matches!(function, Function::Min | Function::Max) => {
                Self::Times(cast(column, &DataType::Int64)?)
            }
            kind if kind.is_unsigned_integer() => Self::Unsigned(cast(column, &DataType::UInt64)?),
            kind if kind.is_signed_integer() => Self::Signed(cast(column, &DataType::Int64)?),
            kind if kind.is_floating() => Self::Floats(cast(column, &DataType::Float64)?),
            _ => return Err(no_numbers()),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        let (Self::Signed(array)
        | Self::Unsigned(array)
        | Self::Floats(array)
        | Self::Times(array)
        | Self::Others(array)) = self;
        array.is_null(row)
    }
}

/// The values of one group so far.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    count: u64,
    whole: i128,
    real: f64,
    least: Option<Extreme>,
    most: Option<Extreme>,
    /// Whether there was a number that is not whole, so that sums are those of floats.
    is_real: bool,
}

#[derive(Debug, Clone, Copy)]
enum Extreme {
    Whole(i128),
    Real(f64),
    Time(i64),
}

impl Extreme {
    fn is_less(self, other: Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a < b,
            (Self::Time(a), Self::Time(b)) => a < b,
            (a, b) => a.real().total_cmp(&b.real()).is_lt(),
        }
    }

    fn real(self) -> f64 {
        match self {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
            Self::Time(value) => value as f64,
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Whole(value) => whole(value),
            Self::Real(value) => double(value),
            Self::Time(value) => moment(value).into(),
        }
    }
}

impl Sum {
    /// Counts a row.
    pub fn count(&mut self) {
        self.count += 1;
    }

    /// Takes up a value; nothing is left out.
    pub fn add(&mut self, numbers: &Numbers, row: usize) {
        if numbers.is_null(row) {
            return;
        }
        self.count += 1;
        let value = match numbers {
            Numbers::Signed(array) => Extreme::Whole(array.as_primitive::<Int64Type>().value(row).into()),
            Numbers::Unsigned(array) => Extreme::Whole(array.as_primitive::<UInt64Type>().value(row).into()),
            Numbers::Floats(array) => Extreme::Real(array.as_primitive::<Float64Type>().value(row)),
            Numbers::Times(array) => Extreme::Time(array.as_primitive::<Int64Type>().value(row)),
            Numbers::Others(_) => return,
        };
        match value {
            Extreme::Whole(value) => self.whole = self.whole.saturating_add(value),
            Extreme::Real(value) => {
                self.real += value;
                self.is_real = true;
            }
            Extreme::Time(_) => {}
        }
        if self.least.is_none_or(|least| value.is_less(least)) {
            self.least = Some(value);
        }
        if self.most.is_none_or(|most| most.is_less(value)) {
            self.most = Some(value);
        }
    }

    /// What it comes to; null for the sum, mean and extremes of nothing.
    pub fn json(&self, select: &Select) -> Value {
        let function = match select {
            Select::Of(function, _) => *function,
            Select::Count | Select::Column(_) => Function::Count,
        };
        let sum = self.real + self.whole as f64;
        match function {
            Function::Count => self.count.into(),
            _ if self.count == 0 => Value::Null,
            Function::Sum if self.is_real => double(sum),
            Function::Sum => whole(self.whole),
            Function::Avg => double(sum / self.count as f64),
            Function::Min => self.least.map_or(Value::Null, Extreme::json),
            Function::Max => self.most.map_or(Value::Null, Extreme::json),
        }
    }
}

/// A whole number; as a float where JSON's integers end.
fn whole(value: i128) -> Value {
    i64::try_from(value)
        .map(Value::from)
        .or_else(|_| u64::try_from(value).map(Value::from))
        .unwrap_or_else(|_| double(value as f64))
}
