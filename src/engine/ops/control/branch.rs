//! `ai.onnx.If`: one of two graphs, chosen by a value.
//!
//! Where the condition is known when the model is prepared, only the chosen branch is looked at, and it takes the node's
//! place. Else a dimension in which the branches differ is one that a run tells; a branch that can't be made for the
//! inputs' shapes, such as one that squeezes a dimension of 3, is an error of the run that chooses it.

use std::collections::HashSet;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::{as_op, not_a_typed_op, not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::body::Body;
use super::nested::Nested;
use super::watch::Watch;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let (then, then_closure) = Body::parse(context, node, "then_branch")?;
    let (other, else_closure) = Body::parse(context, node, "else_branch")?;
    ensure!(then.declared() == 0 && other.declared() == 0, "a branch of If has inputs of its own");
    let outputs = node.output.len();
    ensure!(
        then.outputs() == outputs && other.outputs() == outputs && node.output.iter().all(|name| !name.is_empty()),
        "If has {outputs} outputs, its branches give {} and {}",
        then.outputs(),
        other.outputs()
    );
    let mut closure = then_closure.clone();
    closure.extend(else_closure.iter().filter(|name| !then_closure.contains(name)).cloned());
    // The condition comes first.
    let place = |name: &String| closure.iter().position(|held| held == name).map(|place| place + 1);
    let places = |names: &[String]| names.iter().filter_map(place).collect::<TVec<usize>>();
    let bodies = [(places(&then_closure), then), (places(&else_closure), other)];
    let symbols = (0..outputs).map(|_| Fresh::of(context)).collect();
    Ok((Box::new(If { bodies, symbols, known: None }), closure))
}

/// Makes symbols of one model's scope, the same for the same axis.
#[derive(Debug, Clone)]
pub struct Fresh(TVec<Symbol>);

/// Highest rank of a tensor whose dimensions may differ between branches or turns.
const MAX_RANK: usize = 8;

impl Fresh {
    pub fn of(context: &ParsingContext) -> Self {
        Self((0..MAX_RANK).map(|_| context.template.symbols.new_with_prefix("inner")).collect())
    }

    pub fn axis(&self, axis: usize) -> TractResult<TDim> {
        self.0
            .get(axis)
            .map(|symbol| symbol.to_dim())
            .with_context(|| format!("a tensor of more than {MAX_RANK} dimensions"))
    }
}

/// What the analysis last said, and of which inputs.
type Known = (TVec<InferenceFact>, TVec<InferenceFact>);

#[derive(Debug, Clone)]
struct If {
    /// The branch for true and the one for false, each with the places of its inputs among the node's.
    bodies: [(TVec<usize>, Body); 2],
    symbols: TVec<Fresh>,
    known: Option<Known>,
}

impl PartialEq for If {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for If {}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    not_a_typed_op!();
}

impl EvalOp for If {
    not_out_of_plan!();
}

impl If {
    /// Whether the shapes that come in hang on sizes that the model's inputs bring. A branch that doesn't fit all sizes may
    /// fit the one that is asked for: that is for a plan of that size to find out.
    fn hangs_on_sizes(target: &TypedModel, facts: &[TypedFact]) -> bool {
        // The graph is in the making: its list of inputs comes last.
        let sources = target.nodes.iter().filter(|node| node.op_is::<TypedSource>());
        let inputs = sources.flat_map(|node| &node.outputs).map(|output| &output.fact);
        !symbols(inputs).is_disjoint(&symbols(facts))
    }

    fn analysed(&self, inputs: &[InferenceFact]) -> TractResult<TVec<InferenceFact>> {
        let branch = |index: usize| {
            let (places, body) = &self.bodies[index];
            body.analysed(&places.iter().map(|&place| inputs[place].clone()).collect::<Vec<_>>())
        };
        if let Some(condition) = inputs[0].value.concretize() {
            return branch(usize::from(!truth(&condition)?));
        }
        match (branch(0), branch(1)) {
            (Ok(then), Ok(other)) => {
                Ok(then.into_iter().zip(other).map(|(then, other)| common(&then, &other)).collect())
            }
            _ => Ok(self.symbols.iter().map(|_| InferenceFact::default()).collect()),
        }
    }
}

