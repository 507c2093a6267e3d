//! What the prediction log costs on the request's thread, and what it makes of many rows.
//!
//! `cargo bench --bench prediction_log` takes requests of the iris classifier's shape through everything that a request
//! does for its record, by turns without a log and with one whose entries another thread takes away, and prints the
//! difference. No model runs and nothing is decoded: what is left is small enough to see the log in.
//!
//! `cargo bench --bench prediction_log -- volume` has five million rows of iris written and sealed, and asks for some of
//! them with `headgate log query`.

mod volume;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use headgate::batching::Answer;
use headgate::data_plane::DataPlane;
use headgate::engine::{Model, RunTiming};
use headgate::inference::{
    Attributes, Deadline, InferRequest, ModelRef, Protocol, RequestContext, RequestId, RequestedOutput,
};
use headgate::prediction_log::LogSettings;
use headgate::prediction_log::ring::{Entries, RingConfig};
use headgate::record::Record;
use headgate::routing::Lane;
use headgate::servable::CheckedRequest;
use headgate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};
use headgate::tensor::{DataType, Tensor};
use headgate::testing::{FunctionModel, data_plane, data_plane_with_log};

// The server's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 41;
const REQUESTS: usize = 20_000;

struct Nobody;

impl Attributes for Nobody {
    fn get(&self, _name: &str) -> Option<&[u8]> {
        None
    }
}

fn main() {
    match std::env::args().any(|argument| argument == "volume") {
        true => volume::run(),
        false => thread_cost(),
    }
}

fn thread_cost() {
    let without = data_plane(&[("m", 1, classifier())]);
    let (with, entries) = data_plane_with_log(classifier(), LogSettings::default(), RingConfig::default());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = thread::spawn({
        let stop = stop.clone();
        move || take_away(&entries, &stop)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut off, mut on, mut difference) = (vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        let (first, second) = if round % 2 == 0 { (&without, &with) } else { (&with, &without) };
        let (a, b) = (runtime.block_on(requests(first)), runtime.block_on(requests(second)));
        let (a, b) = if round % 2 == 0 { (a, b) } else { (b, a) };
        off.push(a);
        on.push(b);
        difference.push(b - a);
    }
    stop.store(true, Ordering::Relaxed);
    let taken = writer.join().expect("the writer's thread");
    let dropped: u64 = with.log.counts().values().map(|counts| counts.dropped_ring.load(Ordering::Relaxed)).sum();
    println!("{ROUNDS} rounds of {REQUESTS} requests by turns; ns a request: median (least to most)");
    report("without a log", off);
    report("with the log", on);
    report("difference", difference);
    println!("entries taken by the writer {taken}, dropped {dropped}");
}

fn report(what: &str, mut times_ns: Vec<f64>) {
    times_ns.sort_by(f64::total_cmp);
    let (least, median, most) = (times_ns[0], times_ns[times_ns.len() / 2], times_ns[times_ns.len() - 1]);
    println!("{what:14} {median:7.0} ({least:.0} to {most:.0})");
}

/// As the writer does: looks every few milliseconds.
fn take_away(entries: &Entries, stop: &AtomicBool) -> u64 {
    let mut taken = 0;
    while !stop.load(Ordering::Relaxed) {
        while let Some(entry) = entries.next() {
            black_box(&entry);
            taken += 1;
        }
        thread::sleep(Duration::from_millis(2));
    }
    taken
}

/// ns a request.
async fn requests(plane: &DataPlane) -> f64 {
    let (x, answer) = (tensors(&[0.1, 0.2, 0.3, 0.4]), tensors(&[0.2, 0.3, 0.5]));
    let context = RequestContext {
        model: ModelRef::parse("m", "").expect("a name"),
        request_id: RequestId::take_over(None),
        traceparent: None,
        deadline: Deadline::NONE,
        priority: None,
        received: Instant::now(),
        protocol: Protocol::Http,
    };
    let lane = plane.lane(&context.model, &Nobody, Deadline::NONE).await.expect("it is served");
    let started = Instant::now();
    for _ in 0..REQUESTS {
        request(plane, &context, &lane, &x, &answer);
    }
    started.elapsed().as_nanos() as f64 / REQUESTS as f64
}

/// What a request does for its record, in the path's order.
fn request(plane: &DataPlane, context: &RequestContext, lane: &Lane, x: &Tensor, y: &Tensor) {
    let mut record = Record::open(plane, context);
    record.routed(lane);
    let request = InferRequest::default();
    record.decoded(context.received, &Nobody, &request);
    let wanted = RequestedOutput { name: "probabilities".to_owned(), classification: None };
    let checked = CheckedRequest { inputs: vec![x.clone()], rows: 1, outputs: vec![(0, wanted)] };
    record.checked(&request.id, &checked);
    let answer =
        Answer { tensors: vec![y.clone()], timing: RunTiming::default(), queue: Duration::ZERO, batch_size: 1 };
    record.answered(&answer);
    black_box(record.prediction_id());
    record.encoded(context.received);
    record.keep(|| answer.tensors, answer.batch_size);
    record.close(None);
}

fn tensors(values: &[f32]) -> Tensor {
    Tensor::from_elements(DataType::Fp32, vec![1, values.len()], values).expect("as many as the shape says")
}

/// A signature as iris has it; never run.
fn classifier() -> Arc<dyn Model> {
    let spec = |name: &str, width| TensorSpec {
        name: name.to_owned(),
        dtype: DataType::Fp32,
        dims: Some(vec![Dim::Named("N".to_owned()), Dim::Fixed(width)]),
        classes: vec![],
    };
    let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] };
    let signature = Signature {
        inputs: vec![spec("X", 4)],
        outputs: vec![spec("probabilities", 3)],
        batching: Batching::Proven(axes),
    };
    FunctionModel::model(signature, |_| Ok(vec![]))
}
