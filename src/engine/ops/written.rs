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
    ensure!(T::datum_type().is_number(), "any bits are a number, of {:?} they aren't", T::datum_type());
    // SAFETY: any bits are a value of such a type.
    let mut tensor = unsafe { Tensor::uninitialized::<T>(shape)? };
    write(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?)?;
    Ok(tensor)
}
