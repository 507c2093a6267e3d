//! The plans of one model: which of them serves a run, and when another is built.
//!
//! The plan for one row at the usual sizes is made at load and stays. Beside it are held, each for the full shapes of all
//! inputs, at most [`MAX_PINNED_PLANS`] that were asked for, and at most [`MAX_CONCRETE_PLANS`] that came of themselves,
//! the least recently used giving way. Where a symbolic plan is proven, it serves every other shape, and a shape that has
//! earned a plan ([`Ledger`]) gets it in the background. Where none is, a new shape has to wait for its plan; requests
//! that bring the same shape meanwhile wait for the same build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tract_onnx::prelude::{TValue, TVec};

use super::builder::Builder;
use super::graph::{Graph, Plan};
use super::guard::Fault;
use super::memory::Memory;
use super::plan_policy::Ledger;
use crate::engine::RunError;
use crate::engine::closeness::is_finite;
use crate::engine::lru::Lru;
use crate::tensor::Tensor;

/// Plans for one shape each that a model holds beside its first because their shapes came. A plan holds packed weights
/// of its own, about half the size of the file.
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
    first: Option<(ShapeKey, Plan)>,
    symbolic: Option<Plan>,
    held: Mutex<Held>,
}

/// The shapes of all inputs, each behind its rank.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ShapeKey(Box<[usize]>);

struct Held {
    pinned: Vec<(ShapeKey, Plan)>,
    ready: Lru<ShapeKey, Plan>,
    /// Builds under way or queued: at most one for each session that runs, and one for each place of the builder.
    building: HashMap<ShapeKey, Arc<Build>>,
    ledger: Ledger<ShapeKey>,
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
    /// `first` holds the input shapes of the plan made at load, what it was built in and the plan itself. At least one
    /// of `first` and `symbolic` is given, or every shape waits for its build.
    pub fn new(
        graph: Graph,
        first: Option<(&[Tensor], Duration, Plan)>,
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
        let first = first.map(|(inputs, _, plan)| (ShapeKey::of(inputs), plan));
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
        let key = ShapeKey::of(inputs);
        if plans == PlanUse::Plain
            && !self.shared.is_first(&key)
            && let Some(symbolic) = &self.shared.symbolic
        {
            return symbolic.run(converted, stop);
        }
        let symbolic = match self.shared.choose(&key, inputs) {
            Choice::Ready(plan) => return plan.run(converted, stop),
            Choice::Build(build) => {
                let plan = self.shared.built(&key, &shapes(inputs), &build, Held::keep)?;
                return plan.run(converted, stop);
            }
            Choice::Earned(plan, build) => {
                self.build_later(&key, shapes(inputs), build);
                plan
            }
            Choice::Symbolic(plan) => plan,
        };
        let begun = Instant::now();
        let outputs = symbolic.run(converted, stop);
        self.shared.held().ledger.charge(&key, begun.elapsed());
        outputs
    }

    /// Whether a run of these inputs starts without waiting for a build.
    pub fn is_ready_for(&self, inputs: &[Tensor]) -> bool {
        let key = ShapeKey::of(inputs);
        self.shared.symbolic.is_some() || self.shared.is_first(&key) || self.shared.held().has(&key)
    }

    /// Builds and keeps a plan for the shapes of these inputs. Blocks for the build.
    ///
    /// # Errors
    /// `Failed` when it can't be built, or `MAX_PINNED_PLANS` are kept.
    pub fn pin(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        let (key, shared) = (ShapeKey::of(inputs), &self.shared);
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
        let plan = shared.built(&key, &shapes(inputs), &build, Held::pin)?;
        // Where another built it, it is held as any other plan.
        shared.held().pin(key, plan);
        Ok(())
    }

