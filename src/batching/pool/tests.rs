use proptest::prelude::*;

use super::*;
use crate::batching::admission_policy::QueueLimits;
use crate::batching::request::Work;
use crate::batching::{Measured, Point};
use crate::engine::fake::{FakeModel, Gate};
use crate::tensor::{DataType, Tensor};
use crate::testing::pool_config;

const WIDTH: usize = 2;

struct Case {
    pool: Pool,
    stats: Arc<ServableStats>,
}

impl Case {
    /// A pool on cores of its own, which batches up to `cap` rows.
    fn new(model: &Arc<FakeModel>, cap: usize, config: PoolConfig) -> Self {
        let stats = Arc::new(ServableStats::default());
        let model: Arc<dyn Model> = model.clone();
        let cores = Cores::start(config.max_workers).unwrap();
        let pool = Pool::new(&cores, "m", &model, &stats, config);
        pool.set_curve(Arc::new(curve(cap)));
        Self { pool, stats }
    }

    fn admit(&self, work: Work) -> Result<Ticket, Error> {
        self.pool.admit(work, Instant::now())
    }

    async fn outcome(&self, work: Work) -> Outcome {
        self.admit(work).unwrap().outcome().await
    }

    fn executions(&self) -> u64 {
        self.stats.execution_count.load(Relaxed)
    }
}

fn curve(cap: usize) -> BatchCurve {
    let point = |rows| Point { rows, unprepared_s: Some(0.001), prepared_s: None };
    let points = if cap == 1 { vec![point(1)] } else { vec![point(1), point(cap)] };
    BatchCurve::new(Measured { points, max_rows: cap })
}

/// A request whose rows hold `first`, `first` + 1, ...
fn rows(first: usize, count: usize) -> Work {
    let values: Vec<f32> = (0..count).flat_map(|row| [(first + row) as f32; WIDTH]).collect();
    let inputs = vec![Tensor::from_elements(DataType::Fp32, vec![count, WIDTH], &values).unwrap()];
    Work { inputs, rows: count, deadline: Deadline::NONE, start_by: None, priority: Priority::High }
}

fn low(work: Work) -> Work {
    Work { priority: Priority::Low, ..work }
}

/// Occupies the one worker until the gate opens.
async fn blocked(case: &Case, gate: &Arc<Gate>) -> tokio::task::JoinHandle<Outcome> {
    let ticket = case.admit(rows(1000, 1)).unwrap();
    let waiting = tokio::spawn(ticket.outcome());
    let gate = gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_for(1)).await.unwrap();
    waiting
}

fn limits(max_requests: usize) -> PoolConfig {
    let config = pool_config();
    PoolConfig { limits: QueueLimits { max_requests, ..config.limits }, ..config }
}

#[tokio::test]
async fn what_came_while_the_worker_was_busy_runs_as_one_batch() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 8, pool_config());
    let first = blocked(&case, &gate).await;
    let tickets: Vec<Ticket> = (0..5).map(|row| case.admit(rows(row, 1)).unwrap()).collect();
    gate.open();
    for (row, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.outcome().await.unwrap().tensors, rows(row, 1).inputs);
    }
    first.await.unwrap().unwrap();
    assert_eq!(model.runs(), 2);
    assert_eq!(case.stats.batches().keys().copied().collect::<Vec<_>>(), [1, 5]);
}

#[tokio::test]
async fn one_request_that_cannot_be_run_fails_alone() {
    let gate = Gate::shut();
    let poisoned = |inputs: &[Tensor]| match inputs[0].elements::<f32>().any(|value| value == 2.0) {
        true => Err(RunError::Failed("two".into())),
        false => Ok(inputs.to_vec()),
    };
    let model = Arc::new(FakeModel::identity(WIDTH).with_function(poisoned).gated(gate.clone()));
    let case = Case::new(&model, 8, pool_config());
    let first = blocked(&case, &gate).await;
    let tickets: Vec<Ticket> = (0..4).map(|row| case.admit(rows(row, 1)).unwrap()).collect();
    gate.open();
    for (row, ticket) in tickets.into_iter().enumerate() {
        match ticket.outcome().await {
            Ok(answer) => assert_eq!((row == 2, answer.tensors), (false, rows(row, 1).inputs)),
            Err(why) => assert!(row == 2 && matches!(why, NoAnswer::Run(RunError::Failed(_))), "{row}: {why:?}"),
        }
    }
    first.await.unwrap().unwrap();
    assert_eq!(model.runs(), 1 + 1 + 4, "alone, together, each once more");
}

