//! Where GatherND's and ScatterND's rows of indices point.

use tract_onnx::tract_hir::internal::*;

use super::unfit::unfit;

/// Which of the blocks that `dims` count a row of indices is of, one index for each axis; a negative one counts from the end.
///
/// # Errors
/// `Unfit` for an index that is out of range.
pub fn block(operator: &str, row: &[i64], dims: &[usize]) -> TractResult<usize> {
    let mut block = 0;
    for (&index, &length) in row.iter().zip(dims) {
        let signed = i64::try_from(length)?;
        if !(-signed..signed).contains(&index) {
            return Err(unfit(format!("{operator}: index {index} along an axis of {length}")));
        }
        block = block * length + usize::try_from(if index < 0 { index + signed } else { index })?;
    }
    Ok(block)
}
