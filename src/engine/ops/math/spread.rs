//! Sums, differences, products and quotients of a value and one that is repeated along some axes, as in what takes a mean from every
//! row: tract's go through the axes of such pairs value by value.

use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, OptBinUnicast, TypedBinOp};
use tract_onnx::tract_core::ops::math::{Add, Div, Mul, Sub};
use tract_onnx::tract_hir::internal::*;

use super::inputs::exactly;
use super::kernel::{Kernel, typed};
use super::wide;
use super::written::written;

/// Most axes of values.
const MAX_RANK: usize = 8;

/// Puts ours in the place of those of an optimised plan that are of FP32.
pub fn spread(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes.len() {
        let node = model.node(id);
        let Some(how) = How::of(&*node.op) else { continue };
        if is_spread(model, node)? {
            model.nodes[id].op = typed(Arc::new(Spread(how)), &[0]);
        }
    }
    Ok(())
}

/// Whether a node's operands have different shapes and neither is a single number.
fn is_spread(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let facts = model.node_input_facts(node.id)?;
    let is_float = facts.iter().copied().chain([&node.outputs[0].fact]).all(|fact| fact.datum_type == DatumType::F32);
    let is_one = facts.iter().any(|fact| fact.shape.volume().is_one());
    let [a, b] = &*facts else { return Ok(false) };
    Ok(is_float && !is_one && a.rank() == b.rank() && a.rank() <= MAX_RANK && a.shape != b.shape)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Add,
    Sub,
    Mul,
    Div,
}

impl How {
    fn of(op: &dyn TypedOp) -> Option<Self> {
        let op: &dyn BinMiniOp = match (op.downcast_ref::<TypedBinOp>(), op.downcast_ref::<OptBinUnicast>()) {
            (Some(TypedBinOp(op, None | Some(DatumType::F32))), _) => &**op,
            (_, Some(op)) => &*op.binop,
            _ => return None,
        };
        let known = [
            (op.is::<Add>(), Self::Add),
            (op.is::<Sub>(), Self::Sub),
            (op.is::<Mul>(), Self::Mul),
            (op.is::<Div>(), Self::Div),
        ];
        known.into_iter().find(|(is_it, _)| *is_it).map(|(_, how)| how)
    }
}

#[derive(Debug)]
struct Spread(How);

impl Kernel for Spread {
    fn name(&self) -> &'static str {
        match self.0 {
            How::Add => "Add",
            How::Sub => "Sub",
            How::Mul => "Mul",
            How::Div => "Div",
        }
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [a, b] = exactly(inputs)?;
        Ok(tvec![f32::fact(multi_broadcast(&[&*a.shape, &*b.shape])?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (a, b) = (&inputs[0], &inputs[1]);
        let shape = multi_broadcast(&[a.shape(), b.shape()])?;
        let axes = Axes::of(&shape, [a.shape(), b.shape()])?;
        let a = a.try_as_plain_ram()?.as_slice::<f32>()?;
        let b = b.try_as_plain_ram()?.as_slice::<f32>()?;
        let made = written::<f32>(&shape, |to| {
            if !to.is_empty() {
                wide::run(Work { how: self.0, axes, a, b, to });
            }
            Ok(())
        })?;
        Ok(tvec![made])
    }
}

/// Axes of the result; neighbours that are gone along alike are one.
struct Axes {
    count: usize,
    sizes: [usize; MAX_RANK],
    /// How far the next place along an axis is in each operand: no step where it is repeated.
    steps: [[usize; MAX_RANK]; 2],
}

impl Axes {
    /// At least one axis.
    fn of(shape: &[usize], operands: [&[usize]; 2]) -> TractResult<Self> {
        ensure!(operands.iter().all(|operand| operand.len() == shape.len()) && shape.len() <= MAX_RANK);
        let mut axes = Self { count: 0, sizes: [1; MAX_RANK], steps: [[0; MAX_RANK]; 2] };
        let mut repeats = [[false; 2]; MAX_RANK];
        for (axis, &size) in shape.iter().enumerate().filter(|(_, size)| **size != 1) {
            let here = operands.map(|operand| operand[axis] == 1);
            if axes.count == 0 || repeats[axes.count - 1] != here {
                (repeats[axes.count], axes.count) = (here, axes.count + 1);
            }
            axes.sizes[axes.count - 1] *= size;
        }
        axes.count = axes.count.max(1);
        for (operand, steps) in axes.steps.iter_mut().enumerate() {
            let mut step = 1;
            for axis in (0..axes.count).rev().filter(|&axis| !repeats[axis][operand]) {
                steps[axis] = step;
                step *= axes.sizes[axis];
            }
        }
        Ok(axes)
    }
}

struct Work<'a> {
    how: How,
    axes: Axes,
    a: &'a [f32],
    b: &'a [f32],
    to: &'a mut [f32],
}

impl wide::Loop for Work<'_> {
    #[inline(always)]
    fn run(self) {
        match self.how {
            How::Add => self.each(|a, b| a + b),
            How::Sub => self.each(|a, b| a - b),
            How::Mul => self.each(|a, b| a * b),
            How::Div => self.each(|a, b| a / b),
        }
    }
}

