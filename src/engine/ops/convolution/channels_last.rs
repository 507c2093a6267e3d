//! Puts our convolutions and poolings into a plan for known shapes, and changes what lies between them to images that have
//! their channels last.
//!
//! Each value is asked for in the order of axes that its user takes, and moved only where it isn't there. Operators that
//! go element by element, and sums over pixels, take whatever order their input has.

use std::collections::{HashMap, HashSet};

use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, SumPool};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math::Mul;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

use super::channelwise::Channelwise;
use super::dense::{Dense, Filters};
use super::pixels::{MoveChannels, SumOfPixels, TimesPixel};
use super::tail::{Tail, known};
use super::vector::Simd;
use super::window::{Copied, Window};
use super::{What, Windowed, quantised};
use crate::engine::ops::kernel;
use crate::engine::ops::quantised::{Dequantise, Quantise};

/// Fewest output channels of a group for which its products are worth it; a group of one channel is no product.
const MIN_GROUP: usize = 8;

/// The model with our convolutions. The same where the processor lacks the vectors that they are written for, and where
/// there is none.
///
/// # Errors
/// tract's own.
pub fn convert(model: TypedModel) -> TractResult<TypedModel> {
    match Simd::all().first() {
        Some(&simd) if model.nodes.iter().any(|node| node.op_is::<Conv>()) => Rewrite::new(&model, simd).run(),
        _ => Ok(model),
    }
}

/// The same for one vector.
#[cfg(test)]
pub fn convert_for(model: &TypedModel, simd: Simd) -> TractResult<TypedModel> {
    Rewrite::new(model, simd).run()
}

struct Rewrite<'a> {
    source: &'a TypedModel,
    target: TypedModel,
    simd: Simd,
    /// Values of the source as they are there, and those with their axis 1 last.
    plain: HashMap<OutletId, OutletId>,
    last: HashMap<OutletId, OutletId>,
    /// Nodes that a convolution does too.
    taken: HashSet<usize>,
}

impl<'a> Rewrite<'a> {
    fn new(source: &'a TypedModel, simd: Simd) -> Self {
        let target = TypedModel { symbols: source.symbols.clone(), ..TypedModel::default() };
        let (plain, last, taken) = Default::default();
        Self { source, target, simd, plain, last, taken }
    }

    fn run(mut self) -> TractResult<TypedModel> {
        let source = self.source;
        let order = source.eval_order()?;
        // Inputs that nothing uses are inputs still.
        let unused = source.inputs.iter().map(|input| input.node).filter(|input| !order.contains(input));
        for node in unused.chain(order.iter().copied()).map(|node| source.node(node)) {
            if !self.taken.contains(&node.id) && !self.convolve(node)? && !self.pool(node)? && !self.follow(node)? {
                self.copy(node)?;
            }
        }
        self.target.inputs = source.inputs.iter().map(|input| self.plain[input]).collect();
        let outputs = source.outputs.iter().map(|output| self.plain(*output)).collect::<TractResult<Vec<_>>>()?;
        for (output, old) in outputs.iter().zip(&source.outputs) {
            if let Some(label) = source.outlet_label(*old) {
                self.target.set_outlet_label(*output, label.to_owned())?;
            }
        }
        self.target.outputs = outputs;
        self.target.properties.clone_from(&source.properties);
        Ok(self.target)
    }

    /// A value as it is in the source.
    fn plain(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(there) = self.plain.get(&outlet) {
            return Ok(*there);
        }
        let last = self.last[&outlet];
        let plain = self.moved(outlet, false, last)?;
        self.plain.insert(outlet, plain);
        Ok(plain)
    }

    /// A value with its axis 1 last.
    fn last(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(there) = self.last.get(&outlet) {
            return Ok(*there);
        }
        let plain = self.plain[&outlet];
        let last = self.moved(outlet, true, plain)?;
        self.last.insert(outlet, last);
        Ok(last)
    }