#[tokio::test]
async fn a_batch_whose_outputs_have_other_rows_is_run_one_by_one() {
    let gate = Gate::shut();
    let summed = |inputs: &[Tensor]| match inputs[0].shape()[0] {
        1 => Ok(inputs.to_vec()),
        _ => Ok(vec![Tensor::zeros(DataType::Fp32, vec![1, WIDTH])]),
    };
    let model = Arc::new(FakeModel::identity(WIDTH).with_function(summed).gated(gate.clone()));
    let case = Case::new(&model, 8, pool_config());
    let first = blocked(&case, &gate).await;
    let tickets: Vec<Ticket> = (0..3).map(|row| case.admit(rows(row, 1)).unwrap()).collect();
    gate.open();
    for (row, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(ticket.outcome().await.unwrap().tensors, rows(row, 1).inputs);
    }
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_around_the_run_fails_its_batch_and_costs_no_core() {
    let model = Arc::new(FakeModel::identity(WIDTH).panicking());
    let case = Case::new(&model, 8, pool_config());
    for _ in 0..3 {
        let why = case.outcome(rows(0, 1)).await.unwrap_err();
        assert!(matches!(why, NoAnswer::Run(RunError::Failed(_))), "{why:?}");
    }
}

#[tokio::test]
async fn a_full_queue_sheds_and_says_what_it_found() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 8, limits(2));
    let first = blocked(&case, &gate).await;
    let waiting = [case.admit(rows(0, 1)).unwrap(), case.admit(rows(1, 1)).unwrap()];
    let refusal = case.admit(rows(2, 1)).err().unwrap().to_string();
    let expected = "Exceeds maximum queue size: 2 of 2 requests are waiting for model 'm', expected wait";
    assert!(refusal.starts_with(expected), "{refusal}");
    assert!(case.pool.look(Priority::High, Deadline::NONE, Instant::now()).is_err());
    drop(waiting);
    assert_eq!(case.pool.depth(), 0, "a dropped ticket frees its place");
    assert!(case.pool.look(Priority::High, Deadline::NONE, Instant::now()).is_ok());
    assert_eq!(case.stats.sheds().find(|(_, count)| *count > 0), Some(("queue_size", 2)));
    gate.open();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn under_overload_the_low_class_is_shed_first() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 8, limits(4));
    let first = blocked(&case, &gate).await;
    let mut kept = vec![case.admit(low(rows(0, 1))).unwrap()];
    let newest_low = case.admit(low(rows(1, 1))).unwrap();
    assert!(case.admit(low(rows(2, 1))).is_err(), "the low class has half of the queue");
    kept.extend((3..5).map(|row| case.admit(rows(row, 1)).unwrap()));
    assert!(case.pool.look(Priority::High, Deadline::NONE, Instant::now()).is_ok(), "there is one to be shed");
    kept.push(case.admit(rows(5, 1)).unwrap());
    let shed = newest_low.outcome().await.unwrap_err();
    assert!(matches!(shed, NoAnswer::Shed(ShedCause::Preempted)), "{shed:?}");
    gate.open();
    for ticket in kept {
        ticket.outcome().await.unwrap();
    }
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_deadline_that_passes_takes_the_request_out_of_the_queue() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 8, pool_config());
    let first = blocked(&case, &gate).await;
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(5));
    let ticket = case.admit(Work { deadline, ..rows(0, 1) }).unwrap();
    assert_eq!(case.pool.depth(), 1);
    assert!(matches!(ticket.outcome().await, Err(NoAnswer::Expired)));
    assert_eq!(case.pool.depth(), 0);
    gate.open();
    first.await.unwrap().unwrap();
    assert_eq!((model.runs(), case.stats.waste.expired_before_run.load(Relaxed)), (1, 0));
}