/// What holds for both.
fn common(then: &InferenceFact, other: &InferenceFact) -> InferenceFact {
    let mut fact = InferenceFact::default();
    if then.datum_type == other.datum_type {
        fact.datum_type = then.datum_type;
    }
    if let (Some(rank), false, false) = (then.shape.rank().concretize(), then.shape.is_open(), other.shape.is_open())
        && other.shape.rank().concretize() == Some(rank)
    {
        let dims = then.shape.dims().zip(other.shape.dims());
        let dims = dims.map(|(then, other)| if then == other { then.clone() } else { GenericFactoid::Any });
        fact.shape = ShapeFactoid::closed(dims.collect());
    }
    fact
}

fn truth(condition: &Tensor) -> TractResult<bool> {
    ensure!(condition.len() == 1, "a condition of {} values", condition.len());
    condition.try_as_plain_ram()?.as_slice::<bool>()?.first().copied().context("a condition without a value")
}

impl InferenceOp for If {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let inputs: TVec<InferenceFact> = inputs.into_iter().cloned().collect();
        ensure!(!inputs.is_empty(), "If has no condition");
        let said = match &self.known {
            Some((of, said)) if *of == inputs => said.clone(),
            _ => self.analysed(&inputs)?,
        };
        let outputs = outputs.into_iter().zip(&said).map(|(outer, said)| outer.unify(said));
        let outputs = outputs.collect::<TractResult<TVec<_>>>()?;
        self.known = Some((inputs.clone(), said));
        Ok((inputs, outputs, observed.into_iter().cloned().collect()))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.symbols.len())
    }

    fn to_typed(
        &self,
        _: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let inputs: TVec<OutletId> = node.inputs.iter().map(|input| mapping[input]).collect();
        let facts = inputs.iter().map(|&input| target.outlet_fact(input).cloned()).collect::<TractResult<Vec<_>>>()?;
        let branch = |index: usize| {
            let (places, body) = &self.bodies[index];
            let nested = body.typed(&places.iter().map(|&place| facts[place].clone()).collect::<Vec<_>>())?;
            TractResult::Ok((places.clone(), nested))
        };
        if let Some(condition) = &facts[0].konst {
            let (places, nested) = branch(usize::from(!truth(condition)?))?;
            let offered: TVec<OutletId> = places.iter().map(|&place| inputs[place]).collect();
            return nested.inline(&node.name, target, &offered);
        }
        let branches = match (branch(0), branch(1)) {
            (Err(error), _) | (_, Err(error)) if Self::hangs_on_sizes(target, &facts) => return Err(error),
            (Err(error), Err(_)) => return Err(error),
            (then, other) => [then, other].map(|branch| branch.map_err(|error| error.root_cause().to_string())),
        };
        let outputs = self.output_facts(&branches)?;
        target.wire_node(&node.name, Branches { branches, outputs }, &inputs)
    }

    as_op!();
}

/// The symbols in the shapes of values.
fn symbols<'a>(facts: impl IntoIterator<Item = &'a TypedFact>) -> HashSet<Symbol> {
    facts.into_iter().flat_map(|fact| fact.shape.iter()).flat_map(|dim| dim.symbols()).collect()
}

/// A branch with the places of what is offered to it, or why there is none.
type Branch = Result<(TVec<usize>, Nested), String>;

