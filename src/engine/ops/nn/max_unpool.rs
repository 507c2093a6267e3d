//! `MaxUnpool` (ONNX 11): puts each value where a MaxPool took it from, zeros elsewhere.
//!
//! With `output_shape` the places count in that shape, as ONNX Runtime has it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{constant_ints, integers};
use super::kernel::{Kernel, built};

/// Largest number in an attribute.
const MAX_STEP: i64 = 1 << 16;
/// How many times as many elements as came in may go out, where no shape is given.
const MAX_GROWTH: usize = 1 << 12;
/// Most elements of a given output.
const MAX_ELEMENTS: usize = 1 << 26;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let kernel = node.get_attr_opt_vec::<i64>("kernel_shape")?.context("attribute 'kernel_shape' is missing")?;
    let list = |name: &str, neutral: i64, count: usize| -> TractResult<Vec<i64>> {
        let list = node.get_attr_opt_vec::<i64>(name)?.unwrap_or_else(|| vec![neutral; count]);
        let fits = list.len() == count && list.iter().all(|step| (neutral..=MAX_STEP).contains(step));
        ensure!(fits, "attribute '{name}' holds {list:?}");
        Ok(list)
    };
    let (strides, pads) = (list("strides", 1, kernel.len())?, list("pads", 0, 2 * kernel.len())?);
    ensure!(kernel.iter().all(|side| (1..=MAX_STEP).contains(side)), "attribute 'kernel_shape' holds {kernel:?}");
    built(node, MaxUnpool { kernel, strides, pads })
}

#[derive(Debug)]
struct MaxUnpool {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    pads: Vec<i64>,
}

impl Kernel for MaxUnpool {
    fn name(&self) -> &'static str {
        "MaxUnpool"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ([x, places] | [x, places, _]) = inputs else { bail!("{} inputs instead of 2 or 3", inputs.len()) };
        ensure!(x.datum_type == DatumType::F32, "values of {:?} instead of FLOAT", x.datum_type);
        let axes = self.kernel.len();
        ensure!(x.rank() == axes + 2 && places.rank() == x.rank(), "{} axes for a kernel of {axes}", x.rank());
        let mut shape: TVec<TDim> = x.shape.iter().take(2).cloned().collect();
        for axis in 0..axes {
            let inner = (x.shape[axis + 2].clone() - 1) * self.strides[axis] + self.kernel[axis];
            shape.push(inner - (self.pads[axis] + self.pads[axis + axes]));
        }
        if let [_, _, given] = inputs {
            let given = constant_ints(given, "'output_shape'")?;
            let sizes = given.iter().try_fold(1usize, |all, &side| all.checked_mul(usize::try_from(side).ok()?));
            let fits = given.len() == shape.len() && sizes.is_some_and(|all| all <= MAX_ELEMENTS);
            ensure!(fits, "'output_shape' holds {given:?}");
            shape = given.iter().map(|side| side.to_dim()).collect();
        }
        Ok(tvec!(f32::fact(shape)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shape = match inputs.get(2) {
            Some(given) => integers(given)?,
            None => {
                let fact = &self.facts(&[&f32::fact(inputs[0].shape()), &i64::fact(inputs[1].shape())])?[0];
                fact.shape.iter().map(|dim| dim.to_i64()).collect::<Result<_, _>>()?
            }
        };
        let shape = shape.iter().map(|&side| usize::try_from(side)).collect::<Result<Vec<_>, _>>()?;
        let all = shape.iter().try_fold(1usize, |all, side| all.checked_mul(*side));
        let most = inputs[0].len().saturating_mul(MAX_GROWTH).max(MAX_ELEMENTS);
        ensure!(all.is_some_and(|all| all <= most), "{} values spread over {shape:?}", inputs[0].len());
        ensure!(inputs[0].shape() == inputs[1].shape(), "values of {:?}", inputs[0].shape());
        let mut made = Tensor::zero::<f32>(&shape)?;
        let mut made_view = made.try_as_plain_ram_mut()?;
        let elements = made_view.as_slice_mut::<f32>()?;
        let places = inputs[1].cast_to::<i64>()?;
        let (places, values) = (places.try_as_plain_ram()?, inputs[0].try_as_plain_ram()?);
        for (&value, &place) in values.as_slice::<f32>()?.iter().zip(places.as_slice::<i64>()?) {
            let at = usize::try_from(place).ok().and_then(|place| elements.get_mut(place));
            *at.with_context(|| format!("place {place} of {shape:?}"))? = value;
        }
        Ok(tvec!(made))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run, run_known};
    use super::*;

    #[test]
    fn values_go_where_they_came_from() {
        let node = || Node::new("MaxUnpool").ints("kernel_shape", &[2]).ints("strides", &[2]);
        let x = tensor3(&[[[1.0f32, 2.0]]]);
        let made = run(node(), &[x.clone(), tensor3(&[[[1i64, 2]]])], 1).unwrap();
        assert_eq!(made, [tensor3(&[[[0.0f32, 1.0, 2.0, 0.0]]])]);
        assert!(run(node(), &[x.clone(), tensor3(&[[[1i64, 4]]])], 1).is_err());
        assert!(run(node(), &[x.clone(), tensor3(&[[[1i64, -1]]])], 1).is_err());
        let places = tensor3(&[[[1i64, 4]]]);
        assert!(run_known(node(), &[x.clone(), places], &[tensor1(&[1i64, 1, -5])], 1).is_err());
        assert!(run(Node::new("MaxUnpool"), &[x, tensor3(&[[[1i64, 2]]])], 1).is_err(), "no kernel");
    }
}
