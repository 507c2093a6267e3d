//! Nothing leaks between requests: 64 clients with distinct inputs and batch sizes over both protocols, a stateful model
//! and poisoned rows among them, while versions are swapped. Every answer is what the same request gave alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use headgate::tensor::{DataType, Tensor};

use crate::support::infer::{Call, Encoding, Refusal, Reply, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{scaled, tensors, zoo};

const CLIENTS: usize = 64;
const SWAPPED: [&str; 2] = ["digits_cnn_v2", "digits_cnn_v1"];
const MODELS: [&str; 6] = ["digits", "gru", "gather", "addsub", "strings", "nan_on_bright"];

/// A request, and what it gave alone: by parity of the version for the model that is swapped.
struct Scripted {
    model: &'static str,
    encoding: Encoding,
    inputs: Vec<(String, Tensor)>,
    alone: Vec<Outcome>,
}

/// An answer without its version, or the code of a refusal, whose text names the request.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Answer(Vec<(String, Tensor)>),
    Refused(String),
}

impl Outcome {
    fn of(result: &Result<Reply, Refusal>) -> Self {
        match result {
            Ok(reply) => {
                let plain = |(name, tensor): (&String, &Tensor)| (name.clone(), tensors::with_plain_nans(tensor));
                Self::Answer(reply.outputs.iter().map(plain).collect())
            }
            // A refusal for load is never expected; its text says why.
            Err(Refusal::Http { status: 503, text }) => Self::Refused(text.clone()),
            Err(Refusal::Http { status, .. }) => Self::Refused(status.to_string()),
            Err(Refusal::Grpc { code, .. }) => Self::Refused(format!("{code:?}")),
            Err(Refusal::Transport(text)) => panic!("no answer at all: {text}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_equals_its_own_single_run() {
    let rounds = scaled("isolation, requests of each client at least", 200);
    let swaps = scaled("isolation, swaps", 100) as u64;
    let repository = TempDir::new();
    let rest = ["gru_stateful", "gather_may_fail", "multi_io_addsub", "string_identity", "digits_cnn_v6_nan_on_bright"];
    for (zoo_model, model) in rest.into_iter().zip(&MODELS[1..]) {
        repository.add(zoo_model, model, 1);
    }
    repository.write("digits/model.yaml", "version_policy: {latest: {num_versions: 2}}");
    repository.add_with_manifest(SWAPPED[1], "digits", 1);
    repository.add_with_manifest(SWAPPED[0], "digits", 2);
    let server = Server::start(repository.path(), &["--poll-interval", "10ms"]);

    let mut scripts = vec![];
    for client in 0..CLIENTS {
        let wires = Wires::connect(&server).await;
        let mut script = vec![];
        for model in MODELS {
            script.push(alone(&wires, client, model).await);
        }
        scripts.push((wires, script));
    }
    refusals_and_poison_are_among_them(&scripts);

    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        scripts.into_iter().map(|(wires, script)| tokio::spawn(run(wires, script, rounds, is_over.clone()))).collect();
    for version in 3..swaps + 3 {
        repository.add_with_manifest(SWAPPED[(version % 2) as usize], "digits", version);
        server.answers("digits", version).await;
        repository.remove_version("digits", version - 2);
    }
    is_over.store(true, SeqCst);
    let (mut answers, mut faults) = (0, vec![]);
    for client in clients {
        let (answered, wrong) = client.await.unwrap();
        answers += answered;
        faults.extend(wrong);
    }
    println!("isolation: {answers} answers of {CLIENTS} clients during {swaps} swaps");
    assert!(faults.is_empty(), "{} faults, the first: {}", faults.len(), faults[0]);
}

/// Makes a client's request and asks it alone.
async fn alone(wires: &Wires, client: usize, model: &'static str) -> Scripted {
    let encoding = match (client % 2, client / 2 % 2) {
        (0, 0) => Encoding::Json,
        (0, _) => Encoding::Binary,
        (_, 0) => Encoding::Raw,
        (_, _) => Encoding::Typed,
    };
    let inputs = inputs(client, model);
    let versions: &[&str] = if model == "digits" { &["2", "1"] } else { &["1"] };
    let mut alone = vec![];
    for version in versions {
        alone.push(Outcome::of(&wires.infer(encoding, &Call { model, version, inputs: &inputs }).await));
    }
    Scripted { model, encoding, inputs, alone }
}

/// Inputs that no other client has, in a batch size that few others have.
fn inputs(client: usize, model: &str) -> Vec<(String, Tensor)> {
    let mut random = fastrand::Rng::with_seed(client as u64);
    let rows = 1 + client % 13;
    let mut floats = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.f32() * 2.0 - 1.0).collect();
        Tensor::from_elements(DataType::Fp32, shape.to_vec(), &values).unwrap()
    };
    let named = |name: &str, tensor| (name.to_owned(), tensor);
    match model {
        "digits" => {
            let image = floats(&[rows, 1, 8, 8]);
            vec![named("image", if client.is_multiple_of(5) { with_a_nan(&image) } else { image })]
        }
        "nan_on_bright" => {
            // Bright images, which it answers with NaN, for every other client.
            let bright = if client.is_multiple_of(2) { 16.0 } else { 0.01 };
            let pixels = floats(&[rows, 1, 8, 8]).elements::<f32>().map(|v| v.abs() * bright).collect::<Vec<f32>>();
            vec![named("image", Tensor::from_elements(DataType::Fp32, vec![rows, 1, 8, 8], &pixels).unwrap())]
        }
        "gru" => {
            let steps = 1 + client % 7;
            vec![named("x", floats(&[rows, steps, 8])), named("h", floats(&[1, rows, 32]))]
        }
        "gather" => {
            // The model has ten rows; every third client asks for one beyond.
            let beyond = if client.is_multiple_of(3) { 1000 } else { 0 };
            let ids: Vec<i64> = (0..rows as i64).map(|row| (row * 7 + client as i64) % 10 + row / 2 * beyond).collect();
            vec![named("ix", Tensor::from_elements(DataType::Int64, vec![rows], &ids).unwrap())]
        }
        "addsub" => vec![named("a", floats(&[rows, 16])), named("b", floats(&[rows, 16]))],
        "strings" => {
            let texts: Vec<String> =
                (0..rows * 2).map(|element| format!("client {client} element {element}")).collect();
            vec![named("s", Tensor::from_byte_elements(vec![rows, 2], &texts).unwrap())]
        }
        other => panic!("no inputs for {other}"),
    }
}

fn with_a_nan(image: &Tensor) -> Tensor {
    let mut pixels: Vec<f32> = image.elements().collect();
    pixels[7] = f32::NAN;
    Tensor::from_elements(DataType::Fp32, image.shape().to_vec(), &pixels).unwrap()
}

/// The test would show little if nothing were refused, nothing were NaN, or all answers were the same.
fn refusals_and_poison_are_among_them(scripts: &[(Wires, Vec<Scripted>)]) {
    let all = || scripts.iter().flat_map(|(_, script)| script);
    let refused = all().filter(|scripted| matches!(scripted.alone[0], Outcome::Refused(_)));
    assert!(refused.clone().count() >= 10 && refused.clone().all(|scripted| scripted.model == "gather"));
    let has_nan = |scripted: &&Scripted| match &scripted.alone[0] {
        Outcome::Answer(outputs) => outputs
            .iter()
            .any(|(_, tensor)| tensors::floats(tensor).is_some_and(|floats| floats.iter().any(|v| v.is_nan()))),
        Outcome::Refused(_) => false,
    };
    assert!(all().filter(has_nan).count() >= 20);
    let gru: Vec<_> = all().filter(|scripted| scripted.model == "gru").map(|scripted| &scripted.alone[0]).collect();
    assert!(gru.iter().enumerate().all(|(at, one)| gru[..at].iter().all(|other| difference(one, other).is_some())));
    let digits = all().filter(|scripted| scripted.model == "digits");
    assert!(digits.clone().all(|scripted| difference(&scripted.alone[0], &scripted.alone[1]).is_some()));
}

/// Asks again and again, at least so often, until the swaps are over. Gives how often, and what was wrong.
async fn run(wires: Wires, script: Vec<Scripted>, rounds: usize, is_over: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut round, mut faults) = (0, vec![]);
    while round < rounds || !is_over.load(SeqCst) {
        let Scripted { model, encoding, inputs, alone } = &script[round % script.len()];
        let result = wires.infer(*encoding, &Call { model, version: "", inputs }).await;
        let version = result.as_ref().map_or(0, |reply| reply.version);
        let expected = if alone.len() == 2 { &alone[(version % 2) as usize] } else { &alone[0] };
        if let Some(difference) = difference(expected, &Outcome::of(&result)) {
            faults.push(format!("{model} version {version} {encoding:?}: {difference}"));
        }
        round += 1;
    }
    (round, faults)
}

/// A shape that is used often gets a plan of its own, and a batch sums in another order: both may round another way.
const ROUNDING: f64 = 1e-5;

/// How an outcome differs from the one expected, beyond rounding.
fn difference(expected: &Outcome, got: &Outcome) -> Option<String> {
    let (Outcome::Answer(expected), Outcome::Answer(got)) = (expected, got) else {
        return (expected != got).then(|| format!("expected {expected:?}, got {got:?}"));
    };
    assert_eq!(expected.len(), got.len());
    let differs = |((name, expected), (got_name, got)): (&(String, Tensor), &(String, Tensor))| {
        assert_eq!(name, got_name);
        Some(format!("output {name}, {}", zoo::difference(got, expected, ROUNDING)?))
    };
    expected.iter().zip(got).find_map(differs)
}