#[tokio::test]
async fn a_wait_that_would_outlast_the_deadline_is_refused_at_once() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let config = pool_config();
    let limits = QueueLimits { max_wait: Duration::from_secs(1000), ..config.limits };
    let case = Case::new(&model, 1, PoolConfig { limits, ..config });
    // By what was seen so far a run takes longer than this test, however busy the machine is.
    case.pool.shared.lock().times.record(bytes_of(&rows(0, 1).inputs), 20.0, Instant::now());
    let tickets: Vec<Ticket> = (0..3).map(|row| case.admit(rows(row, 1)).unwrap()).collect();
    let deadline = Deadline::after(Instant::now(), Duration::from_secs(25));
    let refusal = case.admit(Work { deadline, ..rows(9, 1) }).err().unwrap();
    assert!(refusal.to_string().ends_with("left until the request's deadline"), "{refusal}");
    gate.open();
    for ticket in tickets {
        ticket.outcome().await.unwrap();
    }
}

#[tokio::test]
async fn before_rows_are_known_to_share_runs_a_request_counts_as_the_one_run_that_it_is() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let config = pool_config();
    let limits = QueueLimits { max_wait: Duration::from_secs(1), ..config.limits };
    let case = Case::new(&model, 1, PoolConfig { limits, ..config });
    case.pool.set_curve(Arc::new(BatchCurve::unmeasured()));
    // Nothing smaller than a request of 16 rows was ever seen to run.
    case.pool.shared.lock().times.record(bytes_of(&rows(0, 16).inputs), 0.02, Instant::now());
    let first = blocked(&case, &gate).await;
    let tickets: Vec<Ticket> = (0..12).map(|_| case.admit(rows(0, 16)).unwrap()).collect();
    gate.open();
    for ticket in tickets {
        ticket.outcome().await.unwrap();
    }
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_limit_on_waiting_does_not_end_a_run() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 1, pool_config());
    let start_by = Some(Instant::now() + Duration::from_millis(5));
    let ticket = case.admit(Work { start_by, ..rows(0, 1) }).unwrap();
    let running = tokio::spawn(ticket.outcome());
    tokio::task::spawn_blocking({
        let gate = gate.clone();
        move || gate.wait_for(1)
    })
    .await
    .unwrap();
    let late = case.admit(Work { start_by, ..rows(1, 1) }).unwrap().outcome().await.unwrap_err();
    assert!(matches!(late, NoAnswer::Expired), "{late:?}");
    gate.open();
    running.await.unwrap().unwrap();
    assert_eq!(model.runs(), 1);
}

#[tokio::test]
async fn a_low_request_does_not_wait_for_ever() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let config = pool_config();
    let limits = QueueLimits { max_wait: Duration::from_millis(5), ..config.limits };
    let case = Case::new(&model, 8, PoolConfig { limits, ..config });
    let first = blocked(&case, &gate).await;
    let shed = case.admit(low(rows(0, 1))).unwrap().outcome().await.unwrap_err();
    assert!(matches!(shed, NoAnswer::Shed(ShedCause::Waited)), "{shed:?}");
    gate.open();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_makes_room_for_a_request_that_is_refused_all_the_same() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let config = pool_config();
    let limits = QueueLimits { max_requests: 4, max_bytes: 40, ..config.limits };
    let case = Case::new(&model, 8, PoolConfig { limits, ..config });
    let first = blocked(&case, &gate).await;
    let waiting = case.admit(low(rows(0, 1))).unwrap();
    // Beside one of 8 bytes that stays, one of 200 bytes has no room, whoever leaves.
    let kept = case.admit(rows(1, 1)).unwrap();
    assert!(case.admit(rows(2, 25)).is_err());
    let shed = waiting.outcome().await.unwrap_err();
    assert!(matches!(shed, NoAnswer::Shed(ShedCause::Preempted)), "it is told, not forgotten: {shed:?}");
    gate.open();
    kept.outcome().await.unwrap();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_low_requests_own_deadline_counts_if_it_is_the_earlier() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 8, pool_config());
    let first = blocked(&case, &gate).await;
    let deadline = Deadline::after(Instant::now(), Duration::from_millis(5));
    let why = case.admit(low(Work { deadline, ..rows(0, 1) })).unwrap().outcome().await.unwrap_err();
    assert!(matches!(why, NoAnswer::Expired), "{why:?}");
    gate.open();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_output_of_another_number_of_rows_is_given_as_it_came_to_a_request_by_itself() {
    let summed = |_: &[Tensor]| Ok(vec![Tensor::zeros(DataType::Fp32, vec![1, WIDTH])]);
    let model = Arc::new(FakeModel::identity(WIDTH).with_function(summed));
    let case = Case::new(&model, 8, pool_config());
    assert_eq!(case.outcome(rows(0, 3)).await.unwrap().tensors[0].shape(), [1, WIDTH]);
}

