//! The open loop: requests are sent at times that were fixed before, as clients do that don't know of each other. A
//! latency counts from the time a request was meant to be sent, so what waits for a slow server is not left out.
//!
//! A thread of its own keeps the times and hands each request over when it is due. One that finds no connection free
//! waits for one, and that wait counts; one that finds too many waiting is not sent and counted as overflow.

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout_at;

use crate::closed::kind;
use crate::connection::{Connection, Question};
use crate::outcome::{Kind, Tally};
use crate::processor::Reading;
use crate::schedule::{Arrivals, Schedule};
use crate::target::{self, Target};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Requests a second
    #[arg(long)]
    rate: f64,
    #[arg(long, value_enum, default_value = "poisson")]
    arrivals: Arrivals,
    /// Connections, the most that are open at one time
    #[arg(long)]
    connections: usize,
    /// Requests in flight on each connection (gRPC)
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Requests that may wait for a connection
    #[arg(long, default_value_t = 10_000)]
    max_waiting: usize,
    #[arg(long)]
    seconds: f64,
    /// Time at the start that is not counted
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Time after the last request for the answers that are missing then
    #[arg(long, default_value_t = 10.0)]
    grace: f64,
    /// Length of windows to report one by one
    #[arg(long)]
    window_ms: Option<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the pacer counted.
#[derive(Debug, Clone, Copy, Default)]
struct Paced {
    due: u64,
    overflow: u64,
    /// How late the latest request was handed over, by the pacer's own fault.
    latest: Duration,
}

pub fn run(args: &Args) -> Result<Value, String> {
    let questions = args.target.questions()?;
    let tally = RefCell::new(Tally::new(args.window_ms.map(Duration::from_millis)));
    let (paced, processor, from_unix_s) = target::runtime()?.block_on(drive(args, &questions, &tally))?;
    let mut tally = tally.into_inner();
    let unanswered = paced.due - paced.overflow - tally.ended();
    for _ in 0..unanswered {
        let text = "a request was not answered in time";
        tally.record(Duration::ZERO, Duration::from_secs_f64(args.grace), Kind::Failed(text));
    }
    tally.overflow = paced.overflow;
    let mut result = tally.result(args.seconds);
    result["from_unix_s"] = json!(from_unix_s);
    result["rate"] = json!(args.rate);
    result["due"] = json!(paced.due);
    result["connections"] = json!(args.connections);
    result["latest_send_us"] = json!(paced.latest.as_micros() as u64);
    (result["server_cpu_s"], result["generator_cpu_s"]) = (json!(processor.0), json!(processor.1));
    let versions: std::collections::BTreeSet<String> =
        questions.into_iter().flat_map(|question| question.checker.into_inner().versions).collect();
    result["versions"] = json!(versions.len());
    Ok(result)
}

/// Connects, then asks what the pacer hands over, to the end.
async fn drive(
    args: &Args,
    questions: &[Question],
    tally: &RefCell<Tally>,
) -> Result<(Paced, (f64, f64), f64), String> {
    let mut connections = vec![];
    for _ in 0..args.connections {
        let first = Connection::open(args.target.address, args.target.protocol).await?;
        for _ in 1..args.streams {
            connections.push(first.sibling().await?);
        }
        connections.push(first);
    }
    let (due, waiting) = mpsc::channel(args.max_waiting);
    let start = Instant::now();
    let start_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let from = start + Duration::from_secs_f64(args.warmup);
    let until = from + Duration::from_secs_f64(args.seconds);
    let pacer = {
        let args = args.clone();
        thread::spawn(move || pace(&args, start, &due))
    };
    let processor = async {
        tokio::time::sleep_until(from.into()).await;
        let reading = Reading::now(&args.target.server_pid);
        tokio::time::sleep_until(until.into()).await;
        reading.since(&args.target.server_pid)
    };
    let waiting = Mutex::new(waiting);
    let asking = join_all(connections.into_iter().map(|mut connection| {
        let waiting = &waiting;
        async move {
            loop {
                // Those that are idle stand in line here, so requests go to the one that has waited longest.
                let next = waiting.lock().await.recv().await;
                let Some((number, intended)) = next else { return };
                let number: u64 = number;
                let outcome = connection.ask(&questions[number as usize % questions.len()]).await;
                if intended >= from {
                    tally.borrow_mut().record(intended - from, intended.elapsed(), kind(&outcome));
                }
            }
        }
    }));
    let bounded = timeout_at((until + Duration::from_secs_f64(args.grace)).into(), asking);
    let (_, spent) = tokio::join!(bounded, processor);
    let paced = pacer.join().map_err(|_| "the pacer panicked")?;
    Ok((paced, spent, start_unix_s + args.warmup))
}

/// Hands each request over when it is due. Ends when the last one is.
fn pace(args: &Args, start: Instant, due: &mpsc::Sender<(u64, Instant)>) -> Paced {
    let mut random = fastrand::Rng::with_seed(args.seed);
    let (warmup, end) = (Duration::from_secs_f64(args.warmup), Duration::from_secs_f64(args.warmup + args.seconds));
    let mut paced = Paced::default();
    wake_on_time();
    let times = Schedule::new(args.arrivals, args.rate, || random.f64());
    for (number, offset) in times.take_while(|offset| *offset < end).enumerate() {
        let intended = start + offset;
        let now = Instant::now();
        if intended > now {
            thread::sleep(intended - now);
        }
        let counted = offset >= warmup;
        paced.due += u64::from(counted);
        if counted {
            paced.latest = paced.latest.max(intended.elapsed());
        }
        if due.try_send((number as u64, intended)).is_err() {
            paced.overflow += u64::from(counted);
        }
    }
    paced
}

/// Lets the kernel delay this thread's sleeps as little as it can; by default it may wait 50 µs for company.
fn wake_on_time() {
    let own = std::fs::read_link("/proc/thread-self").ok();
    if let Some(number) = own.as_deref().and_then(|link| link.file_name()?.to_str()) {
        // Where the kernel doesn't offer it, sleeps are a little longer, which `latest_send_us` shows.
        drop(std::fs::write(format!("/proc/{number}/timerslack_ns"), "1"));
    }
}
