//! What a pool costs a request: a run on the thread that brought it, against one on a core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::{Bencher, black_box};

use headgate::batching::{BatchConfig, Cores, Pool, PoolConfig, QueueLimits, Work};
use headgate::engine::fake::FakeModel;
use headgate::engine::{Model, Session};
use headgate::inference::{Deadline, Priority};
use headgate::signature::Signature;
use headgate::tensor::{DataType, Tensor};

fn main() {
    divan::main();
}

const WIDTH: usize = 16;

/// A model that always claims to need a plan first, so that no run takes place where it is.
struct NeverReady(Arc<FakeModel>);

impl Model for NeverReady {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn engine(&self) -> &'static str {
        self.0.engine()
    }

    fn notes(&self) -> Vec<String> {
        self.0.notes()
    }

    fn session(self: Arc<Self>) -> Box<dyn Session> {
        self.0.clone().session()
    }

    fn is_ready_for(&self, _inputs: &[Tensor]) -> bool {
        false
    }
}

fn pool(model: Arc<dyn Model>) -> Pool {
    let cores = Cores::start(2).expect("threads can be started");
    let config = PoolConfig {
        min_workers: 0,
        max_workers: 2,
        limits: QueueLimits { max_requests: 1000, max_bytes: 1 << 30, max_wait: Duration::from_secs(10) },
        batching: BatchConfig::default(),
        delay_after: None,
    };
    Pool::new(&cores, "m", &model, &Arc::default(), config)
}

fn ask(bencher: Bencher, model: Arc<dyn Model>) {
    let pool = pool(model);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let inputs = vec![Tensor::zeros(DataType::Fp32, vec![1, WIDTH])];
    let run = || {
        let work = Work {
            inputs: inputs.clone(),
            rows: 1,
            deadline: Deadline::NONE,
            start_by: None,
            priority: Priority::High,
        };
        let ticket = pool.admit(work, Instant::now()).expect("the queue is empty");
        runtime.block_on(ticket.outcome()).expect("an identity answers")
    };
    for _ in 0..100 {
        run();
    }
    bencher.bench_local(|| black_box(run()));
}

/// Admission and run of an identity, where it is.
#[divan::bench]
fn where_it_is(bencher: Bencher) {
    ask(bencher, Arc::new(FakeModel::identity(WIDTH)));
}

/// The same through the queue and a core's thread, and back.
#[divan::bench]
fn on_a_core(bencher: Bencher) {
    ask(bencher, Arc::new(NeverReady(Arc::new(FakeModel::identity(WIDTH)))));
}
