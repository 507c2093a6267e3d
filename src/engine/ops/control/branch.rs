//! `ai.onnx.If`: one of two graphs, chosen by a value.
//!
//! Where the condition is known when the model is prepared, only the chosen branch is looked at, and it takes the node's
//! place. Else a dimension in which the branches differ is one that a run tells; a branch that can't be made for the
//! inputs' shapes, such as one that squeezes a dimension of 3, is an error of the run that chooses it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::source::TypedSource;
use tract_onnx::tract_core::{as_op, not_a_typed_op, not_out_of_plan};
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::body::Body;
use super::branches::{Branch, Branches, truth};
use super::symbols::{Fresh, symbols};

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

/// What the analysis last said, and of which inputs.
type Known = (TVec<InferenceFact>, TVec<InferenceFact>);

/// An If as it was parsed.
#[derive(Debug, Clone)]
pub struct If {
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
    pub fn graphs(&self) -> Vec<&InferenceModel> {
        self.bodies.iter().map(|(_, body)| body.graph()).collect()
    }

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

#[cfg(test)]
mod tests {
    use super::super::super::testing::{planned, run_graph};
    use super::super::testing::{graph, node, with_graph, with_int};
    use super::*;
    use tract_onnx::pb::GraphProto;

    /// If `c` the one graph, else the other; both see `x`.
    fn choice(then: Vec<NodeProto>, other: Vec<NodeProto>) -> GraphProto {
        let branches = with_graph(node("y = If(c)"), "then_branch", graph("", then, "t"));
        let branches = with_graph(branches, "else_branch", graph("", other, "e"));
        graph("c:b x:f", vec![branches], "y")
    }

    fn doubled() -> NodeProto {
        with_int(node("t = Concat(x, x)"), "axis", 0)
    }

    #[test]
    fn the_chosen_branch_gives_its_own_shape() {
        let x = tensor1(&[1f32, 2.0]);
        let chosen = |c: bool| {
            let graph = choice(vec![doubled()], vec![node("e = Neg(x)")]);
            run_graph(graph, &[tensor0(c), x.clone()]).unwrap().remove(0)
        };
        assert_eq!(chosen(true), tensor1(&[1f32, 2.0, 1.0, 2.0]));
        assert_eq!(chosen(false), tensor1(&[-1f32, -2.0]));
    }

    #[test]
    fn a_branch_that_does_not_fit_is_an_error_of_the_run_that_chooses_it() {
        let chosen = |c: bool| {
            let graph = choice(vec![node("t = Squeeze(x)")], vec![node("e = MatMul(x, x)")]);
            run_graph(graph, &[tensor0(c), tensor2(&[[1f32, 2.0]])])
        };
        assert_eq!(chosen(true).unwrap(), [tensor1(&[1f32, 2.0])]);
        assert!(format!("{:#}", chosen(false).unwrap_err()).contains("chosen branch doesn't fit"));
    }

    #[test]
    fn a_known_condition_leaves_one_branch_and_no_choice() {
        let mut graph = choice(vec![doubled()], vec![node("e = Neg(x)")]);
        graph.input.remove(0);
        // A shape equals itself.
        graph.node.insert(0, node("c = Equal(n, n)"));
        graph.node.insert(0, node("n = Shape(x)"));
        let x = [tensor1(&[1f32])];
        let plan = planned(graph.clone(), &x).unwrap();
        assert!(plan.model().nodes.iter().all(|node| !node.op_is::<Branches>()));
        assert_eq!(run_graph(graph, &x).unwrap(), [tensor1(&[1f32, 1.0])]);
    }

    #[test]
    fn branches_are_planned_with_the_plan() {
        let graph = choice(vec![doubled()], vec![node("e = Neg(x)")]);
        let plan = planned(graph, &[tensor0(true), tensor1(&[1f32])]).unwrap();
        let branches = plan.model().nodes.iter().find_map(|node| node.op_as::<Branches>()).unwrap();
        assert!(branches.branches.iter().flatten().all(|(_, nested)| nested.is_planned()));
        assert_eq!(branches.graphs().len(), 2);
    }

    #[test]
    fn branches_of_different_types_or_ranks_and_loose_ends_are_refused() {
        let refused = |other: Vec<NodeProto>| {
            let graph = choice(vec![node("t = Neg(x)")], other);
            format!("{:#}", run_graph(graph, &[tensor0(true), tensor1(&[1f32])]).unwrap_err())
        };
        assert!(refused(vec![node("e = Shape(x)")]).contains("of one branch"));
        assert!(refused(vec![with_int(node("e = ReduceSum(x)"), "keepdims", 0)]).contains("of one branch"));
        assert!(refused(vec![node("z = Neg(x)")]).contains("nothing in the graph gives its output 'e'"));
    }
}
