//! The plans of one model: which of them serves a run, and when another is built.
//!
//! The plan for one row at the usual sizes is made at load and stays. Beside it at most `MAX_CONCRETE_PLANS` plans are
//! held, each for the full shapes of all inputs, the least recently used giving way. Where a symbolic plan is proven,
//! it serves every other shape until the shape has earned a plan ([`Ledger`]). Where none is, a new shape has to wait
//! for its plan; requests that bring the same shape meanwhile wait for the same build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tract_onnx::prelude::{TValue, TVec};

use super::graph::{Graph, Plan};
use super::guard::Fault;
use super::plan_policy::Ledger;
use crate::engine::RunError;
use crate::engine::closeness::is_finite;
use crate::engine::lru::Lru;
use crate::tensor::Tensor;

/// Plans for one shape each that a model holds beside its first. A plan holds packed weights of its own, about half
/// the size of the file.
pub const MAX_CONCRETE_PLANS: usize = 8;

/// The plans of one model, shared by its sessions.
pub struct Plans {
    graph: Graph,
    first: Option<(ShapeKey, Plan)>,
    symbolic: Option<Plan>,
    held: Mutex<Held>,
}

/// The shapes of all inputs, each behind its rank.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ShapeKey(Box<[usize]>);

struct Held {
    ready: Lru<ShapeKey, Plan>,
    /// Builds under way; at most one for each session that runs.
    building: HashMap<ShapeKey, Arc<Build>>,
    ledger: Ledger<ShapeKey>,
}

/// A build that several requests may wait for.
type Build = OnceLock<Result<Plan, RunError>>;

/// What serves a run.
enum Choice {
    Ready(Plan),
    /// The symbolic plan; its time is charged to the shape.
    Symbolic(Plan),
    Build(Arc<Build>),
}

impl Plans {
    /// `first` holds the input shapes of the plan made at load, what it was built in and the plan itself. At least one
    /// of `first` and `symbolic` is given, or every shape waits for its build.
    pub fn new(graph: Graph, first: Option<(&[Tensor], Duration, Plan)>, symbolic: Option<Plan>) -> Self {
        let build_cost = first.as_ref().map_or(Duration::ZERO, |(_, cost, _)| *cost);
        let held =
            Held { ready: Lru::new(MAX_CONCRETE_PLANS), building: HashMap::new(), ledger: Ledger::new(build_cost) };
        let first = first.map(|(inputs, _, plan)| (ShapeKey::of(inputs), plan));
        Self { graph, first, symbolic, held: Mutex::new(held) }
    }

    /// Runs the plan that serves these inputs. `inputs` are the same tensors as `converted`. Blocks while a plan is
    /// built, where the shape needs one.
    pub fn run(
        &self,
        inputs: &[Tensor],
        converted: TVec<TValue>,
        stop: &dyn Fn() -> bool,
    ) -> Result<TVec<TValue>, RunError> {
        let key = ShapeKey::of(inputs);
        match self.choose(&key, inputs) {
            Choice::Ready(plan) => plan.run(converted, stop),
            Choice::Symbolic(plan) => {
                let begun = Instant::now();
                let outputs = plan.run(converted, stop);
                self.held().ledger.charge(&key, begun.elapsed());
                outputs
            }
            Choice::Build(build) => self.build(&key, inputs, &build)?.run(converted, stop),
        }
    }

    /// Concrete plans held, the first included.
    #[cfg(test)]
    pub fn concrete(&self) -> usize {
        self.held().ready.len() + usize::from(self.first.is_some())
    }

    fn choose(&self, key: &ShapeKey, inputs: &[Tensor]) -> Choice {
        if let Some((first, plan)) = &self.first
            && first == key
        {
            return Choice::Ready(plan.clone());
        }
        // Plans agree on numbers, yet one may carry a NaN on where another drops it (a maximum of NaN and 0). Such
        // inputs stay on the plan that never changes, so that the same request always has the same answer.
        if let Some(symbolic) = &self.symbolic
            && !inputs.iter().all(is_finite)
        {
            return Choice::Symbolic(symbolic.clone());
        }
        let mut held = self.held();
        if let Some(plan) = held.ready.get(key) {
            return Choice::Ready(plan.clone());
        }
        match &self.symbolic {
            // No concrete plan could be built at load, so none is tried later.
            Some(symbolic) if self.first.is_none() => Choice::Symbolic(symbolic.clone()),
            Some(symbolic) if held.building.contains_key(key) || !held.ledger.claim(key) => {
                Choice::Symbolic(symbolic.clone())
            }
            _ => Choice::Build(Arc::clone(held.building.entry(key.clone()).or_default())),
        }
    }

    /// Builds the plan, or waits for the request that builds it already. No lock is held meanwhile.
    fn build(&self, key: &ShapeKey, inputs: &[Tensor], build: &Arc<Build>) -> Result<Plan, RunError> {
        let built = build.get_or_init(|| {
            let shapes: Vec<Vec<usize>> = inputs.iter().map(|input| input.shape().to_vec()).collect();
            let built = self.graph.concrete(&shapes).map_err(|fault| match fault {
                Fault::Refused(cause) => RunError::Failed(format!("no plan for these shapes: {cause}")),
                Fault::Panicked(text) => RunError::Failed(format!("the engine panicked while planning: {text}")),
            });
            let mut held = self.held();
            held.building.remove(key);
            if let Ok(plan) = &built {
                held.ready.insert(key.clone(), plan.clone());
            }
            built
        });
        // A shape that came to be built only because it had earned it can still be served without.
        match (built, &self.symbolic) {
            (Err(_), Some(symbolic)) => Ok(symbolic.clone()),
            (built, _) => built.clone(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing under this lock can be left half done by a panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShapeKey {
    fn of(inputs: &[Tensor]) -> Self {
        let each = |input: &Tensor| [input.shape().len()].into_iter().chain(input.shape().iter().copied()).collect();
        Self(inputs.iter().flat_map::<Vec<usize>, _>(each).collect())
    }
}
