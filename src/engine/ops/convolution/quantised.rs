//! Convolutions that a DequantizeLinear comes before and a QuantizeLinear after: the three, and what lies between them, become one.

use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_hir::internal::*;

use super::Windowed;
use super::bytes::{ByteFilters, Bytes, Scaling, Vnni};
use super::channels_last::Shape;
use super::products::Matrix;
use super::tail::{Tail, constant};
use super::vector::Simd;
use super::window::Window;
use crate::engine::ops::kernel;
use crate::engine::ops::quantised::{Dequantise, Quantise};

/// How many operators may lie between a constant and a scale, a zero point or a weight.
const MAX_STEPS: usize = 2;
/// How far a bias's scale may be from the product of the images' and the weights', relative to that.
const SCALE_TOLERANCE: f32 = 1e-5;
/// How far a bias may be from a whole number, and up to which size that tells.
const WHOLE_TOLERANCE: f32 = 0.125;
const LARGEST_BIAS: f32 = 262_144.0;

/// What is put in the place of such operators.
pub struct Between {
    pub op: Windowed<Bytes>,
    /// The quantised images that they take and those that they give.
    pub from: OutletId,
    pub to: OutletId,
    /// Those that follow the convolution.
    pub nodes: Vec<usize>,
}

/// Ours for a convolution of bytes; `None` where it is none, or where the processor has no instructions for it.
pub fn convolution(model: &TypedModel, node: &TypedNode, simd: Simd) -> Option<Between> {
    let vnni = Vnni::ask()?;
    let images = Quantised::made_float(model, *node.inputs.first()?)?;
    let shape = Shape::of(model, node)?;
    let Weights { whole, scales } = Weights::of(model, node.inputs[1], [shape.outputs, shape.each()], 0)?;
    let scales: Vec<f32> = scales.iter().map(|of_weights| images.scale() * of_weights).collect();
    let biases = biases(model, *node.inputs.get(2)?, &scales)?;
    let end = End::of(model, node, &scales, 1)?;
    let (over, copied, weights) = shape.over_copy(whole);
    let filters = end.filters(&images, weights, biases, (shape.groups, over.taps()))?;
    let op = Windowed::new("QLinearConv", over, Bytes::new(filters, vnni)?, (shape.axes, shape.channels), simd);
    Some(Between { op: Windowed { copied, ..op }, from: images.value, to: end.last.into(), nodes: end.nodes })
}

/// The same for a product with a matrix.
pub fn product(model: &TypedModel, node: &TypedNode, matrix: &Matrix, simd: Simd) -> Option<Between> {
    let vnni = Vnni::ask()?;
    let images = Quantised::made_float(model, *node.inputs.first()?)?;
    let Weights { whole, scales } = Weights::of_matrix(model, node.inputs[1], matrix)?;
    let scales: Vec<f32> = scales.iter().map(|of_weights| images.scale() * of_weights).collect();
    let end = End::of(model, node, &scales, matrix.rank - 1)?;
    let filters = end.filters(&images, whole, vec![0; matrix.outputs], (1, 1))?;
    let op = Windowed::new("QLinearMatMul", Window::point(), Bytes::new(filters, vnni)?, (0, matrix.inputs), simd);
    Some(Between { op, from: images.value, to: end.last.into(), nodes: end.nodes })
}

/// What follows, up to a QuantizeLinear.
struct End {
    biases: Vec<i32>,
    scaling: Scaling,
    last: usize,
    nodes: Vec<usize>,
}

impl End {
    /// For sums in units of these scales, which have their channels along `axis`.
    fn of(model: &TypedModel, node: &TypedNode, scales: &[f32], axis: usize) -> Option<Self> {
        let tail = Tail::of(model, node.id.into(), scales.len(), axis);
        if tail.factors.iter().any(|&factor| factor != 1.0) {
            return None;
        }
        let biases = tail.terms.iter().zip(scales).map(|(term, scale)| whole_number(term / scale));
        let biases = biases.collect::<Option<_>>()?;
        let last = only_user(model, tail.end)?;
        kernel::of::<Quantise>(&*last.op)?;
        let result = Quantised::parameters(model, last).filter(Quantised::has_one_scale)?;
        let (by, zero_point) = (result.scale(), result.zero_points[0]);
        let output = last.outputs.first()?.fact.datum_type;
        let (least, most) = range(output)?;
        let limits = [
            (tail.limits[0] / by).max((least - zero_point) as f32),
            (tail.limits[1] / by).min((most - zero_point) as f32),
        ];
        let factors = scales.iter().map(|scale| scale / by).collect();
        let nodes = tail.nodes.into_iter().chain([last.id]).collect();
        Some(Self { biases, scaling: Scaling { factors, limits, zero_point, output }, last: last.id, nodes })
    }

    /// `biases` are added to those that follow.
    fn filters(
        &self,
        images: &Quantised,
        weights: Vec<i8>,
        biases: Vec<i32>,
        (groups, taps): (usize, usize),
    ) -> Option<ByteFilters> {
        let input = (images.datum_type, images.zero_points[0]);
        range(images.datum_type)?;
        let biases =
            biases.iter().zip(&self.biases).map(|(one, other)| one.checked_add(*other)).collect::<Option<_>>()?;
        let scaling = self.scaling.clone();
        images.has_one_scale().then_some(ByteFilters { weights, biases, groups, taps, input, scaling })
    }
}

/// A quantised value with its constant scales and zero points.
struct Quantised {
    value: OutletId,
    datum_type: DatumType,
    scales: Vec<f32>,
    zero_points: Vec<i32>,
    /// The axis that has as many places as there are scales; it says nothing where there is one.
    axis: i64,
}

