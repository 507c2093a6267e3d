//! `CumProd` (ONNX 26): products along an axis of all up to each element, or before it (`exclusive`), from either end.
//! Integers wrap round.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let is_set = |name: &str| TractResult::Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0);
    built(node, CumProd { exclusive: is_set("exclusive")?, reverse: is_set("reverse")? })
}

#[derive(Debug)]
struct CumProd {
    exclusive: bool,
    reverse: bool,
}

impl CumProd {
    fn products<T: Datum + Copy>(&self, x: &Tensor, axis: usize, one: T, times: fn(T, T) -> T) -> TractResult<Tensor> {
        let mut made = x.to_plain_array_view::<T>()?.to_owned();
        for mut lane in made.lanes_mut(tract_ndarray::Axis(axis)) {
            if self.reverse {
                lane.invert_axis(tract_ndarray::Axis(0));
            }
            let mut product = one;
            for element in &mut lane {
                let before = product;
                product = times(product, *element);
                *element = if self.exclusive { before } else { product };
            }
        }
        Ok(made.into())
    }
}

impl Kernel for CumProd {
    fn name(&self) -> &'static str {
        "CumProd"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [x, axis] = exactly(inputs)?;
        ensure!(x.rank() > 0, "an input without axes");
        ensure!(axis.rank() <= 1, "an axis of {} axes", axis.rank());
        Ok(tvec!(x.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let rank = inputs[0].rank() as i64;
        let axis = inputs[1].cast_to::<i64>()?;
        let axis = *axis.try_as_plain_ram()?.as_slice::<i64>()?.first().context("no axis")?;
        ensure!((-rank..rank).contains(&axis), "axis {axis} of {rank}");
        let axis = axis.rem_euclid(rank) as usize;
        let made = match inputs[0].datum_type() {
            DatumType::F32 => self.products(&inputs[0], axis, 1.0f32, |a, b| a * b)?,
            DatumType::F64 => self.products(&inputs[0], axis, 1.0f64, |a, b| a * b)?,
            DatumType::I32 => self.products(&inputs[0], axis, 1, i32::wrapping_mul)?,
            DatumType::I64 => self.products(&inputs[0], axis, 1, i64::wrapping_mul)?,
            other => bail!("products of {other:?}"),
        };
        Ok(tvec!(made))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn products(node: Node, axis: i64) -> TractResult<Vec<Tensor>> {
        run(node, &[tensor2(&[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]), tensor0(axis)], 1)
    }

    #[test]
    fn products_run_along_the_axis_from_either_end() {
        let plain = || Node::new("CumProd");
        let along_rows = tensor2(&[[1.0f32, 2.0, 6.0], [4.0, 20.0, 120.0]]);
        assert_eq!(products(plain(), -1).unwrap(), [along_rows]);
        assert_eq!(products(plain(), 0).unwrap(), [tensor2(&[[1.0f32, 2.0, 3.0], [4.0, 10.0, 18.0]])]);
        let before = products(plain().int("exclusive", 1).int("reverse", 1), 1).unwrap();
        assert_eq!(before, [tensor2(&[[6.0f32, 3.0, 1.0], [30.0, 6.0, 1.0]])]);
        assert!(products(plain(), 2).is_err());
        assert!(products(plain(), i64::MIN).is_err());
    }
}
