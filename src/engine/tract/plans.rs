//! The plans of one model: which of them serves a run, and when another is built.
//!
//! The plan for one row at the usual sizes is made at load and stays. Beside it are held, each for the full shapes of all
//! inputs, at most [`MAX_PINNED_PLANS`] that were asked for, and at most [`MAX_CONCRETE_PLANS`] that came of themselves,
//! the least recently used giving way. Where a symbolic plan is proven, it serves every other shape, and a shape that has
//! earned a plan ([`Ledger`]) gets it in the background. Where none is, a new shape has to wait for its plan; requests
//! that bring the same shape meanwhile wait for the same build. So does a shape for which the symbolic plan fails: tract
//! takes for granted there that the first three places of an axis are three.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tract_onnx::prelude::{TValue, TVec};

use super::builder::Builder;
use super::graph::{Graph, Plan};
use super::guard::Fault;
use super::memory::Memory;
use super::plan_key::PlanKey;
use super::plan_policy::Ledger;
use crate::engine::RunError;
use crate::engine::closeness::is_finite;
use crate::engine::lru::Lru;
use crate::tensor::Tensor;

/// Plans for one shape each that a model holds beside its first because their shapes came. A plan holds packed weights,
/// in a layout that other plans may share or of its own.
pub const MAX_CONCRETE_PLANS: usize = 8;
/// Plans that a model holds because they were asked for: one for each power of two up to 256 rows.
pub const MAX_PINNED_PLANS: usize = 8;

/// The plans of one model, shared by its sessions.
pub struct Plans {
    shared: Arc<Shared>,
    builder: Arc<Builder>,
}

/// Which plans a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanUse {
    /// The fastest; it may earn its shape a plan.
    Any,
    /// The one made at load and the symbolic one alone, where there is one; it earns nothing.
    Plain,
}

/// What builds under way need too.
struct Shared {
    graph: Graph,
    first: Option<(PlanKey, Plan)>,
    symbolic: Option<Plan>,
    held: Mutex<Held>,
}

struct Held {
    pinned: Vec<(PlanKey, Plan)>,
    ready: Lru<PlanKey, Plan>,
    /// Builds under way or queued: at most one for each session that runs, and one for each place of the builder.
    building: HashMap<PlanKey, Arc<Build>>,
    ledger: Ledger<PlanKey>,
}

/// A build that several may wait for.
type Build = OnceLock<Result<Plan, RunError>>;

/// What serves a run.
enum Choice {
    Ready(Plan),
    /// The symbolic plan; its time is charged to the shape.
    Symbolic(Plan),
    /// The symbolic plan, while the one that the shape has earned is built.
    Earned(Plan, Arc<Build>),
    Build(Arc<Build>),
}

impl Plans {
    /// `first` holds what the plan made at load is for, the time it was built in and the plan itself. At least one
    /// of `first` and `symbolic` is given, or every shape waits for its build.
    pub fn new(
        graph: Graph,
        first: Option<(PlanKey, Duration, Plan)>,
        symbolic: Option<Plan>,
        builder: &Arc<Builder>,
    ) -> Self {
        let build_cost = first.as_ref().map_or(Duration::ZERO, |(_, cost, _)| *cost);
        let held = Held {
            pinned: vec![],
            ready: Lru::new(MAX_CONCRETE_PLANS),
            building: HashMap::new(),
            ledger: Ledger::new(build_cost),
        };
        let first = first.map(|(key, _, plan)| (key, plan));
        let shared = Arc::new(Shared { graph, first, symbolic, held: Mutex::new(held) });
        Self { shared, builder: Arc::clone(builder) }
    }

    /// Runs the plan that serves these inputs. `inputs` are the same tensors as `converted`. Blocks while a plan is
    /// built only where no other can serve.
    pub fn run(
        &self,
        plans: PlanUse,
        inputs: &[Tensor],
        converted: TVec<TValue>,
        stop: &dyn Fn() -> bool,
    ) -> Result<TVec<TValue>, RunError> {
        self.run_as_planned(plans, inputs, converted, stop).map_err(|error| {
            let is_nothing = |input: &&Tensor| input.shape().iter().skip(1).any(|size| *size == 0);
            match (error, inputs.iter().find(is_nothing)) {
                // tract takes for granted that there is something.
                (RunError::Failed(cause), Some(nothing)) => {
                    tracing::debug!(%cause, "a tensor without elements can't be run on");
                    let shape = nothing.shape();
                    RunError::BadInput(format!("the model can't run on a tensor without elements, of shape {shape:?}"))
                }
                (error, _) => error,
            }
        })
    }

