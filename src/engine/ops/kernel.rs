//! Operators that are no more than a function from tensors to tensors: what they say of themselves is here made into
//! what tract wants of an operator at each of its stages.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Weak;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::Built;

/// A function from tensors to tensors. It keeps nothing from one call to the next.
pub trait Kernel: Any + Debug + Send + Sync {
    /// Its name in errors and plans: the operator's in ONNX.
    fn name(&self) -> &'static str;

    /// The type that an input of type `given` is cast to before the others see it; none is cast where it isn't said.
    ///
    /// # Errors
    /// When the operator has no use for that type.
    fn input_type(&self, _input: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(given)
    }

    /// Types and shapes of all the operator's outputs, the optional ones included. An input known at load has its value
    /// in its fact. A dimension that only a run can tell is a symbol that the operator was given when it was built.
    ///
    /// # Errors
    /// Where the operator is not defined for these inputs, or needs a value that is not known.
    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>>;

    /// The values of all its outputs, for inputs of which `facts` said nothing wrong.
    ///
    /// # Errors
    /// When the inputs' values don't fit the operator.
    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>>;

    /// Which axes of the inputs are axes of the outputs, for tract's own optimisations; none where it isn't said.
    ///
    /// # Errors
    /// tract's own.
    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::disconnected(inputs, outputs)
    }

    /// Bytes of its own data, where they may be large.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// Whether another one is this one's equal, so that plans may hold one of them for both; asked of those that hold data.
    fn is_same(&self, _other: &dyn Kernel) -> bool {
        false
    }

    /// Whether the outputs' shapes hang on values that the plan may know and the analysis before it doesn't.
    fn values_decide_shapes(&self) -> bool {
        false
    }

    /// Whether what it makes of constants is a constant from the beginning, or only when a plan is optimised.
    fn folds_at_once(&self) -> bool {
        true
    }

    /// Whether `facts` holds symbols of the operator's own.
    fn mints_symbols(&self) -> bool {
        false
    }
}

/// The operator of a node, with the outputs that the node has: those that it leaves out are not given.
pub fn built(node: &NodeProto, kernel: impl Kernel) -> Built {
    Ok((expand(KernelOp { kernel: Arc::new(kernel), outputs: outputs_of(node) }), vec![]))
}

/// The typed form of an operator that casts no input and gives these of its outputs.
pub fn typed(kernel: Arc<dyn Kernel>, outputs: &[usize]) -> Box<dyn TypedOp> {
    Box::new(KernelOp { kernel, outputs: outputs.into() })
}

/// Such an operator, if it is this one.
pub fn of<K: Kernel>(op: &dyn TypedOp) -> Option<&K> {
    (&*op.downcast_ref::<KernelOp>()?.kernel as &dyn Any).downcast_ref()
}

/// Which of an operator's outputs the node has.
pub fn outputs_of(node: &NodeProto) -> TVec<usize> {
    node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(|(slot, _)| slot).collect()
}

/// Where such an operator keeps its own data and how many bytes they are; `None` for any other operator, and for one
/// without data to speak of.
pub fn held_bytes(op: &dyn TypedOp) -> Option<(usize, u64)> {
    let kernel = &op.downcast_ref::<KernelOp>()?.kernel;
    let bytes = kernel.held_bytes();
    (bytes > 0).then(|| (Arc::as_ptr(kernel).addr(), bytes))
}

/// Puts the equal of such an operator's data that is held already in the place of its own, or adds its own to what is held.
pub fn hold_once(op: &mut dyn TypedOp, held: &mut Vec<Weak<dyn Kernel>>) {
    let Some(op) = op.downcast_mut::<KernelOp>().filter(|op| op.kernel.held_bytes() > 0) else { return };
    match held.iter().filter_map(Weak::upgrade).find(|held| op.kernel.is_same(&**held)) {
        Some(equal) => op.kernel = equal,
        None => held.push(Arc::downgrade(&op.kernel)),
    }
}

#[derive(Debug, Clone)]
struct KernelOp {
    kernel: Arc<dyn Kernel>,
    /// Which of the operator's outputs the node has, in their order.
    outputs: TVec<usize>,
}

impl PartialEq for KernelOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel) && self.outputs == other.outputs
    }
}

impl Eq for KernelOp {}

impl KernelOp {
    /// The facts of all outputs for inputs of these types and shapes, which are still to be cast.
    fn facts_before_cast(&self, types: &[DatumType], shapes: &[TVec<TDim>]) -> TractResult<TVec<TypedFact>> {
        let inputs = types.iter().zip(shapes).enumerate();
        let facts = inputs.map(|(input, (dt, shape))| Ok(self.kernel.input_type(input, *dt)?.fact(shape.as_slice())));
        let facts = facts.collect::<TractResult<Vec<TypedFact>>>()?;
        self.kernel.facts(&facts.iter().collect::<Vec<_>>())
    }

