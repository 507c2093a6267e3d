//! Whether an output can ever be read as what its task predicts, told by its declared type and shape alone.

use crate::prediction_log::columns::is_float;
use crate::prediction_log::settings::Task;
use crate::signature::{Dim, TensorSpec};
use crate::tensor::{DataType, shape_text};

/// What a row of the output must be, for a message.
pub fn expected(task: Task) -> &'static str {
    match task {
        Task::Classification => "a class, or the probabilities of the classes, for each row",
        Task::Regression => "one number for each row",
        Task::Click => "one score, or the probabilities of no and yes, for each row",
    }
}

/// Whether rows of the output, which lie along `axis`, may be what the task needs. Only what is declared to be otherwise is
/// refused: a dimension that varies may have the right size.
pub fn fits(task: Task, spec: &TensorSpec, axis: Option<usize>) -> bool {
    if spec.dtype == DataType::Bytes && task != Task::Classification {
        return false;
    }
    let Some(dims) = &spec.dims else { return true };
    let of_row = dims.iter().enumerate().filter(|(at, _)| Some(*at) != axis).map(|(_, dim)| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Named(_) | Dim::Unknown => None,
    });
    let of_row: Vec<Option<usize>> = of_row.collect();
    let Some((last, others)) = of_row.split_last() else { return true };
    let most = match task {
        Task::Classification if is_float(spec.dtype) => usize::MAX,
        Task::Classification | Task::Regression => 1,
        Task::Click => 2,
    };
    // Several vectors in a row are none of its own.
    others.iter().all(|size| size.is_none_or(|size| size == 1)) && last.is_none_or(|size| (1..=most).contains(&size))
}

/// An output's type and shape, for a message.
pub fn declared(spec: &TensorSpec) -> String {
    format!("{} {}", spec.dtype, shape_text(&spec.wire_shape()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dtype: DataType, dims: Option<&[i64]>) -> TensorSpec {
        let dim = |size: &i64| usize::try_from(*size).map_or(Dim::Unknown, Dim::Fixed);
        TensorSpec { name: "y".into(), dtype, dims: dims.map(|dims| dims.iter().map(dim).collect()), classes: vec![] }
    }

    #[test]
    fn only_what_can_never_be_read_does_not_fit() {
        use DataType::{Bool, Bytes, Fp32, Int64};
        let batch = Some(0);
        for (task, dtype, dims, axis, expected) in [
            (Task::Regression, Fp32, Some(&[-1, 1][..]), batch, true),
            (Task::Regression, Int64, Some(&[-1][..]), batch, true),
            (Task::Regression, Fp32, Some(&[-1, 3][..]), batch, false),
            (Task::Regression, Fp32, Some(&[-1, -1][..]), batch, true),
            (Task::Regression, Fp32, Some(&[8][..]), None, false),
            (Task::Regression, Fp32, None, None, true),
            (Task::Regression, Bytes, Some(&[-1][..]), batch, false),
            (Task::Click, Fp32, Some(&[-1, 2][..]), batch, true),
            (Task::Click, Fp32, Some(&[-1, 3][..]), batch, false),
            (Task::Click, Fp32, Some(&[-1, 0][..]), batch, false),
            (Task::Classification, Fp32, Some(&[-1, 1000][..]), batch, true),
            (Task::Classification, Fp32, Some(&[-1, 2, 3][..]), batch, false),
            (Task::Classification, Fp32, Some(&[3, -1][..]), Some(1), true),
            (Task::Classification, Int64, Some(&[-1, 3][..]), batch, false),
            (Task::Classification, Bool, Some(&[-1, 1][..]), batch, true),
            (Task::Classification, Bytes, Some(&[-1, 1, 1][..]), batch, true),
            (Task::Classification, Bytes, Some(&[-1, 2][..]), batch, false),
        ] {
            assert_eq!(fits(task, &spec(dtype, dims), axis), expected, "{task:?} {dtype} {dims:?} {axis:?}");
        }
    }
}
