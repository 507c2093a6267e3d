//! Products of a value's last axis with a constant matrix, which are convolutions with a window of one place over images of one
//! pixel: MatMul and Gemm, with what follows them. The matrix is packed once for however many rows.

use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::internal::*;

use super::dense::{Dense, Filters};
use super::tail::{Tail, known};
use super::vector::Simd;
use super::window::Window;
use super::{What, Windowed, quantised};

/// The model with our products. The same where the processor lacks the vectors that they are written for.
///
/// # Errors
/// tract's own.
pub fn convert(mut model: TypedModel) -> TractResult<TypedModel> {
    let Some(&simd) = Simd::all().first() else { return Ok(model) };
    for id in 0..model.nodes.len() {
        let node = model.node(id);
        let Some(matrix) = Matrix::of(&model, node) else { continue };
        let bytes = quantised::product(&model, node, &matrix, simd);
        let found = bytes.map(|found| (found.op.typed(), found.from, found.to)).or_else(|| {
            let (op, end) = product(&model, node, &matrix, simd)?;
            Some((op.typed(), node.inputs[0], end))
        });
        let Some((op, from, to)) = found else { continue };
        let mut patch = TypedModelPatch::default();
        let input = patch.tap_model(&model, from)?;
        let wire = patch.wire_node(&node.name, op, &[input])?[0];
        patch.shunt_outside(&model, to, wire)?;
        patch.apply(&mut model)?;
    }
    Ok(model)
}

/// The matrix of a product: its second input.
pub struct Matrix {
    /// Places of the axis that is summed over, and of the one that takes its place.
    pub inputs: usize,
    pub outputs: usize,
    /// Whether it has those of an output beside one another.
    pub by_output: bool,
    /// Axes of the product.
    pub rank: usize,
}

impl Matrix {
    /// `None` for a node that is no such product of FP32.
    fn of(model: &TypedModel, node: &TypedNode) -> Option<Self> {
        let op = node.op_as::<EinSum>().filter(|op| op.q_params.is_none() && node.inputs.len() == 2)?;
        let facts = model.node_input_facts(node.id).ok()?;
        let is_float = facts.iter().all(|fact| fact.datum_type == DatumType::F32) && op.operating_dt == DatumType::F32;
        let rank = facts[0].rank();
        if !is_float || rank < 2 || facts[1].rank() != 2 || node.outputs[0].fact.rank() != rank {
            return None;
        }
        for kept in 0..rank - 1 {
            let axis = op.axes.axis((InOut::In(0), kept)).ok()?;
            if !axis.inputs[1].is_empty() || *axis.outputs[0] != [kept] || axis.inputs[0].len() != 1 {
                return None;
            }
        }
        let summed = op.axes.axis((InOut::In(0), rank - 1)).ok()?;
        let [place] = *summed.inputs[1] else { return None };
        let made = op.axes.axis((InOut::In(1), 1 - place)).ok()?;
        let fits = summed.outputs[0].is_empty()
            && summed.inputs[0].len() == 1
            && made.inputs[0].is_empty()
            && made.inputs[1].len() == 1
            && *made.outputs[0] == [rank - 1];
        let inputs = facts[0].shape[rank - 1].to_usize().ok()?;
        let [own, outputs] = [place, 1 - place].map(|axis| facts[1].shape[axis].to_usize().ok());
        let outputs = outputs?;
        let is_ours = fits && own == Some(inputs) && inputs > 0 && outputs > 0;
        is_ours.then_some(Self { inputs, outputs, by_output: place == 1, rank })
    }

    /// Its values with those of an output beside one another.
    pub fn ordered<T: Copy>(&self, values: &[T]) -> Vec<T> {
        if self.by_output {
            return values.to_vec();
        }
        (0..self.outputs).flat_map(|output| values.iter().skip(output).step_by(self.outputs).copied()).collect()
    }
}

/// Ours, and what the last of the operators gives that it does too.
fn product(model: &TypedModel, node: &TypedNode, matrix: &Matrix, simd: Simd) -> Option<(Windowed<What>, OutletId)> {
    let Matrix { inputs, outputs, rank, .. } = *matrix;
    let weights = known(model, node.inputs[1])?;
    let mut weights = matrix.ordered(weights.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?);
    let tail = Tail::of(model, node.id.into(), outputs, rank - 1);
    for (weights, factor) in weights.chunks_mut(inputs).zip(&tail.factors) {
        weights.iter_mut().for_each(|weight| *weight *= factor);
    }
    let filters = Filters { weights: &weights, biases: &tail.terms, groups: 1, taps: 1, limits: tail.limits };
    let what = What::Dense(Dense::new(&filters, simd));
    Some((Windowed::new("MatMul", Window::point(), what, (0, inputs), simd), tail.end))
}