impl Quantised {
    /// What a DequantizeLinear makes a float of.
    fn made_float(model: &TypedModel, float: OutletId) -> Option<Self> {
        let mut node = model.node(float.node);
        if node.op_is::<Cast>() && model.outlet_fact(node.inputs[0]).ok()?.datum_type == DatumType::F32 {
            node = model.node(node.inputs[0].node);
        }
        let axis = kernel::of::<Dequantise>(&*node.op)?.axis();
        Some(Self { axis, ..Self::parameters(model, node)? })
    }

    /// The first three inputs of such a node.
    fn parameters(model: &TypedModel, node: &TypedNode) -> Option<Self> {
        let value = *node.inputs.first()?;
        let scales = constant(model, *node.inputs.get(1)?, MAX_STEPS)?;
        let scales = scales.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
        let zero_points = match node.inputs.get(2) {
            Some(&zero_points) => whole_numbers(&*constant(model, zero_points, MAX_STEPS)?)?,
            None => vec![0],
        };
        let are_positive = scales.iter().all(|&scale| scale > 0.0 && scale.is_finite());
        let is_none = scales.is_empty() || zero_points.is_empty();
        let datum_type = model.outlet_fact(value).ok()?.datum_type;
        (are_positive && !is_none).then_some(Self { value, datum_type, scales, zero_points, axis: 0 })
    }

    fn has_one_scale(&self) -> bool {
        self.scales.len() == 1 && self.zero_points.len() == 1
    }

    /// The first scale, which is all of a value that has one.
    fn scale(&self) -> f32 {
        self.scales[0]
    }
}

/// Weights of bytes.
struct Weights {
    /// Less their zero points.
    whole: Vec<i8>,
    /// Of each output channel.
    scales: Vec<f32>,
}

impl Weights {
    /// `each` of them for every output, beside one another, whose axis is `along`.
    fn of(model: &TypedModel, outlet: OutletId, [outputs, each]: [usize; 2], along: i64) -> Option<Self> {
        let quantised = Quantised::made_float(model, outlet)?;
        let weights = whole_numbers(&*constant(model, quantised.value, MAX_STEPS)?)?;
        quantised.weights(&weights, [outputs, each], along)
    }

    fn of_matrix(model: &TypedModel, outlet: OutletId, matrix: &Matrix) -> Option<Self> {
        let quantised = Quantised::made_float(model, outlet)?;
        let weights = whole_numbers(&*constant(model, quantised.value, MAX_STEPS)?)?;
        let along = if matrix.by_output { 0 } else { 1 };
        quantised.weights(&matrix.ordered(&weights), [matrix.outputs, matrix.inputs], along)
    }
}

impl Quantised {
    /// These numbers as weights.
    fn weights(&self, numbers: &[i32], [outputs, each]: [usize; 2], along: i64) -> Option<Weights> {
        let Self { datum_type, scales, zero_points, axis, .. } = self;
        let by_output = *axis == along || self.has_one_scale();
        let fits = [scales.len(), zero_points.len()].iter().all(|count| [1, outputs].contains(count));
        if !by_output || !fits || range(*datum_type).is_none() || numbers.len() != outputs * each {
            return None;
        }
        let less = |(at, number): (usize, &i32)| i8::try_from(number - zero_points[at / each % zero_points.len()]).ok();
        let whole = numbers.iter().enumerate().map(less).collect::<Option<_>>()?;
        Some(Weights { whole, scales: (0..outputs).map(|output| scales[output % scales.len()]).collect() })
    }
}

/// Biases as whole numbers of these scales. Few of them are floats by now.
fn biases(model: &TypedModel, outlet: OutletId, scales: &[f32]) -> Option<Vec<i32>> {
    let Some(quantised) = Quantised::made_float(model, outlet) else {
        let floats = constant(model, outlet, MAX_STEPS)?;
        let floats = floats.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?;
        let whole = |(at, scale): (usize, &f32)| whole_number(floats[at % floats.len()] / scale);
        return [1, scales.len()].contains(&floats.len()).then(|| scales.iter().enumerate().map(whole).collect())?;
    };
    let whole = whole_numbers(&*constant(model, quantised.value, MAX_STEPS)?)?;
    let own = &quantised.scales;
    let fits = whole.len() == scales.len() && [1, scales.len()].contains(&own.len());
    let is_near = |(at, scale): (usize, &f32)| (own[at % own.len()] - scale).abs() <= SCALE_TOLERANCE * scale;
    let is_ours = fits && quantised.zero_points.iter().all(|&zero| zero == 0);
    (is_ours && scales.iter().enumerate().all(is_near)).then_some(whole)
}

/// The whole number that a float was before it was scaled and scaled back.
fn whole_number(float: f32) -> Option<i32> {
    let whole = float.round();
    (whole.abs() < LARGEST_BIAS && (float - whole).abs() < WHOLE_TOLERANCE).then_some(whole as i32)
}

fn whole_numbers(tensor: &Tensor) -> Option<Vec<i32>> {
    let whole = tensor.cast_to::<i32>().ok()?;
    Some(whole.try_as_plain_ram().ok()?.as_slice::<i32>().ok()?.to_vec())
}

/// The one node that uses a value that no output is.
fn only_user(model: &TypedModel, outlet: OutletId) -> Option<&TypedNode> {
    let [user] = &*model.node(outlet.node).outputs[outlet.slot].successors else { return None };
    (user.slot == 0 && !model.outputs.contains(&outlet)).then(|| model.node(user.node))
}

/// What a byte of the type holds.
fn range(datum_type: DatumType) -> Option<(i32, i32)> {
    match datum_type {
        DatumType::U8 => Some((0, 255)),
        DatumType::I8 => Some((-128, 127)),
        _ => None,
    }
}
