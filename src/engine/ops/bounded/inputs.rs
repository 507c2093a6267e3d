//! What operators take for granted of their inputs and attributes, where tract does not look: that a single number is there,
//! that an axis is one of a tensor's, that a tensor has as many dimensions as a window moves along.
//!
//! tract reads the number of a tensor without elements, and the channels of one without that dimension, from where none are,
//! which may end the process; and it counts up to whatever axis is given. These belong upstream; ours go when they are
//! mended there.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::inputs::{exactly, integers};
use super::super::kernel::{Kernel, typed};
use super::windows::Reach;
use crate::tensor::MAX_RANK;

/// Inputs of operators, by ONNX's positions, that are read as one number.
const SINGLE: [(&str, &[usize]); 20] = [
    ("BlackmanWindow", &[0]),
    ("Clip", &[1, 2]),
    ("CumSum", &[1]),
    ("DFT", &[1, 2]),
    ("Dropout", &[1, 2]),
    ("GRU", &[4]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("If", &[0]),
    ("LSTM", &[4]),
    ("Loop", &[0, 1]),
    ("MelWeightMatrix", &[0, 1, 2, 3, 4]),
    ("NonMaxSuppression", &[2, 3, 4]),
    ("OneHot", &[1]),
    ("Pad", &[2]),
    ("RNN", &[4]),
    ("Range", &[0, 1, 2]),
    ("STFT", &[1, 3]),
    ("TopK", &[1]),
    ("Trilu", &[1]),
];

/// Inputs, by ONNX's positions, that hold axes. `Reduce` stands for all whose names begin so.
const AXES: [(&str, usize); 8] = [
    ("CumSum", 1),
    ("CumProd", 1),
    ("DFT", 2),
    ("Pad", 3),
    ("Reduce", 1),
    ("Slice", 3),
    ("Squeeze", 1),
    ("Unsqueeze", 1),
];

/// Inputs, by ONNX's positions, that hold sizes or counts. tract keeps 32 bits of them in places, and then makes another
/// shape than it said.
const SIZES: [(&str, &[usize]); 11] = [
    ("BlackmanWindow", &[0]),
    ("ConstantOfShape", &[0]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Reshape", &[1]),
    ("Resize", &[3]),
    ("Tile", &[1]),
    ("Trilu", &[1]),
];

/// Inputs, by ONNX's positions, that are read as a length, and the least of it.
const LENGTHS: [(&str, &[(usize, i64)]); 4] =
    [("DFT", &[(1, 1)]), ("MelWeightMatrix", &[(0, 0), (1, 0)]), ("OneHot", &[(1, 0)]), ("STFT", &[(1, 1), (3, 1)])];
/// Most of such a length.
const MAX_LENGTH: i64 = 1 << 26;

/// Least dimensions of inputs, by ONNX's positions.
const RANKS: [(&str, &[(usize, i64)]); 39] = [
    ("AveragePool", &[(0, 3)]),
    ("BatchNormalization", &[(0, 2), (1, 1)]),
    ("Conv", &[(0, 3), (1, 3)]),
    ("ConvInteger", &[(0, 3), (1, 3)]),
    ("ConvTranspose", &[(0, 3), (1, 3)]),
    ("DFT", &[(0, 2)]),
    ("DepthToSpace", &[(0, 4)]),
    ("GRU", &[(0, 3), (1, 3), (2, 3)]),
    ("Gather", &[(0, 1)]),
    ("GatherElements", &[(0, 1), (1, 1)]),
    ("GatherND", &[(0, 1), (1, 1)]),
    ("Gemm", &[(0, 2), (1, 2)]),
    ("GlobalAveragePool", &[(0, 3)]),
    ("GlobalLpPool", &[(0, 3)]),
    ("GlobalMaxPool", &[(0, 3)]),
    ("GridSample", &[(0, 3), (1, 3)]),
    ("GroupNormalization", &[(0, 3)]),
    ("InstanceNormalization", &[(0, 3)]),
    ("LRN", &[(0, 2)]),
    ("LSTM", &[(0, 3), (1, 3), (2, 3)]),
    ("LayerNormalization", &[(0, 1)]),
    ("LpNormalization", &[(0, 1)]),
    ("LpPool", &[(0, 3)]),
    ("MatMul", &[(0, 1), (1, 1)]),
    ("MatMulInteger", &[(0, 1), (1, 1)]),
    ("MaxPool", &[(0, 3)]),
    ("QLinearConv", &[(0, 3), (3, 3)]),
    ("QLinearMatMul", &[(0, 1), (3, 1)]),
    ("RMSNormalization", &[(0, 1)]),
    ("RNN", &[(0, 3), (1, 3), (2, 3)]),
    ("RoiAlign", &[(0, 4)]),
    ("STFT", &[(0, 2)]),
    ("ScatterElements", &[(0, 1), (1, 1), (2, 1)]),
    ("ScatterND", &[(0, 1), (1, 1)]),
    ("SimplifiedLayerNormalization", &[(0, 1)]),
    ("SkipSimplifiedLayerNormalization", &[(0, 1)]),
    ("SpaceToDepth", &[(0, 4)]),
    ("TopK", &[(0, 1)]),
    ("Trilu", &[(0, 2)]),
];

/// Operators that move a window along all dimensions of their first input but the first two.
const WINDOWS: [&str; 8] =
    ["AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "MaxUnpool", "QLinearConv"];

/// Operators whose attribute `axis` is an axis of their first input, or of an output with so many dimensions more.
const AXIS: [(&str, i64); 7] = [
    ("DFT", 0),
    ("LayerNormalization", 0),
    ("LpNormalization", 0),
    ("OneHot", 1),
    ("RMSNormalization", 0),
    ("SimplifiedLayerNormalization", 0),
    ("SkipSimplifiedLayerNormalization", 0),
];

/// What one node takes for granted. Places are among the inputs that it has.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    single: TVec<usize>,
    sizes: TVec<usize>,
    lengths: TVec<(usize, i64)>,
    /// Where axes are, and whether each of them is a dimension more.
    axes: Option<(usize, bool)>,
    /// The least dimensions of an input.
    ranks: TVec<(usize, i64)>,
    /// Attributes with an entry for each dimension, and how many dimensions that makes of the first input.
    lists: Vec<(&'static str, i64)>,
    /// Where an STFT has its window and the length of a frame.
    frame: TVec<usize>,
    /// The axis, and how many dimensions more than the first input may have it.
    axis: Option<(i64, i64)>,
    window: Option<Reach>,
}

impl Granted {
    pub fn of(node: &NodeProto) -> TractResult<Self> {
        // Without it the others would be taken for it. Two operators may lack it.
        let lacks_first = node.input.first().is_some_and(String::is_empty);
        ensure!(!lacks_first || ["Loop", "Scan"].contains(&&*node.op_type), "{} lacks its first input", node.op_type);
        let place = |position: &usize| {
            let given = node.input.get(*position).is_some_and(|name| !name.is_empty());
            given.then(|| node.input[..*position].iter().filter(|name| !name.is_empty()).count())
        };
        let of = |table: &[(&str, &'static [usize])]| {
            table.iter().find(|(name, _)| *name == node.op_type).map_or(&[][..], |(_, positions)| positions)
        };
        let pairs = |table: &[(&str, &'static [(usize, i64)])]| -> TVec<(usize, i64)> {
            let of = table.iter().find(|(name, _)| *name == node.op_type).map_or(&[][..], |(_, pairs)| pairs);
            of.iter().filter_map(|(position, least)| Some((place(position)?, *least))).collect()
        };
        let named = |name: &str| name == node.op_type || (name == "Reduce" && node.op_type.starts_with(name));
        let axes = AXES.iter().find(|(name, _)| named(name)).and_then(|(_, position)| place(position));
        let axes = axes.map(|place| (place, node.op_type == "Unsqueeze"));
        let axis = match AXIS.iter().find(|(name, _)| *name == node.op_type) {
            Some((_, more)) => node.get_attr_opt::<i64>("axis")?.map(|axis| (axis, *more)),
            None => None,
        };
        Ok(Self {
            single: of(&SINGLE).iter().filter_map(place).collect(),
            sizes: of(&SIZES).iter().filter_map(place).collect(),
            lengths: pairs(&LENGTHS),
            axes,
            ranks: pairs(&RANKS),
            lists: lists(node)?,
            frame: if node.op_type == "STFT" { [2, 3].iter().filter_map(place).collect() } else { tvec![] },
            axis,
            window: Reach::of(node)?,
        })
    }

    /// # Errors
    /// What is known of the inputs and is not as the operator takes it for granted.
    pub fn check(&self, inputs: &[&InferenceFact]) -> TractResult<()> {
        for &place in &self.single {
            let shape = inputs.get(place).map(|input| input.shape.as_concrete_finite()).transpose()?.flatten();
            ensure!(shape.is_none_or(|shape| !shape.contains(&0)), "its input {place} holds no number");
        }
        let rank = |place: usize| inputs.get(place).and_then(|input| input.shape.rank().concretize());
        let known = |place: usize| -> TractResult<Vec<i64>> {
            let value = inputs.get(place).and_then(|input| input.value.concretize());
            // A size that hangs on others is none that a file or a client wrote.
            Ok(value.and_then(|value| integers(&value).ok()).unwrap_or_default())
        };
        for &place in &self.sizes {
            let wrong = known(place)?.into_iter().find(|size| i32::try_from(*size).is_err());
            ensure!(wrong.is_none(), "its input {place} holds {}, a size beyond all reason", wrong.unwrap_or_default());
        }
        for &(place, least) in &self.lengths {
            let length = known(place)?.first().copied();
            let fits = length.is_none_or(|length| (least..=MAX_LENGTH).contains(&length));
            ensure!(fits, "its input {place} is a length of {}", length.unwrap_or_default());
        }
        for &(place, least) in &self.ranks {
            let fits = rank(place).is_none_or(|rank| rank >= least);
            ensure!(fits, "its input {place} has fewer than {least} dimensions");
        }
        for &(name, dimensions) in &self.lists {
            let fits = rank(0).is_none_or(|rank| rank == dimensions);
            ensure!(fits, "attribute '{name}' is for an input of {dimensions} dimensions");
        }
        for &place in &self.frame {
            let sizes = |place: usize| inputs.get(place).and_then(|input| input.shape.as_concrete_finite().ok()?);
            let window = sizes(place).and_then(|window| window.first().copied());
            let frame = known(place)?.first().copied().filter(|_| window.is_none()).or(window.map(|size| size as i64));
            let signal = sizes(0).and_then(|signal| signal.get(1).copied());
            let fits = signal.zip(frame).is_none_or(|(signal, frame)| frame <= signal as i64);
            ensure!(fits, "its frames are longer than its signal");
        }
        self.check_axes(inputs, rank(0))?;
        self.window.as_ref().map_or(Ok(()), |window| window.check(inputs))
    }

    fn check_axes(&self, inputs: &[&InferenceFact], rank: Option<i64>) -> TractResult<()> {
        if let Some((place, adds)) = self.axes
            && let Some(axes) = inputs.get(place).and_then(|axes| axes.value.concretize())
        {
            let axes = integers(&axes)?;
            let rank = rank.map_or(MAX_RANK as i64, |rank| if adds { rank + axes.len() as i64 } else { rank });
            let wrong = axes.into_iter().find(|axis| !(-rank..rank).contains(axis));
            ensure!(wrong.is_none(), "its axes hold {} for {rank} dimensions", wrong.unwrap_or_default());
        }
        if let (Some((axis, more)), Some(rank)) = (self.axis, rank) {
            let rank = rank + more;
            ensure!((-rank..rank).contains(&axis), "attribute 'axis' holds {axis} for {rank} dimensions");
        }
        Ok(())
    }

    /// Puts a check before each input of which only a run tells whether it is as it should be: that holds one number, that
    /// is as large as a window.
    pub fn guard(
        &self,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<Option<HashMap<OutletId, OutletId>>> {
        let mut guarded: Option<HashMap<OutletId, OutletId>> = None;
        for &place in &self.single {
            let Some(source) = node.inputs.get(place) else { continue };
            let input = mapping[source];
            let fact = target.outlet_fact(input)?;
            if fact.konst.is_none() && !fact.shape.is_concrete() {
                let name = format!("{}.input{place}.number", node.name);
                let checked = target.wire_node(name, typed(Arc::new(Number), &[0]), &[input])?[0];
                guarded.get_or_insert_with(|| mapping.clone()).insert(*source, checked);
            }
        }
        if let Some(window) = &self.window {
            let facts = node.inputs.iter().map(|input| target.outlet_fact(mapping[input]));
            let facts = facts.collect::<TractResult<Vec<_>>>()?;
            if let Some(fits) = window.guard(&facts) {
                let image = node.inputs[0];
                let checked = target.wire_node(format!("{}.fits", node.name), fits, &[mapping[&image]])?[0];
                guarded.get_or_insert_with(|| mapping.clone()).insert(image, checked);
            }
        }
        Ok(guarded)
    }
}

/// The attributes with an entry for each dimension, and how many dimensions that makes of the first input.
fn lists(node: &NodeProto) -> TractResult<Vec<(&'static str, i64)>> {
    let mut found = vec![];
    if node.op_type == "Transpose"
        && let Some(axes) = node.get_attr_opt_slice::<i64>("perm")?
    {
        let is_permutation = (0..axes.len() as i64).all(|axis| axes.contains(&axis));
        ensure!(is_permutation, "attribute 'perm' holds {axes:?}");
        found.push(("perm", axes.len() as i64));
    }
    if WINDOWS.contains(&&*node.op_type) {
        for (name, each) in [("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 2)] {
            if let Some(numbers) = node.get_attr_opt_slice::<i64>(name)? {
                ensure!(numbers.len() % each == 0, "attribute '{name}' holds {} numbers", numbers.len());
                // Besides the rows and the channels.
                found.push((name, (numbers.len() / each + 2) as i64));
            }
        }
    }
    Ok(found)
}

/// Gives its input as it is, which must hold something.
#[derive(Debug)]
struct Number;

impl Kernel for Number {
    fn name(&self) -> &'static str {
        "Number"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        ensure!(inputs[0].len() > 0, "an input that is read as a number holds none");
        Ok(tvec!(inputs[0].clone().into_tensor()))
    }
}
