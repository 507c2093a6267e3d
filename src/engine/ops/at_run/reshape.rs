//! `ai.onnx.Reshape` (version 14) to a shape that a run computes.

use tract_onnx::tract_hir::internal::*;

use super::super::inputs::exactly;
use super::super::kernel::Kernel;
use super::{Open, integers};

#[derive(Debug)]
pub struct Reshape {
    /// Whether 0 is a dimension of 0, and not the input's at its place.
    pub takes_zero: bool,
    pub dims: Open,
}

impl Kernel for Reshape {
    fn name(&self) -> &'static str {
        "Reshape"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, shape] = exactly(inputs)?;
        let rank = shape.shape.volume().to_usize().context("Reshape to an open number of dimensions")?;
        let dims = (0..rank).map(|axis| self.dims.axis(axis)).collect::<TractResult<TVec<_>>>()?;
        Ok(tvec![input.datum_type.fact(dims)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (input, wanted) = (&inputs[0], integers(&inputs[1])?);
        let mut open = None;
        let mut shape: TVec<usize> = tvec![];
        for (axis, &dim) in wanted.iter().enumerate() {
            shape.push(match dim {
                -1 => {
                    ensure!(open.replace(axis).is_none(), "Reshape to {wanted:?}: two dimensions are open");
                    1
                }
                0 if !self.takes_zero => {
                    *input.shape().get(axis).context("Reshape keeps a dimension that isn't there")?
                }
                dim => usize::try_from(dim).with_context(|| format!("Reshape to {wanted:?}"))?,
            });
        }
        let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
        let count = count.with_context(|| format!("Reshape to {wanted:?}"))?;
        if let Some(axis) = open {
            ensure!(count > 0, "Reshape to {wanted:?}: no size fits the open dimension");
            shape[axis] = input.len() / count;
        }
        let fits = shape.iter().product::<usize>() == input.len();
        ensure!(fits, "Reshape of {:?} to {wanted:?}", input.shape());
        Ok(tvec![input.clone().into_tensor().into_shape(&shape)?])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}