    fn moved(&mut self, of: OutletId, to_last: bool, input: OutletId) -> TractResult<OutletId> {
        let how = if to_last { "channels_last" } else { "channels_second" };
        let name = format!("{}.{}.{how}", self.source.node(of.node).name, of.slot);
        let fact = self.target.outlet_fact(input)?;
        let last = fact.rank() - 1;
        let pixels = if to_last { &fact.shape[2..] } else { &fact.shape[1..last] };
        // tract makes nothing of a move past axes of size 1, and knows what becomes of a constant.
        let is_tracts =
            !MoveChannels::moves(fact.datum_type) || pixels.iter().all(TDim::is_one) || fact.konst.is_some();
        let op: Box<dyn TypedOp> = match (is_tracts, to_last) {
            (false, _) => kernel::typed(Arc::new(MoveChannels { to_last }), &[0]),
            (true, true) => Box::new(AxisOp::Move(1, last)),
            (true, false) => Box::new(AxisOp::Move(last, 1)),
        };
        Ok(self.target.wire_node(name, op, &[input])?[0])
    }

    /// Puts ours in the place of a convolution and what follows it; false where it is none of ours.
    fn convolve(&mut self, node: &TypedNode) -> TractResult<bool> {
        if let Some(quantised::Between { op, from, to, nodes }) = quantised::convolution(self.source, node, self.simd) {
            let input = if op.copied.is_some() { self.plain(from)? } else { self.last(from)? };
            let wire = self.target.wire_node(&node.name, op.typed(), &[input])?[0];
            self.last.insert(to, wire);
            self.taken.extend(nodes);
            return Ok(true);
        }
        let Some((op, tail)) = convolution(self.source, node, self.simd) else { return Ok(false) };
        let input = if op.copied.is_some() { self.plain(node.inputs[0])? } else { self.last(node.inputs[0])? };
        let wire = self.target.wire_node(&node.name, op.typed(), &[input])?[0];
        self.last.insert(tail.end, wire);
        self.taken.extend(tail.nodes);
        Ok(true)
    }

    /// The same for a pooling of what has its channels last already.
    fn pool(&mut self, node: &TypedNode) -> TractResult<bool> {
        let Some(&input) = node.inputs.first().and_then(|input| self.last.get(input)) else { return Ok(false) };
        let Some(op) = pooling(self.source, node, self.simd) else { return Ok(false) };
        let wire = self.target.wire_node(&node.name, op.typed(), &[input])?[0];
        self.last.insert(node.id.into(), wire);
        Ok(true)
    }

    /// Runs what doesn't mind the order of axes on values that have their channels last.
    fn follow(&mut self, node: &TypedNode) -> TractResult<bool> {
        let source = self.source;
        let is_last = |input: &OutletId| self.last.contains_key(input) && !self.plain.contains_key(input);
        if !node.inputs.iter().any(is_last) || node.outputs.len() != 1 {
            return Ok(false);
        }
        if goes_by_one_scale(source, node)? {
            let mut inputs = tvec![self.last(node.inputs[0])?];
            for input in &node.inputs[1..] {
                inputs.push(self.plain(*input)?);
            }
            let wire = self.target.wire_node(&node.name, node.op.clone(), &inputs)?[0];
            self.last.insert(node.id.into(), wire);
            return Ok(true);
        }
        let rank = source.outlet_fact(node.inputs[0])?.rank();
        let op: Box<dyn TypedOp> = if goes_element_by_element(node) {
            node.op.clone()
        } else if node.op_as::<TypedConcat>().is_some_and(|op| op.axis == 1) {
            Box::new(TypedConcat { axis: rank - 1 })
        } else if let Some(op) = node.op_as::<Reduce>()
            && op.axes.iter().copied().eq(2..rank)
        {
            match op.reducer {
                Reducer::Sum if self.is_float(node) => kernel::typed(Arc::new(SumOfPixels), &[0]),
                reducer => Box::new(Reduce { axes: (1..rank - 1).collect(), reducer }),
            }
        } else {
            return Ok(false);
        };
        for input in &node.inputs {
            if source.outlet_fact(*input)?.rank() != rank {
                return Ok(false);
            }
        }
        let mut inputs = node.inputs.iter().map(|input| self.last(*input)).collect::<TractResult<TVec<_>>>()?;
        let op = match self.times_pixel(node, &mut inputs)? {
            true => kernel::typed(Arc::new(TimesPixel), &[0]),
            false => op,
        };
        let wire = self.target.wire_node(&node.name, op, &inputs)?[0];
        self.last.insert(node.id.into(), wire);
        Ok(true)
    }

