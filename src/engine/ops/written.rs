//! Tensors that an operator writes itself. tract copies a vector that becomes a tensor.

use tract_onnx::tract_hir::internal::*;

/// A tensor of this shape whose values `write` writes, all of them; what lies there before is whatever was in memory.
///
/// # Errors
/// Those of `write`, and tract's for a shape that memory doesn't hold.
pub fn written<T: Datum + Copy>(
    shape: &[usize],
    write: impl FnOnce(&mut [T]) -> TractResult<()>,
) -> TractResult<Tensor> {
    let mut tensor = unwritten(T::datum_type(), shape)?;
    write(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?)?;
    Ok(tensor)
}

/// A tensor of numbers that are whatever was in memory: for one that writes all of them.
///
/// # Errors
/// What is no number, and tract's for a shape that memory doesn't hold.
pub fn unwritten(datum_type: DatumType, shape: &[usize]) -> TractResult<Tensor> {
    ensure!(datum_type.is_number(), "any bits are a number, of {datum_type:?} they aren't");
    // SAFETY: any bits are a value of such a type.
    unsafe { Tensor::uninitialized_dt(datum_type, shape) }
}
