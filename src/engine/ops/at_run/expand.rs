//! `ai.onnx.Expand` (version 13) to a shape that a run computes.

use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::super::bounded;
use super::super::inputs::exactly;
use super::super::kernel::Kernel;
use super::{Open, integers};

#[derive(Debug)]
pub struct Expand {
    pub dims: Open,
}

impl Kernel for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, shape] = exactly(inputs)?;
        let rank = shape.shape.volume().to_usize().context("Expand to an open number of dimensions")?;
        let dims = (0..rank.max(input.rank())).map(|axis| self.dims.axis(axis)).collect::<TractResult<TVec<_>>>()?;
        Ok(tvec![input.datum_type.fact(dims)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let wanted = integers(&inputs[1])?;
        let dim = |&dim: &i64| usize::try_from(dim).with_context(|| format!("Expand to {wanted:?}"));
        let dims = wanted.iter().map(dim).collect::<TractResult<TVec<_>>>()?;
        let shape = multi_broadcast(&[inputs[0].shape(), &dims])?;
        let sizes: Vec<i64> = shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
        bounded::check("Expand", &sizes, inputs[0].datum_type(), bounded::MIN_LIMIT)?;
        Ok(tvec![inputs[0].broadcast_to_shape(&shape)?])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}
