//! `RNN`, `GRU` and `LSTM` (ONNX 14) with what tract's own pass over or refuse: activations of their own, `clip`,
//! `input_forget` and `sequence_lens`. tract's stay for the plain cases, where they are faster.
//!
//! Each row runs on its own, in FLOAT: all its steps are multiplied with W at once, and then each step with R.

mod activation;
mod cell;
mod run;

use tract_onnx::model::{OnnxOpRegister, ParsingContext, optional_inputs, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use self::activation::Activation;
use self::cell::{Cell, Kind};
use super::Built;
use super::kernel::{Kernel, built};

/// What tract's own operators are called beside ours.
const TRACTS: [(&str, &str); 3] =
    [("RNN", "HeadgateTractRNN"), ("GRU", "HeadgateTractGRU"), ("LSTM", "HeadgateTractLSTM")];

/// Puts ours in the place of tract's, and those under other names.
pub fn register(register: &mut OnnxOpRegister) {
    for (name, tracts) in TRACTS {
        if let Some(own) = register.0.get(name).copied() {
            register.insert(tracts, own);
        }
        register.insert(name, build);
    }
}

fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let recurrence = Recurrence::read(node)?;
    let tracts = TRACTS.iter().find(|(name, _)| *name == node.op_type);
    let tracts = tracts.and_then(|(_, tracts)| context.framework.op_register.0.get(*tracts));
    match tracts {
        Some(tracts) if recurrence.is_plain() && !has_columns_of_one(context, node, recurrence.kind) => {
            tracts(context, node)
        }
        _ => built(node, recurrence),
    }
}

/// Whether it is a GRU that resets late, of one value a step: there tract's product of the values comes out in columns, of
/// which it takes rows.
fn has_columns_of_one(context: &ParsingContext, node: &NodeProto, kind: Kind) -> bool {
    let graphs = context.model.graph.iter().chain(context.parent_graphs.iter().copied());
    let mut weights = graphs.flat_map(|graph| &graph.initializer);
    let weights = weights.find(|weights| node.input.get(1).is_some_and(|name| *name == weights.name));
    matches!(kind, Kind::Gru { resets_after: true }) && weights.is_none_or(|weights| weights.dims.last() == Some(&1))
}

/// The places of optional inputs among those that are there.
#[derive(Debug, Default)]
struct Inputs {
    bias: Option<usize>,
    lengths: Option<usize>,
    hidden: Option<usize>,
    cell: Option<usize>,
    peepholes: Option<usize>,
}

#[derive(Debug)]
struct Recurrence {
    kind: Kind,
    /// One for each direction.
    cells: Vec<Cell>,
    /// Whether the only direction is from the last step to the first. Of two, the second is.
    reverse: bool,
    /// Whether rows come before steps (`layout`).
    rows_first: bool,
    inputs: Inputs,
}

impl Recurrence {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let kind = match &*node.op_type {
            "RNN" => Kind::Rnn,
            "GRU" => Kind::Gru { resets_after: node.get_attr_opt::<i64>("linear_before_reset")?.unwrap_or(0) != 0 },
            "LSTM" => Kind::Lstm { couples: node.get_attr_opt::<i64>("input_forget")?.unwrap_or(0) != 0 },
            other => bail!("'{other}' is no recurrence"),
        };
        let (directions, reverse) = match node.get_attr_opt::<&str>("direction")?.unwrap_or("forward") {
            "forward" => (1, false),
            "reverse" => (1, true),
            "bidirectional" => (2, false),
            other => bail!("attribute 'direction' holds '{other}'"),
        };
        let clip = node.get_attr_opt::<f32>("clip")?;
        ensure!(clip.is_none_or(|clip| clip >= 0.0), "attribute 'clip' holds {clip:?}");
        let activations = Activation::read(node, kind.activations(), directions)?;
        let cells = activations.chunks_exact(kind.activations().len());
        let cells = cells.map(|activations| Cell { kind, activations: activations.to_vec(), clip }).collect();
        let layout = node.get_attr_opt::<i64>("layout")?.unwrap_or(0);
        ensure!(matches!(layout, 0 | 1), "attribute 'layout' holds {layout}");
        let mut held = optional_inputs(node).chain(std::iter::repeat(None));
        ensure!((0..3).all(|_| held.next().flatten().is_some()), "it needs X, W and R");
        let mut next = || held.next().flatten();
        let inputs = Inputs { bias: next(), lengths: next(), hidden: next(), cell: next(), peepholes: next() };
        let has_third = optional_outputs(node).nth(2).flatten().is_some();
        ensure!(matches!(kind, Kind::Lstm { .. }) || !has_third, "only an LSTM has three outputs");
        Ok(Self { kind, cells, reverse, rows_first: layout == 1, inputs })
    }

    /// Whether tract's own computes it, and rightly.
    fn is_plain(&self) -> bool {
        let usual = |cell: &Cell| cell.clip.is_none() && cell.activations == self.kind.activations();
        let couples = matches!(self.kind, Kind::Lstm { couples: true });
        !couples && !self.reverse && self.inputs.lengths.is_none() && self.cells.iter().all(usual)
    }
}

impl Kernel for Recurrence {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 3, "it needs X, W and R");
        for (at, input) in inputs.iter().enumerate() {
            let is_lengths = self.inputs.lengths == Some(at);
            ensure!(is_lengths || input.datum_type == DatumType::F32, "an input of {:?}", input.datum_type);
        }
        let [x, w, r] = [0, 1, 2].map(|at| &inputs[at].shape);
        ensure!(x.rank() == 3 && w.rank() == 3 && r.rank() == 3, "X, W and R of {x:?}, {w:?} and {r:?}");
        let (hidden, gates, directions) = (r[2].clone(), self.kind.gates().to_dim(), self.cells.len().to_dim());
        let (steps, rows) = if self.rows_first { (&x[1], &x[0]) } else { (&x[0], &x[1]) };
        let state = match self.rows_first {
            true => [rows.clone(), directions.clone(), hidden.clone()],
            false => [directions.clone(), rows.clone(), hidden.clone()],
        };
        let all = hidden.clone() * gates;
        let check = |name: &str, shape: &ShapeFact, wanted: &[TDim]| {
            let fits = shape.rank() == wanted.len() && shape.iter().zip(wanted).all(|(a, b)| a.compatible_with(b));
            if fits { Ok(()) } else { Err(anyhow!("{name} of {shape:?} instead of {wanted:?}")) }
        };
        check("W", w, &[directions.clone(), all.clone(), x[2].clone()])?;
        check("R", r, &[directions.clone(), all.clone(), hidden.clone()])?;
        let optional = [
            ("B", self.inputs.bias, vec![directions.clone(), all * 2]),
            ("sequence_lens", self.inputs.lengths, vec![rows.clone()]),
            ("initial_h", self.inputs.hidden, state.to_vec()),
            ("initial_c", self.inputs.cell, state.to_vec()),
            ("P", self.inputs.peepholes, vec![directions.clone(), hidden.clone() * 3]),
        ];
        for (name, at, wanted) in optional {
            at.map_or(Ok(()), |at| check(name, &inputs[at].shape, &wanted))?;
        }
        let y = match self.rows_first {
            true => tvec!(rows.clone(), steps.clone(), directions, hidden),
            false => tvec!(steps.clone(), directions, rows.clone(), hidden),
        };
        Ok(tvec!(f32::fact(y), f32::fact(state.clone()), f32::fact(state)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        run::run(self, inputs)
    }
}

#[cfg(test)]
mod tests;
