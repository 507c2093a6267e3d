//! What follows a convolution and goes into it: factors and terms of channels (a batch normalisation), and limits (Relu,
//! Clip).

use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::math::{Add, Max, Min, Mul};
use tract_onnx::tract_hir::internal::*;

/// How many operators may lie between a constant and the value that it is made of.
const MAX_STEPS: usize = 4;

/// The operators after a convolution that it does too.
pub struct Tail {
    /// Of each output channel.
    pub factors: Vec<f32>,
    pub terms: Vec<f32>,
    pub limits: [f32; 2],
    /// The axis of the channels.
    axis: usize,
    /// What the last of them gives.
    pub end: OutletId,
    /// Those operators.
    pub nodes: Vec<usize>,
}

impl Tail {
    /// The longest that follows `outlet`, which has these channels along `axis`.
    pub fn of(model: &TypedModel, outlet: OutletId, channels: usize, axis: usize) -> Self {
        let limits = [f32::NEG_INFINITY, f32::INFINITY];
        let (factors, terms) = (vec![1.0; channels], vec![0.0; channels]);
        let mut tail = Self { factors, terms, limits, axis, end: outlet, nodes: vec![] };
        while let Some(next) = tail.next(model) {
            tail.nodes.push(next);
            tail.end = next.into();
        }
        tail
    }

    /// Takes the one operator that uses what the tail gives, if it fits.
    fn next(&mut self, model: &TypedModel) -> Option<usize> {
        let [user] = &*model.node(self.end.node).outputs[self.end.slot].successors else { return None };
        if model.outputs.contains(&self.end) {
            return None;
        }
        let node = model.node(user.node);
        let op = &node.op_as::<TypedBinOp>()?.0;
        let other = constant(model, node.inputs[1 - user.slot], MAX_STEPS)?;
        let shape = &model.outlet_fact(self.end).ok()?.shape;
        if other.datum_type() != f32::datum_type() || model.outlet_fact(node.id.into()).ok()?.shape != *shape {
            return None;
        }
        if op.is::<Mul>() || op.is::<Add>() {
            self.take_channels(op.is::<Mul>(), &other, shape.rank())?;
        } else if op.is::<Max>() || op.is::<Min>() {
            self.take_limit(usize::from(op.is::<Min>()), uniform(&other)?)?;
        } else {
            return None;
        }
        Some(node.id)
    }

    /// Factors or terms, one for each channel or the same for all, as long as nothing is clipped before.
    fn take_channels(&mut self, is_factor: bool, other: &Tensor, rank: usize) -> Option<()> {
        let values = other.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?;
        let along_channels = other.rank() == rank && other.shape().get(self.axis) == Some(&values.len());
        let fits = values.len() == 1 || (along_channels && values.len() == self.terms.len());
        if self.limits != [f32::NEG_INFINITY, f32::INFINITY] || !fits {
            return None;
        }
        for (channel, (factor, term)) in self.factors.iter_mut().zip(&mut self.terms).enumerate() {
            let value = values[channel % values.len()];
            if is_factor {
                (*factor, *term) = (*factor * value, *term * value);
            } else {
                *term += value;
            }
        }
        Some(())
    }

    /// A lower limit comes before an upper one.
    fn take_limit(&mut self, which: usize, limit: f32) -> Option<()> {
        let free = [self.limits == [f32::NEG_INFINITY, f32::INFINITY], self.limits[1] == f32::INFINITY][which];
        if !free || limit.is_nan() {
            return None;
        }
        self.limits[which] = limit;
        Some(())
    }
}

/// A value that is known when a plan is made. tract finds large ones out only later, so the few operators that lead to one
/// are run.
pub fn constant(model: &TypedModel, outlet: OutletId, steps: usize) -> Option<Arc<Tensor>> {
    if let Some(known) = &model.outlet_fact(outlet).ok()?.konst {
        return Some(Arc::clone(known));
    }
    let node = model.node(outlet.node);
    if steps == 0 || node.inputs.is_empty() {
        return None;
    }
    let inputs = node.inputs.iter().map(|&input| Some(constant(model, input, steps - 1)?.into_tvalue()));
    let outputs = node.op.eval_out_of_plan(inputs.collect::<Option<_>>()?).ok()??;
    Some(outputs.get(outlet.slot)?.clone().into_arc_tensor())
}

/// The value of a bias, of factors or weights.
pub fn known(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    constant(model, outlet, MAX_STEPS).filter(|value| value.datum_type() == f32::datum_type() && value.is_plain_ram())
}

fn uniform(tensor: &Tensor) -> Option<f32> {
    let values = tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?;
    let (first, others) = values.split_first()?;
    others.iter().all(|other| other == first).then_some(*first)
}