    fn run_as_planned(
        &self,
        plans: PlanUse,
        inputs: &[Tensor],
        converted: TVec<TValue>,
        stop: &dyn Fn() -> bool,
    ) -> Result<TVec<TValue>, RunError> {
        let key = self.shared.graph.key(inputs)?;
        if plans == PlanUse::Plain
            && !self.shared.is_first(&key)
            && let Some(symbolic) = &self.shared.symbolic
        {
            return symbolic.run(converted, stop);
        }
        let symbolic = match self.shared.choose(&key, inputs) {
            Choice::Ready(plan) => return plan.run(converted, stop),
            Choice::Build(build) => {
                let plan = self.shared.built(&key, &build, Held::keep)?;
                return plan.run(converted, stop);
            }
            Choice::Earned(plan, build) => {
                self.build_later(&key, build);
                plan
            }
            Choice::Symbolic(plan) => plan,
        };
        let begun = Instant::now();
        let outputs = symbolic.run(converted.clone(), stop);
        self.shared.held().ledger.charge(&key, begun.elapsed());
        match outputs {
            Err(RunError::Failed(cause)) if self.shared.first.is_some() => {
                tracing::debug!(%cause, "what fails on the symbolic plan is tried on one for its shapes");
                self.shared.plan_for(&key)?.run(converted, stop)
            }
            outputs => outputs,
        }
    }

    /// Whether a run of these inputs starts without waiting for a build.
    pub fn is_ready_for(&self, inputs: &[Tensor]) -> bool {
        // What can't be planned for is refused at once.
        let Ok(key) = self.shared.graph.key(inputs) else { return true };
        self.shared.symbolic.is_some() || self.shared.is_first(&key) || self.shared.held().has(&key)
    }

    /// Builds and keeps a plan for the shapes of these inputs. Blocks for the build.
    ///
    /// # Errors
    /// `Failed` when it can't be built, or `MAX_PINNED_PLANS` are kept.
    pub fn pin(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        let (key, shared) = (self.shared.graph.key(inputs)?, &self.shared);
        if shared.is_first(&key) {
            return Ok(());
        }
        if shared.first.is_none() && shared.symbolic.is_some() {
            return Err(RunError::Failed("no plan for given shapes could be built when the model was loaded".into()));
        }
        let build = {
            let mut held = shared.held();
            if held.pinned.iter().any(|(pinned, _)| *pinned == key) {
                return Ok(());
            }
            if held.pinned.len() >= MAX_PINNED_PLANS {
                return Err(RunError::Failed(format!("{MAX_PINNED_PLANS} plans are kept already")));
            }
            match held.ready.remove(&key) {
                Some(plan) => {
                    held.pinned.push((key, plan));
                    return Ok(());
                }
                None => Arc::clone(held.building.entry(key.clone()).or_default()),
            }
        };
        let plan = shared.built(&key, &build, Held::pin)?;
        // Where another built it, it is held as any other plan.
        shared.held().pin(key, plan);
        Ok(())
    }

    /// Gives up a plan that `pin` has kept.
    pub fn unpin(&self, inputs: &[Tensor]) {
        if let Ok(key) = self.shared.graph.key(inputs) {
            self.shared.held().pinned.retain(|(pinned, _)| *pinned != key);
        }
    }

    /// Bytes of the parsed file's and all plans' constants.
    pub fn memory_bytes(&self) -> u64 {
        let Shared { graph, first, symbolic, .. } = &*self.shared;
        let others: Vec<Plan> = {
            let held = self.shared.held();
            held.pinned.iter().map(|(_, plan)| plan).chain(held.ready.values()).cloned().collect()
        };
        let mut memory = Memory::default();
        graph.count(&mut memory);
        let plans = first.iter().map(|(_, plan)| plan).chain(symbolic).chain(&others);
        plans.for_each(|plan| plan.count(&mut memory));
        memory.bytes()
    }

    /// Concrete plans held, the first included.
    #[cfg(test)]
    pub fn concrete(&self) -> usize {
        let held = self.shared.held();
        held.ready.len() + held.pinned.len() + usize::from(self.shared.first.is_some())
    }

