//! `ai.onnx.Equal` (version 13) of dimensions that only a run tells.
//!
//! tract takes a dimension `M` for different from 1 while a plan is made, and folds all that hangs on it: exporters write
//! "if the dimension is 1, squeeze it". Here a comparison that the plan can't decide waits for the run. Anything else is
//! compared by tract's own operator. The cure belongs upstream (`prove_eq` in tract-core's `ops/logic/comparison.rs`).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::ops::change_axes::wire_rank_broadcast;
use tract_onnx::tract_core::ops::logic::CompEq;
use tract_onnx::tract_core::tract_data::TooEarly;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::binary::InferenceBinOp;

use super::Built;
use super::inputs::exactly;

pub fn build(_: &ParsingContext, _: &NodeProto) -> Built {
    Ok((expand(Equal(InferenceBinOp(Box::new(CompEq)))), vec![]))
}

#[derive(Debug, Clone)]
struct Equal(InferenceBinOp);

impl Expansion for Equal {
    fn name(&self) -> StaticName {
        "Equal".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(solver, inputs, outputs)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        for &input in inputs {
            if model.outlet_fact(input)?.datum_type.is_tdim() {
                let inputs = wire_rank_broadcast(prefix, model, inputs)?;
                return model.wire_node(prefix, DimsEqual, &inputs);
            }
        }
        self.0.wire(prefix, model, inputs)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct DimsEqual;

impl DimsEqual {
    /// `None` where it hangs on a symbol of no known value.
    fn compared(symbols: &SymbolValues, inputs: &[TValue]) -> TractResult<Option<Tensor>> {
        let known = |tensor: &TValue| -> TractResult<_> {
            let dims = tensor.cast_to::<TDim>()?;
            let dims = dims.try_as_plain_ram()?.as_slice::<TDim>()?.iter().map(|dim| dim.eval(symbols)).collect();
            Ok(tract_ndarray::ArrayD::<TDim>::from_shape_vec(tensor.shape(), dims)?)
        };
        let (left, right) = (known(&inputs[0])?, known(&inputs[1])?);
        let shape = multi_broadcast(&[left.shape(), right.shape()])?;
        let apart = "the shapes don't stretch to each other";
        let (left, right) = (left.broadcast(&*shape).context(apart)?, right.broadcast(&*shape).context(apart)?);
        let equal =
            left.iter().zip(right.iter()).map(|(left, right)| equal(left, right)).collect::<Option<Vec<bool>>>();
        equal.map(|equal| Ok(tract_ndarray::ArrayD::from_shape_vec(&*shape, equal)?.into())).transpose()
    }
}

fn equal(left: &TDim, right: &TDim) -> Option<bool> {
    if left == right {
        return Some(true);
    }
    let (above, below) = (left.clone() - right, right.clone() - left);
    let differs = |difference: &TDim| least(difference).is_some_and(|least| least > 0);
    (differs(&above) || differs(&below)).then_some(false)
}

/// The least that a sum of dimensions can be, none of which is negative; `None` where it has no bound, or is no sum.
fn least(dim: &TDim) -> Option<i64> {
    match dim {
        TDim::Val(value) => Some(*value),
        TDim::Sym(_) => Some(0),
        TDim::MulInt(times, dim) if *times > 0 => least(dim)?.checked_mul(*times),
        TDim::Add(terms) => terms.iter().try_fold(0i64, |sum, term| sum.checked_add(least(term)?)),
        _ => None,
    }
}

impl Op for DimsEqual {
    fn name(&self) -> StaticName {
        "DimsEqual".into()
    }

    op_as_typed_op!();
}

impl EvalOp for DimsEqual {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        let compared = Self::compared(&SymbolValues::default(), &inputs)?;
        Ok(compared.map(|compared| tvec![compared.into_tvalue()]))
    }

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        match Self::compared(context.symbols, &inputs)? {
            Some(compared) => Ok(tvec![compared.into_tvalue()]),
            // What tract's analysis takes for "not yet".
            None => bail!(TooEarly::UndeterminedSymbol("a dimension that is compared".into())),
        }
    }
}

impl TypedOp for DimsEqual {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [left, right] = exactly(inputs)?;
        Ok(tvec![bool::fact(multi_broadcast(&[left.shape.to_tvec(), right.shape.to_tvec()])?)])
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(left: TDim, right: TDim, symbols: &SymbolValues) -> Option<Tensor> {
        let values = [left, right].map(|dim| tensor0(dim).into_tvalue());
        DimsEqual::compared(symbols, &values).unwrap()
    }

    #[test]
    fn what_a_plan_can_not_know_is_left_to_the_run() {
        let scope = SymbolScope::default();
        let m = scope.sym("M");
        let open = SymbolValues::default();
        assert_eq!(compared(m.to_dim(), 1.to_dim(), &open), None);
        assert_eq!(compared(m.to_dim(), 1.to_dim(), &open.clone().with(&m, 1)), Some(tensor0(true)));
        assert_eq!(compared(m.to_dim(), 1.to_dim(), &open.with(&m, 3)), Some(tensor0(false)));
    }

    #[test]
    fn what_holds_for_every_size_is_known_at_once() {
        let scope = SymbolScope::default();
        let m = scope.sym("M").to_dim();
        let open = SymbolValues::default();
        assert_eq!(compared(m.clone(), m.clone(), &open), Some(tensor0(true)));
        assert_eq!(compared(m.clone(), (-1).to_dim(), &open), Some(tensor0(false)));
        assert_eq!(compared(m.clone() + 1, m, &open), Some(tensor0(false)));
    }
}