    /// Gives up a plan that `pin` has kept.
    pub fn unpin(&self, inputs: &[Tensor]) {
        let key = ShapeKey::of(inputs);
        self.shared.held().pinned.retain(|(pinned, _)| *pinned != key);
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
    fn build_later(&self, key: &ShapeKey, shapes: Vec<Vec<usize>>, build: Arc<Build>) {
        let (shared, task_key) = (Arc::downgrade(&self.shared), key.clone());
        let task = move || {
            if let Some(shared) = shared.upgrade()
                && let Err(cause) = shared.built(&task_key, &shapes, &build, Held::keep)
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

    /// Builds the plan and holds it by `hold`, or waits for whoever builds it already. No lock is held meanwhile.
    fn built(
        &self,
        key: &ShapeKey,
        shapes: &[Vec<usize>],
        build: &Arc<Build>,
        hold: fn(&mut Held, ShapeKey, Plan),
    ) -> Result<Plan, RunError> {
        let built = build.get_or_init(|| {
            let built = self.graph.concrete(shapes).map_err(|fault| match fault {
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

    fn is_first(&self, key: &ShapeKey) -> bool {
        self.first.as_ref().is_some_and(|(first, _)| first == key)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing under this lock can be left half done by a panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The plan for these shapes, which thereby is the most recently used.
    fn get(&mut self, key: &ShapeKey) -> Option<Plan> {
        let pinned = self.pinned.iter().find(|(pinned, _)| pinned == key).map(|(_, plan)| plan);
        pinned.or_else(|| self.ready.get(key).map(|plan| &*plan)).cloned()
    }

    /// Holds a plan because its shapes came.
    fn keep(&mut self, key: ShapeKey, plan: Plan) {
        self.ready.insert(key, plan);
    }

    /// Holds a plan because it was asked for.
    fn pin(&mut self, key: ShapeKey, plan: Plan) {
        self.ready.remove(&key);
        if self.pinned.len() < MAX_PINNED_PLANS && self.pinned.iter().all(|(pinned, _)| *pinned != key) {
            self.pinned.push((key, plan));
        }
    }

    fn has(&self, key: &ShapeKey) -> bool {
        self.pinned.iter().any(|(pinned, _)| pinned == key) || self.ready.contains(key)
    }
}

impl ShapeKey {
    fn of(inputs: &[Tensor]) -> Self {
        let each = |input: &Tensor| [input.shape().len()].into_iter().chain(input.shape().iter().copied()).collect();
        Self(inputs.iter().flat_map::<Vec<usize>, _>(each).collect())
    }
}

fn shapes(inputs: &[Tensor]) -> Vec<Vec<usize>> {
    inputs.iter().map(|input| input.shape().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc::{Receiver, TryRecvError};

    use super::super::TractEngine;
    use super::super::model::TractModel;
    use super::*;
    use crate::engine::Model;
    use crate::engine::closeness::is_close;
    use crate::tensor::DataType;

    fn load(name: &str) -> TractModel {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo").join(name).join("model.onnx");
        TractEngine::new().prepared(&path).unwrap()
    }

    fn digits(rows: usize) -> [Tensor; 1] {
        [Tensor::zeros(DataType::Fp32, vec![rows, 1, 8, 8])]
    }

    /// A model whose shapes earn their plan by their first run, and its builds, which happen when the test says so.
    fn earning(places: usize) -> (TractModel, Receiver<Box<dyn FnOnce() + Send>>) {
        let (builder, tasks) = Builder::by_hand(places);
        let mut model = load("digits_cnn_v1");
        model.plans.builder = builder;
        model.plans.shared.held().ledger = Ledger::new(Duration::ZERO);
        (model, tasks)
    }

    fn run(model: &TractModel, rows: usize) -> Tensor {
        model.run(&digits(rows), &|| false).unwrap().tensors.remove(0)
    }

    #[test]
    fn no_request_waits_for_the_plan_that_it_has_earned() {
        let (model, tasks) = earning(4);
        let first = run(&model, 5);
        assert!(matches!(tasks.try_recv(), Err(TryRecvError::Empty)), "one request is no reason to build");
        run(&model, 5);
        let build = tasks.try_recv().expect("the second has earned it");
        // Nobody builds yet, and requests are answered all the same; none asks for a second build.
        for _ in 0..3 {
            run(&model, 5);
        }
        assert_eq!(model.plans.concrete(), 1);
        assert!(tasks.try_recv().is_err());
        build();
        assert_eq!(model.plans.concrete(), 2);
        assert!(is_close(&run(&model, 5), &first, 1e-5));
    }

    #[test]
    fn a_plain_session_earns_no_plan_and_uses_none() {
        let (model, tasks) = earning(4);
        let model = Arc::new(model);
        model.prepare(&digits(4)).unwrap();
        let mut session = model.clone().plain_session();
        for rows in [1, 4, 5, 5, 5] {
            session.run(&digits(rows), &|| false).unwrap();
        }
        assert!(tasks.try_recv().is_err());
        run(&model, 5);
        assert!(tasks.try_recv().is_err(), "nor was the shape charged for it");
    }

    #[test]
    fn a_build_that_finds_no_place_is_earned_again() {
        let (model, tasks) = earning(1);
        for rows in [5, 6] {
            run(&model, rows);
            run(&model, rows);
        }
        tasks.try_recv().unwrap()();
        assert!(tasks.try_recv().is_err(), "there was no place for the second");
        assert_eq!(model.plans.concrete(), 2);
        run(&model, 6);
        run(&model, 6);
        tasks.try_recv().expect("it was not forgotten")();
        assert_eq!(model.plans.concrete(), 3);
    }

    #[test]
    fn a_build_does_not_outlive_its_model() {
        let (model, tasks) = earning(1);
        run(&model, 5);
        run(&model, 5);
        let shared = Arc::downgrade(&model.plans.shared);
        drop(model);
        assert!(shared.upgrade().is_none(), "a queued build does not keep the model");
        tasks.try_recv().unwrap()();
    }

    #[test]
    fn a_plan_that_was_asked_for_stays_until_it_is_released() {
        let (model, tasks) = earning(64);
        model.prepare(&digits(4)).unwrap();
        model.prepare(&digits(4)).unwrap();
        model.prepare(&digits(1)).unwrap();
        assert_eq!(model.plans.concrete(), 2, "the first plan and the one that was asked for");
        for rows in 10..10 + 2 * MAX_CONCRETE_PLANS {
            run(&model, rows);
            run(&model, rows);
            tasks.try_recv().unwrap()();
        }
        assert_eq!(model.plans.concrete(), 2 + MAX_CONCRETE_PLANS);
        let key = ShapeKey::of(&digits(4));
        assert!(model.plans.shared.held().has(&key), "others came and went");
        model.release(&digits(4));
        model.release(&digits(4));
        assert!(!model.plans.shared.held().has(&key));
    }

    #[test]
    fn no_more_plans_are_kept_than_allowed() {
        let model = load("digits_cnn_v1");
        for rows in 2..2 + MAX_PINNED_PLANS {
            model.prepare(&digits(rows)).unwrap();
        }
        let refusal = model.prepare(&digits(99)).unwrap_err();
        assert_eq!(refusal, RunError::Failed("8 plans are kept already".into()));
        model.release(&digits(3));
        model.prepare(&digits(99)).unwrap();
    }

    #[test]
    fn without_a_symbolic_plan_a_shape_is_ready_once_it_has_its_own() {
        let mut model = load("digits_cnn_v1");
        assert!(model.is_ready_for(&digits(4)), "the symbolic plan takes any size");
        Arc::get_mut(&mut model.plans.shared).unwrap().symbolic = None;
        let ready = |rows| model.is_ready_for(&digits(rows));
        assert_eq!((ready(1), ready(0), ready(4), ready(6)), (true, true, false, false));
        model.prepare(&digits(4)).unwrap();
        assert!(ready(4));
        model.release(&digits(4));
        assert!(!ready(4));
        run(&model, 6);
        assert!(ready(6), "a run has built what it needed");
    }

    #[test]
    fn memory_counts_packed_weights_by_plan_and_what_plans_share_once() {
        let model = load("digits_cnn_v2");
        let before = model.memory_bytes();
        let file = 154_000;
        assert!((2 * file..6 * file).contains(&before), "{before}");
        model.prepare(&digits(4)).unwrap();
        let plan = model.memory_bytes() - before;
        assert!((file / 4..2 * file).contains(&plan), "{plan}");
        model.release(&digits(4));
        assert_eq!(model.memory_bytes(), before);

        // Weights that only exist in plans: 1024 x 1024 of FP32.
        let bytes = load("slow_matmul24").memory_bytes();
        assert!((4 << 20..64 << 20).contains(&bytes), "{bytes}");

        let forest = load("wine_rf");
        let before = forest.memory_bytes();
        assert!(before > 100_000, "{before}");
        forest.prepare(&forest.sample_inputs(4)).unwrap();
        assert!(forest.memory_bytes() - before < before / 100, "all plans share the trees");
    }
}