#[tokio::test]
async fn a_short_run_takes_place_where_it_is_once_it_is_known_to_be_short() {
    let model = Arc::new(FakeModel::identity(WIDTH));
    let case = Case::new(&model, 8, pool_config());
    // On a busy machine a run may look slow at first; its average comes down soon.
    for _ in 0..10_000 {
        case.outcome(rows(0, 1)).await.unwrap();
        if case.pool.shared.use_counts.inline.load(Relaxed) > 0 {
            break;
        }
    }
    assert!(case.pool.shared.use_counts.inline.load(Relaxed) > 0);
    assert_eq!(case.outcome(rows(7, 1)).await.unwrap().tensors, rows(7, 1).inputs);
}

#[tokio::test]
async fn a_slow_run_never_takes_place_on_the_callers_thread() {
    let model = Arc::new(FakeModel::identity(WIDTH).delayed(Duration::from_millis(2)));
    let case = Case::new(&model, 8, pool_config());
    for _ in 0..10 {
        case.outcome(rows(0, 1)).await.unwrap();
    }
    assert_eq!(case.pool.shared.use_counts.inline.load(Relaxed), 0);
}

#[tokio::test]
async fn what_waits_is_answered_after_the_pool_is_let_go() {
    let gate = Gate::shut();
    let model = Arc::new(FakeModel::identity(WIDTH).gated(gate.clone()));
    let case = Case::new(&model, 1, pool_config());
    let first = blocked(&case, &gate).await;
    let tickets: Vec<Ticket> = (0..3).map(|row| case.admit(rows(row, 1)).unwrap()).collect();
    drop(case);
    gate.open();
    for ticket in tickets {
        ticket.outcome().await.unwrap();
    }
    first.await.unwrap().unwrap();
    // The place was given up with the last turn, and with it the model.
    let deadline = Instant::now() + Duration::from_secs(10);
    while Arc::strong_count(&model) > 1 {
        assert!(Instant::now() < deadline, "the model is still held");
        tokio::task::yield_now().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sizes, the cap and the number of workers: each row is answered once, by its own result, in order.
    #[test]
    fn each_row_is_answered_exactly_once_by_its_own_result(
        sizes in prop::collection::vec(0usize..20, 1..40),
        cap in 1usize..9,
        workers in 1u32..4,
    ) {
        let add_half = |inputs: &[Tensor]| {
            let values: Vec<f32> = inputs[0].elements::<f32>().map(|value| value + 0.5).collect();
            let output = Tensor::from_elements(DataType::Fp32, inputs[0].shape().to_vec(), &values);
            Ok(vec![output.map_err(|cause| RunError::Failed(cause.to_string()))?])
        };
        let model = Arc::new(FakeModel::identity(WIDTH).with_function(add_half));
        let case = Case::new(&model, cap, PoolConfig { max_workers: workers, ..pool_config() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut first = 0;
            let mut tickets = vec![];
            for &size in &sizes {
                tickets.push((first, size, case.admit(rows(first, size)).unwrap()));
                first += size;
            }
            for (first, size, ticket) in tickets {
                let answer = ticket.outcome().await.unwrap();
                assert_eq!(answer.tensors[0].shape(), [size, WIDTH]);
                let expected: Vec<f32> = (first..first + size).flat_map(|row| [row as f32 + 0.5; WIDTH]).collect();
                assert_eq!(answer.tensors[0].elements::<f32>().collect::<Vec<_>>(), expected);
            }
        });
        let run: usize = case.stats.batches().iter().map(|(rows, count)| rows * count.count as usize).sum();
        prop_assert_eq!(run, sizes.iter().sum::<usize>());
        prop_assert!(case.executions() > 0);
    }
}
