//! What operators ask of their inputs.

use tract_onnx::tract_hir::internal::*;

/// The inputs of an operator that has just so many.
///
/// # Errors
/// Another number of them.
pub fn exactly<'a, const N: usize>(inputs: &[&'a TypedFact]) -> TractResult<[&'a TypedFact; N]> {
    inputs.try_into().map_err(|_| anyhow!("{} inputs instead of {N}", inputs.len()))
}

/// The integers of an input that decides shapes.
///
/// # Errors
/// An input that is not known at load, by `name`.
pub fn constant_ints(input: &TypedFact, name: &str) -> TractResult<Vec<i64>> {
    integers(input.konst.as_ref().with_context(|| format!("expected {name} as a constant"))?)
}

/// The integers of a tensor.
///
/// # Errors
/// What is no number.
pub fn integers(tensor: &Tensor) -> TractResult<Vec<i64>> {
    Ok(tensor.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// An axis counted from the front.
///
/// # Errors
/// One that isn't there.
pub fn axis_of(axis: i64, rank: usize) -> TractResult<usize> {
    let from_front = if axis < 0 { axis.checked_add(i64::try_from(rank)?) } else { Some(axis) };
    let axis = from_front.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    axis.with_context(|| format!("an axis that is none of {rank}"))
}

/// Whether a value is one of tract's sizes that hang on symbols, which tract's own operators are to compute on.
pub fn hangs_on_symbols(input: &TypedFact) -> bool {
    let known = input.konst.as_ref().filter(|_| input.datum_type.is_tdim());
    known.is_some_and(|value| integers(value).is_err())
}

/// The type in which integers are computed on. tract makes a size of what is cast to INT64, in the file or by itself.
pub fn plain(given: DatumType) -> DatumType {
    if given.is_tdim() { DatumType::I64 } else { given }
}