impl Work<'_> {
    #[inline(always)]
    fn each(self, made: impl Fn(f32, f32) -> f32) {
        let Self { axes: Axes { count, sizes, steps: [a_steps, b_steps] }, a, b, to, .. } = self;
        let last = count - 1;
        let (mut at, mut a_at, mut b_at) = ([0; MAX_RANK], 0, 0);
        for to in to.chunks_exact_mut(sizes[last]) {
            match (a_steps[last], b_steps[last]) {
                (0, _) => {
                    let (a, b) = (a[a_at], &b[b_at..][..to.len()]);
                    for (to, b) in to.iter_mut().zip(b) {
                        *to = made(a, *b);
                    }
                }
                (_, 0) => {
                    let (a, b) = (&a[a_at..][..to.len()], b[b_at]);
                    for (to, a) in to.iter_mut().zip(a) {
                        *to = made(*a, b);
                    }
                }
                _ => {
                    let (a, b) = (&a[a_at..][..to.len()], &b[b_at..][..to.len()]);
                    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                        *to = made(*a, *b);
                    }
                }
            }
            for axis in (0..last).rev() {
                (at[axis], a_at, b_at) = (at[axis] + 1, a_at + a_steps[axis], b_at + b_steps[axis]);
                if at[axis] < sizes[axis] {
                    break;
                }
                (a_at, b_at) = (a_at - sizes[axis] * a_steps[axis], b_at - sizes[axis] * b_steps[axis]);
                at[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(shape: &[usize], first: usize) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (first..first + count).map(|at| 1.0 + ((at * 7919) % 1013) as f32).collect();
        Tensor::from_shape(shape, &values).unwrap()
    }

    proptest! {
        #[test]
        fn repeated_operands_are_taken_as_if_they_were_written_out(
            axes in proptest::collection::vec((1..=5usize, any::<bool>(), any::<bool>()), 0..=5),
        ) {
            let shape = |of: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
                axes.iter().map(|axis| if of(axis) { 1 } else { axis.0 }).collect()
            };
            let (a, b) = (values(&shape(|axis| axis.1), 3), values(&shape(|axis| axis.2), 77));
            for (how, made) in [
                (How::Add, (|a, b| a + b) as fn(f32, f32) -> f32),
                (How::Sub, |a, b| a - b),
                (How::Mul, |a, b| a * b),
                (How::Div, |a, b| a / b),
            ] {
                let whole = multi_broadcast(&[a.shape(), b.shape()]).unwrap();
                let [x, y] = [&a, &b].map(|operand| {
                    operand.to_plain_array_view::<f32>().unwrap().broadcast(&*whole).unwrap().iter().copied().collect::<Vec<f32>>()
                });
                let expected: Vec<f32> = x.iter().zip(&y).map(|(a, b)| made(*a, *b)).collect();
                let got = Spread(how).eval(&[a.clone().into_tvalue(), b.clone().into_tvalue()]).unwrap().remove(0);
                prop_assert_eq!(got, Tensor::from_shape(&whole, &expected).unwrap());
            }
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let (a, b) = (Tensor::zero::<f32>(&[0, 3]).unwrap(), Tensor::zero::<f32>(&[1, 3]).unwrap());
        let got = Spread(How::Add).eval(&[a.into_tvalue(), b.into_tvalue()]).unwrap().remove(0);
        assert_eq!(got.shape(), [0, 3]);
    }
}