    /// Whether the node multiplies images by a pixel each; if so, the images come first then.
    fn times_pixel(&self, node: &TypedNode, inputs: &mut [OutletId]) -> TractResult<bool> {
        let is_product = node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Mul>());
        if !is_product || !self.is_float(node) {
            return Ok(false);
        }
        let shape =
            |input: OutletId| -> TractResult<TVec<TDim>> { Ok(self.target.outlet_fact(input)?.shape.to_tvec()) };
        let is_pixel = |pixel: &[TDim], of: &[TDim]| {
            let last = of.len() - 1;
            pixel != of && pixel[0] == of[0] && pixel[last] == of[last] && pixel[1..last].iter().all(TDim::is_one)
        };
        let (a, b) = (shape(inputs[0])?, shape(inputs[1])?);
        if is_pixel(&a, &b) {
            inputs.swap(0, 1);
        }
        Ok(is_pixel(&a, &b) || is_pixel(&b, &a))
    }

    /// Whether all that a node takes and gives is FP32.
    fn is_float(&self, node: &TypedNode) -> bool {
        let inputs = node.inputs.iter().map(|input| self.source.outlet_fact(*input).map(|fact| fact.datum_type).ok());
        let outputs = node.outputs.iter().map(|output| Some(output.fact.datum_type));
        inputs.chain(outputs).all(|datum_type| datum_type == Some(f32::datum_type()))
    }

    fn copy(&mut self, node: &TypedNode) -> TractResult<()> {
        let inputs = node.inputs.iter().map(|input| self.plain(*input)).collect::<TractResult<TVec<_>>>()?;
        let facts = node.outputs.iter().map(|output| output.fact.clone()).collect();
        let id = self.target.add_node(&node.name, node.op.clone(), facts)?;
        for (slot, input) in inputs.into_iter().enumerate() {
            self.target.add_edge(input, InletId::new(id, slot))?;
        }
        let slots = 0..node.outputs.len();
        self.plain.extend(slots.map(|slot| (OutletId::new(node.id, slot), OutletId::new(id, slot))));
        Ok(())
    }
}

fn goes_element_by_element(node: &TypedNode) -> bool {
    node.op_is::<TypedBinOp>() || node.op_is::<ElementWiseOp>()
}

/// Whether a node makes quantised values of others or back, all with the same scale and zero point.
fn goes_by_one_scale(model: &TypedModel, node: &TypedNode) -> TractResult<bool> {
    let is_one = kernel::of::<Quantise>(&*node.op).is_some() || kernel::of::<Dequantise>(&*node.op).is_some();
    let parameters = model.node_input_facts(node.id)?;
    Ok(is_one && parameters.iter().skip(1).all(|fact| fact.shape.volume().is_one()))
}

/// What is the same in a convolution of FP32 and in one of bytes.
pub struct Shape {
    pub window: Window,
    /// The axes between the batch and the channels.
    pub axes: usize,
    pub channels: usize,
    pub outputs: usize,
    pub groups: usize,
    pub is_depthwise: bool,
}

impl Shape {
    /// `None` where it is none of ours.
    pub fn of(model: &TypedModel, node: &TypedNode) -> Option<Self> {
        let op = node.op_as::<Conv>()?;
        let (window, axes) = window(model, node, &op.pool_spec)?;
        let (channels, outputs, groups) = (op.input_channels(), op.output_channels(), op.group);
        let is_depthwise = groups > 1 && groups == channels && groups == outputs;
        let fits = groups > 0 && channels.is_multiple_of(groups) && outputs.is_multiple_of(groups);
        let is_ours = op.q_params.is_none()
            && op.kernel_fmt == KernelFormat::OIHW
            && fits
            && (groups == 1 || is_depthwise || outputs / groups >= MIN_GROUP);
        is_ours.then_some(Self { window, axes, channels, outputs, groups, is_depthwise })
    }

    /// Weights of an output channel.
    pub fn each(&self) -> usize {
        self.channels / self.groups * self.window.taps()
    }

    /// The window over a copy of images of few channels, where that is worth it, with the weights for it.
    pub fn over_copy<T: Copy>(&self, weights: Vec<T>) -> (Window, Option<Copied>, Vec<T>) {
        let (channels, each) = (self.channels, self.each());
        match self.window.over_copy(channels).filter(|_| self.groups == 1) {
            None => (self.window.clone(), None, weights),
            Some((over, copied)) => {
                let rows = over.taps();
                let weights = with_rows_as_taps(&weights, channels, [rows, each / channels / rows]);
                (over, Some(copied), weights)
            }
        }
    }
}