impl If {
    fn output_facts(&self, branches: &[Branch; 2]) -> TractResult<TVec<TypedFact>> {
        let one = |(index, symbols): (usize, &Fresh)| match branches {
            [Ok((_, then)), Ok((_, other))] => {
                let (then, other) = (then.output_fact(index)?, other.output_fact(index)?);
                ensure!(
                    then.datum_type == other.datum_type && then.rank() == other.rank(),
                    "output {index} of If is {then:?} of one branch and {other:?} of the other"
                );
                let dim = |(axis, (then, other)): (usize, (&TDim, &TDim))| {
                    if then == other { Ok(then.clone()) } else { symbols.axis(axis) }
                };
                let dims = then.shape.iter().zip(other.shape.iter()).enumerate().map(dim);
                Ok(then.datum_type.fact(dims.collect::<TractResult<TVec<_>>>()?))
            }
            [Ok((_, only)), Err(_)] | [Err(_), Ok((_, only))] => Ok(only.output_fact(index)?.without_value()),
            [Err(_), Err(_)] => bail!("neither branch of If can be made"),
        };
        self.symbols.iter().enumerate().map(one).collect()
    }
}

/// An If whose condition is not known before a run.
#[derive(Debug, Clone)]
pub struct Branches {
    /// For true and for false.
    branches: [Branch; 2],
    outputs: TVec<TypedFact>,
}

impl PartialEq for Branches {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Branches {}

impl Branches {
    pub fn graphs(&self) -> Vec<&TypedModel> {
        self.branches.iter().flatten().map(|(_, nested)| nested.graph()).collect()
    }

    /// The outputs of the branch that the first input chooses.
    pub fn run(&self, symbols: &SymbolValues, inputs: &[TValue], watch: &Watch) -> TractResult<TVec<TValue>> {
        let (places, nested) = self.chosen(&inputs[0])?;
        let offered: TVec<TValue> = places.iter().map(|&place| inputs[place].clone()).collect();
        nested.runner()?.run(&offered, symbols, watch)
    }

    fn chosen(&self, condition: &Tensor) -> TractResult<&(TVec<usize>, Nested)> {
        let chosen = &self.branches[usize::from(!truth(condition)?)];
        chosen.as_ref().map_err(|cause| format_err!("the chosen branch doesn't fit the inputs: {cause}"))
    }
}

impl Op for Branches {
    fn name(&self) -> StaticName {
        "If".into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        true
    }

    op_as_typed_op!();
}

impl EvalOp for Branches {
    not_out_of_plan!();

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.run(context.symbols, &inputs, &Watch::new(&|| false))
    }
}

impl TypedOp for Branches {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.outputs.clone())
    }

    /// A condition that only now is known: the chosen branch takes the node's place, where it gives the shapes that the
    /// graph was typed with.
    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        let Some(condition) = &model.outlet_fact(node.inputs[0])?.konst else { return Ok(None) };
        let (places, nested) = self.chosen(condition)?;
        let mut patch = TypedModelPatch::default();
        let taps = patch.taps(model, &node.inputs)?;
        let offered: TVec<OutletId> = places.iter().map(|&place| taps[place]).collect();
        let outputs = nested.inline(&node.name, &mut patch, &offered)?;
        for (slot, &output) in outputs.iter().enumerate() {
            if self.outputs[slot].shape != patch.outlet_fact(output)?.shape {
                return Ok(None);
            }
            patch.shunt_outside(model, OutletId::new(node.id, slot), output)?;
        }
        Ok(Some(patch))
    }

    fn codegen(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        if self.branches.iter().flatten().all(|(_, nested)| nested.is_planned()) {
            return Ok(None);
        }
        let planned = |branch: &Branch| -> TractResult<Branch> {
            Ok(match branch {
                Ok((places, nested)) => Ok((places.clone(), nested.planned()?)),
                Err(cause) => Err(cause.clone()),
            })
        };
        let [then, other] = &self.branches;
        let op = Self { branches: [planned(then)?, planned(other)?], outputs: self.outputs.clone() };
        Ok(Some(TypedModelPatch::replace_single_op(model, node, &node.inputs, op)?))
    }

    as_op!();
}
