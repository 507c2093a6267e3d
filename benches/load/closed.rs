//! The closed loop: each connection sends its next request when it has the answer to the last.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout_at as timeout;

use crate::connection::{Connection, Outcome, Question};
use crate::outcome::{Kind, Tally};
use crate::processor::Reading;
use crate::target::{self, Target};

/// What is left of a run may take so long before it is given up.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    connections: usize,
    /// Time that is measured
    #[arg(long)]
    seconds: f64,
    /// Time before that
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Threads of the generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

pub fn run(args: &Args) -> Result<Value, String> {
    // Made before the clock starts.
    let questions = args.target.questions()?;
    let from = Instant::now() + Duration::from_secs_f64(args.warmup);
    let until = from + Duration::from_secs_f64(args.seconds);
    let threads = args.threads.clamp(1, args.connections.max(1));
    let work: Vec<_> = (0..threads)
        .map(|thread| {
            let numbers = (thread..args.connections).step_by(threads).collect();
            let loops = Loops { target: args.target.clone(), questions: questions.clone(), numbers, from, until };
            thread::spawn(move || loops.run())
        })
        .collect();
    thread::sleep(from.saturating_duration_since(Instant::now()));
    let processor = Reading::now(&args.target.server_pid);
    thread::sleep(until.saturating_duration_since(Instant::now()));
    let (server_s, own_s) = processor.since(&args.target.server_pid);

    let (mut tally, mut versions) = (Tally::new(None), BTreeSet::new());
    for part in work {
        let part = part.join().map_err(|_| "a thread of the generator panicked")??;
        tally.add(&part.tally);
        versions.extend(part.versions);
    }
    let mut result = tally.result(args.seconds);
    result["connections"] = json!(args.connections);
    result["server_cpu_s"] = json!(server_s);
    result["generator_cpu_s"] = json!(own_s);
    result["versions"] = json!(versions.len());
    Ok(result)
}

/// What one thread does.
struct Loops {
    target: Target,
    questions: Vec<Question>,
    /// Its connections.
    numbers: Vec<usize>,
    from: Instant,
    until: Instant,
}

/// What one thread found.
struct Part {
    tally: Tally,
    versions: BTreeSet<String>,
}

impl Loops {
    fn run(self) -> Result<Part, String> {
        let runtime = target::runtime()?;
        let tally = RefCell::new(Tally::new(None));
        let all = join_all(self.numbers.iter().map(|number| self.one_connection(*number, &tally)));
        let in_time = runtime.block_on(async { timeout((self.until + GRACE).into(), all).await }).is_ok();
        let mut tally = tally.into_inner();
        if !in_time {
            tally.record(Duration::ZERO, GRACE, Kind::Failed("a request was never answered"));
        }
        let versions = self.questions.into_iter().flat_map(|question| question.checker.into_inner().versions);
        Ok(Part { tally, versions: versions.collect() })
    }

    /// Asks in turn, from a question of its own on, until the time is over.
    async fn one_connection(&self, number: usize, tally: &RefCell<Tally>) {
        let mut connection = match Connection::open(self.target.address, self.target.protocol).await {
            Ok(connection) => connection,
            Err(reason) => {
                return tally.borrow_mut().record(Duration::ZERO, Duration::ZERO, Kind::Failed(&reason));
            }
        };
        let mut begun = Instant::now();
        for at in number.. {
            let outcome = connection.ask(&self.questions[at % self.questions.len()]).await;
            let done = Instant::now();
            if done > self.until {
                return;
            }
            if done >= self.from {
                tally.borrow_mut().record(done - self.from, done - begun, kind(&outcome));
            }
            begun = done;
        }
    }
}

/// An outcome as it is counted.
pub fn kind(outcome: &Outcome) -> Kind<'_> {
    match outcome {
        Outcome::Answered => Kind::Answered,
        Outcome::Refused => Kind::Refused,
        Outcome::Failed(reason) => Kind::Failed(reason),
    }
}