    fn picked<T: Clone>(&self, all: &[T]) -> TractResult<TVec<T>> {
        let one = |&slot: &usize| all.get(slot).cloned();
        let picked = self.outputs.iter().map(one).collect::<Option<TVec<T>>>();
        picked.with_context(|| format!("{} has no more than {} outputs", self.kernel.name(), all.len()))
    }
}

impl Expansion for KernelOp {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.outputs.len())?;
        solver.given_all(inputs.iter().map(|input| &input.datum_type), move |solver, types| {
            solver.given_all(inputs.iter().map(|input| &input.shape), move |solver, shapes| {
                // Values are not known here. What is wrong with the inputs themselves is found again when it is wired.
                let Ok(facts) = self.facts_before_cast(&types, &shapes) else { return Ok(()) };
                for (fact, output) in self.picked(&facts)?.into_iter().zip(outputs) {
                    solver.equals(&output.datum_type, fact.datum_type)?;
                    solver.equals(&output.rank, fact.rank() as i64)?;
                    if !self.kernel.values_decide_shapes() {
                        solver.equals(&output.shape, fact.shape.to_tvec())?;
                    }
                }
                Ok(())
            })
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut wanted = TVec::new();
        for (index, input) in inputs.iter().enumerate() {
            let given = model.outlet_fact(*input)?.datum_type;
            let dt = self.kernel.input_type(index, given)?;
            wanted.push(match dt == given {
                true => *input,
                false => model.wire_node(format!("{prefix}.cast.{index}"), cast(dt), &[*input])?[0],
            });
        }
        model.wire_node(prefix, self.clone(), &wanted)
    }

    fn runs_out_of_plan(&self) -> bool {
        self.kernel.folds_at_once() && !self.kernel.mints_symbols()
    }
}

impl Op for KernelOp {
    fn name(&self) -> StaticName {
        self.kernel.name().into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.kernel.mints_symbols()
    }

    op_as_typed_op!();
}

impl EvalOp for KernelOp {
    /// What a symbol stands for is for a run to tell: a value found before would contradict it.
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        if self.kernel.mints_symbols() {
            return Ok(None);
        }
        EvalOp::eval(self, &EvalContext::out_of_plan(), inputs).map(Some)
    }

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let outputs: Vec<TValue> = self.kernel.eval(&inputs)?.into_iter().map(IntoTValue::into_tvalue).collect();
        self.picked(&outputs)
    }
}

impl TypedOp for KernelOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.picked(&self.kernel.facts(inputs)?)
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        self.kernel.axes(inputs, outputs)
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, planned, run, run_graph};
    use super::*;

    fn classifier() -> Node {
        let node = Node::new("LinearClassifier").floats("coefficients", &[1.0, -1.0]).floats("intercepts", &[0.0, 0.0]);
        node.ints("classlabels_ints", &[3, 4])
    }

    fn rows() -> [Tensor; 1] {
        [tensor2(&[[2i64], [-1]])]
    }

    #[test]
    fn outputs_that_the_node_leaves_out_are_not_given() {
        let (labels, scores) = (tensor1(&[3i64, 4]), tensor2(&[[2.0f32, -2.0], [-1.0, 1.0]]));
        assert_eq!(run(classifier(), &rows(), 2).unwrap(), [labels.clone(), scores.clone()]);
        assert_eq!(run(classifier(), &rows(), 1).unwrap(), [labels]);
        let mut graph = classifier().into_graph(&rows(), 2);
        graph.node[0].output[0].clear();
        graph.output.remove(0);
        assert_eq!(run_graph(graph, &rows()).unwrap(), [scores]);
        assert!(run(classifier(), &rows(), 3).is_err());
    }

    #[test]
    fn what_an_operator_holds_is_counted() {
        let held = |node: Node| {
            let plan = planned(node.into_graph(&rows(), 1), &rows()).unwrap();
            plan.model().nodes.iter().find_map(|node| held_bytes(&*node.op)).map(|(_, bytes)| bytes)
        };
        assert!(held(classifier()).is_some_and(|bytes| bytes >= 8));
        assert_eq!(held(Node::new("Binarizer")), None);
    }

    #[test]
    fn inputs_of_another_number_are_refused() {
        let two = [rows(), rows()].concat();
        let error = run(classifier(), &two, 2).unwrap_err();
        assert!(format!("{error:#}").contains("2 inputs instead of 1"), "{error:#}");
    }
}