    /// Queues the build of a plan that the shape has earned. A model that is gone by then gets none.
    fn build_later(&self, key: &PlanKey, build: Arc<Build>) {
        let (shared, task_key) = (Arc::downgrade(&self.shared), key.clone());
        let task = move || {
            if let Some(shared) = shared.upgrade()
                && let Err(cause) = shared.built(&task_key, &build, Held::keep)
            {
                tracing::debug!(%cause, "a shape stays on the symbolic plan");
            }
        };
        if !self.builder.submit(task) {
            self.shared.held().building.remove(key);
        }
    }
}

impl Shared {
    fn choose(&self, key: &PlanKey, inputs: &[Tensor]) -> Choice {
        // Plans agree on numbers, yet one may carry a NaN on where another drops it (a maximum of NaN and 0). Such
        // inputs stay on the plan that takes any shape, alone and in whatever batch, so that the same request always has
        // the same answer.
        if let Some(symbolic) = &self.symbolic
            && !inputs.iter().all(is_finite)
        {
            return Choice::Symbolic(symbolic.clone());
        }
        if let Some((first, plan)) = &self.first
            && first == key
        {
            return Choice::Ready(plan.clone());
        }
        let mut held = self.held();
        if let Some(plan) = held.get(key) {
            return Choice::Ready(plan);
        }
        match &self.symbolic {
            None => Choice::Build(Arc::clone(held.building.entry(key.clone()).or_default())),
            // No concrete plan could be built at load, so none is tried later.
            Some(symbolic) if self.first.is_none() => Choice::Symbolic(symbolic.clone()),
            Some(symbolic) if held.building.contains_key(key) || !held.ledger.claim(key) => {
                Choice::Symbolic(symbolic.clone())
            }
            Some(symbolic) => {
                let build = Arc::clone(held.building.entry(key.clone()).or_default());
                Choice::Earned(symbolic.clone(), build)
            }
        }
    }

    /// The plan for these very shapes, which is built where there is none.
    fn plan_for(&self, key: &PlanKey) -> Result<Plan, RunError> {
        if let Some((_, plan)) = self.first.as_ref().filter(|(first, _)| first == key) {
            return Ok(plan.clone());
        }
        let build = {
            let mut held = self.held();
            match held.get(key) {
                Some(plan) => return Ok(plan),
                None => Arc::clone(held.building.entry(key.clone()).or_default()),
            }
        };
        self.built(key, &build, Held::keep)
    }

    /// Builds the plan and holds it by `hold`, or waits for whoever builds it already. No lock is held meanwhile.
    fn built(&self, key: &PlanKey, build: &Arc<Build>, hold: fn(&mut Held, PlanKey, Plan)) -> Result<Plan, RunError> {
        let built = build.get_or_init(|| {
            let built = self.graph.concrete(key).map_err(|fault| match fault {
                Fault::Refused(cause) if self.graph.plans_by_values() => {
                    RunError::BadInput(format!("no plan can be made for these shapes and values: {cause}"))
                }
                Fault::Unfit(cause) => RunError::BadInput(format!("no plan can be made for these shapes: {cause}")),
                Fault::Refused(cause) => RunError::Failed(format!("no plan for these shapes: {cause}")),
                Fault::Panicked(text) => RunError::Failed(format!("the engine panicked while planning: {text}")),
            });
            let mut held = self.held();
            held.building.remove(key);
            if let Ok(plan) = &built {
                hold(&mut held, key.clone(), plan.clone());
            }
            built
        });
        built.clone()
    }

    fn is_first(&self, key: &PlanKey) -> bool {
        self.first.as_ref().is_some_and(|(first, _)| first == key)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing under this lock can be left half done by a panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The plan for these shapes, which thereby is the most recently used.
    fn get(&mut self, key: &PlanKey) -> Option<Plan> {
        let pinned = self.pinned.iter().find(|(pinned, _)| pinned == key).map(|(_, plan)| plan);
        pinned.or_else(|| self.ready.get(key).map(|plan| &*plan)).cloned()
    }

    /// Holds a plan because its shapes came.
    fn keep(&mut self, key: PlanKey, plan: Plan) {
        self.ready.insert(key, plan);
    }

    /// Holds a plan because it was asked for.
    fn pin(&mut self, key: PlanKey, plan: Plan) {
        self.ready.remove(&key);
        if self.pinned.len() < MAX_PINNED_PLANS && self.pinned.iter().all(|(pinned, _)| *pinned != key) {
            self.pinned.push((key, plan));
        }
    }

    fn has(&self, key: &PlanKey) -> bool {
        self.pinned.iter().any(|(pinned, _)| pinned == key) || self.ready.contains(key)
    }
}