/// Ours for a convolution, with what follows it.
fn convolution(model: &TypedModel, node: &TypedNode, simd: Simd) -> Option<(Windowed<What>, Tail)> {
    let shape = Shape::of(model, node)?;
    let Shape { axes, channels, outputs, groups, .. } = shape;
    let (weights, biases) = (known(model, node.inputs[1])?, known(model, *node.inputs.get(2)?)?);
    let (mut weights, biases) = (floats(&weights)?.to_vec(), floats(&biases)?);
    let each = shape.each();
    if weights.len() != outputs * each || ![1, outputs].contains(&biases.len()) {
        return None;
    }
    let tail = Tail::of(model, node.id.into(), outputs, 1);
    let bias = |output: usize| biases[output % biases.len()] * tail.factors[output] + tail.terms[output];
    let biases: Vec<f32> = (0..outputs).map(bias).collect();
    for (weights, factor) in weights.chunks_mut(each).zip(&tail.factors) {
        weights.iter_mut().for_each(|weight| *weight *= factor);
    }
    let name = "Conv";
    if shape.is_depthwise {
        let what = What::Channelwise(Channelwise::weighted(&weights, &biases, tail.limits));
        return Some((Windowed::new(name, shape.window, what, (axes, channels), simd), tail));
    }
    let (over, copied, weights) = shape.over_copy(weights);
    let filters = Filters { weights: &weights, biases: &biases, groups, taps: over.taps(), limits: tail.limits };
    let what = What::Dense(Dense::new(&filters, simd));
    Some((Windowed { copied, ..Windowed::new(name, over, what, (axes, channels), simd) }, tail))
}

/// Weights in the order of output channel, channel, row and column in that of output channel, column, channel and row.
fn with_rows_as_taps<T: Copy>(weights: &[T], channels: usize, [rows, columns]: [usize; 2]) -> Vec<T> {
    let mut ordered = Vec::with_capacity(weights.len());
    for filter in weights.chunks_exact(channels * rows * columns) {
        for (column, channel) in (0..columns).flat_map(|column| (0..channels).map(move |channel| (column, channel))) {
            ordered.extend((0..rows).map(|row| filter[(channel * rows + row) * columns + column]));
        }
    }
    ordered
}

/// Ours for a pooling.
fn pooling(model: &TypedModel, node: &TypedNode, simd: Simd) -> Option<Windowed<What>> {
    let (name, spec) = match (node.op_as::<MaxPool>(), node.op_as::<SumPool>()) {
        (Some(op), _) if node.outputs.len() == 1 => ("MaxPool", &op.pool_spec),
        (_, Some(op)) => ("AveragePool", &op.pool_spec),
        _ => return None,
    };
    let ((window, axes), channels) = (window(model, node, spec)?, spec.input_channels);
    let what = match node.op_as::<SumPool>() {
        None => What::Channelwise(Channelwise::greatest(channels)),
        Some(op) if !op.normalize => What::Channelwise(Channelwise::sums(channels)),
        // What ONNX counts where a window reaches beyond the padding is tract's to know.
        Some(op) if op.count_include_pad && window.is_padded() => return None,
        Some(_) => {
            let factors = (0..window.area()).map(|place| factor(&window, place)).collect::<Option<_>>()?;
            What::Average(Channelwise::sums(channels), factors)
        }
    };
    Some(Windowed::new(name, window, what, (axes, channels), simd))
}

/// What makes an average of a sum.
fn factor(window: &Window, place: usize) -> Option<f32> {
    let seen = window.seen(place);
    (seen > 0).then(|| 1.0 / seen as f32)
}

/// The window of a node that takes and gives FP32 of known shapes that aren't empty, and how many axes it has.
fn window(
    model: &TypedModel,
    node: &TypedNode,
    spec: &tract_onnx::tract_core::ops::cnn::PoolSpec,
) -> Option<(Window, usize)> {
    let input = model.outlet_fact(node.inputs[0]).ok()?;
    let (input_shape, output) = (input.shape.as_concrete()?, &node.outputs[0].fact);
    let output_shape = output.shape.as_concrete()?;
    let is_float = [input, output].iter().all(|fact| fact.datum_type == f32::datum_type());
    let window = Window::new(spec, input_shape)?;
    let is_whole = input_shape.iter().chain(output_shape).all(|&size| size > 0);
    let agrees = output_shape.iter().skip(2).eq(&window.places[2 - spec.rank()..]);
    (is_float && is_whole && agrees).then_some((window, spec.rank()))
}

fn floats(tensor: &Tensor) -> Option<&[f32]> {
    tensor.try_as_plain_ram().ok()?.as_slice().ok()
}
