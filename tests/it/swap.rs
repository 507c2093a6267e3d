//! Swaps lose nothing: while versions replace each other under load, no request fails, each answer comes from a version
//! that was current for its request and is that version's own, and memory is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{eventually, scaled, zoo};

const CONNECTIONS: usize = 8;
const TAGS: [&str; 3] = ["b1", "b3", "b8"];
/// Versions alternate between two models whose answers differ.
const MODELS: [&str; 2] = ["digits_cnn_v2", "digits_cnn_v1"];

fn zoo_model(version: u64) -> &'static str {
    MODELS[(version % 2) as usize]
}

/// What the clients know together.
#[derive(Default)]
struct Window {
    /// The newest version that anyone was answered by. Numbers only rise, so an older one is never current again.
    seen: AtomicU64,
    /// The newest version that lies in the repository.
    offered: AtomicU64,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swaps_under_load_fail_no_request() {
    let swaps = scaled("swaps", 1000) as u64;
    let repository = TempDir::new();
    repository.add_with_manifest(zoo_model(1), "digits", 1);
    let server = Server::start(repository.path(), &["--poll-interval", "10ms"]);
    let window = Arc::new(Window { seen: 1.into(), offered: 1.into(), ..Window::default() });
    let mut clients = vec![];
    for number in 0..CONNECTIONS {
        let wires = Wires::connect(&server).await;
        clients.push(tokio::spawn(load(wires, number, window.clone())));
    }

    let mut rss = Memory::default();
    for version in 2..swaps + 2 {
        window.offered.store(version, SeqCst);
        repository.add_with_manifest(zoo_model(version), "digits", version);
        server.answers("digits", version).await;
        // Published: from here on nothing older may answer a request that is yet to be sent.
        window.seen.fetch_max(version, SeqCst);
        repository.remove_version("digits", version - 1);
        rss.read(&server);
    }
    window.stop.store(true, SeqCst);
    let (mut answers, mut failures) = (0, vec![]);
    for client in clients {
        let (answered, failed) = client.await.unwrap();
        answers += answered;
        failures.extend(failed);
    }
    println!("swap: {swaps} swaps, {answers} answers, {} failures", failures.len());
    assert!(failures.is_empty(), "{} failures, the first: {:?}", failures.len(), failures.first());
    assert!(answers >= swaps, "the load never came to speed: {answers} answers");

    rss.has_not_grown("swap");
    // What was replaced is drained and forgotten.
    eventually("only the newest version is left", async || {
        let versions = server.model("digits")["versions"].as_array().unwrap().len();
        if versions == 1 { Ok(()) } else { Err(format!("{versions} versions")) }
    })
    .await;
}

/// Asks in a closed loop until it is told to stop. Gives the number of good answers and what was wrong with the others.
async fn load(wires: Wires, number: usize, window: Arc<Window>) -> (u64, Vec<String>) {
    let encodings =
        if number.is_multiple_of(2) { [Encoding::Json, Encoding::Binary] } else { [Encoding::Raw, Encoding::Typed] };
    let inputs = TAGS.map(|tag| zoo::inputs(MODELS[0], tag));
    let expected = MODELS.map(|model| TAGS.map(|tag| zoo::case(model, tag).outputs["probabilities"].clone()));
    // Both were recorded for the same images, which is what tells the versions apart by their answers.
    assert!(TAGS.iter().all(|tag| zoo::inputs(MODELS[1], tag) == zoo::inputs(MODELS[0], tag)));
    let (mut answers, mut failures) = (0, vec![]);
    let mut round = number;
    while !window.stop.load(SeqCst) {
        round += 1;
        let (encoding, case) = (encodings[round % 2], round % TAGS.len());
        let current_before = window.seen.load(SeqCst);
        let result = wires.infer(encoding, &Call { model: "digits", version: "", inputs: &inputs[case] }).await;
        let offered_after = window.offered.load(SeqCst);
        let reply = match result {
            Ok(reply) => reply,
            Err(refusal) => {
                failures.push(refusal.to_string());
                continue;
            }
        };
        let version = reply.version;
        window.seen.fetch_max(version, SeqCst);
        if !(current_before..=offered_after).contains(&version) {
            failures.push(format!("answered by {version}, current were {current_before} to {offered_after}"));
        }
        let own = &expected[(version % 2) as usize][case];
        if let Some(difference) = zoo::difference(&reply.outputs["probabilities"], own, 1e-4) {
            failures.push(format!("version {version} gave another's answer: {difference}"));
        }
        answers += 1;
    }
    (answers, failures)
}

/// Memory of an unloaded version is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_give_memory_back() {
    let reloads = scaled("reloads", 200);
    let repository = TempDir::new();
    repository.add("mobilenet_v3_small", "mobilenet", 1);
    let server = Server::start(repository.path(), &["--model-control-mode", "explicit"]);
    let wires = Wires::connect(&server).await;
    let inputs = zoo::inputs("mobilenet_v3_small", "b1");
    let mut rss = Memory::default();
    for _ in 0..reloads {
        assert_eq!(wires.http.post("/v2/repository/models/mobilenet/load", "{}").await.status, 200);
        let call = Call { model: "mobilenet", version: "", inputs: &inputs };
        wires.infer(Encoding::Binary, &call).await.unwrap();
        assert_eq!(wires.http.post("/v2/repository/models/mobilenet/unload", "{}").await.status, 200);
        server.reaches("mobilenet", 1, "unloaded").await;
        rss.read(&server);
    }
    rss.has_not_grown("reloads");
}

/// The server's resident memory after each step.
#[derive(Default)]
struct Memory {
    kib: Vec<u64>,
}

impl Memory {
    /// What the allocator keeps for a moment comes and goes, so the least of so many readings counts.
    const WINDOW: usize = 20;

    fn read(&mut self, server: &Server) {
        self.kib.push(server.rss_kib());
    }

    /// Within 5 % of what it was after the first 100 steps, where there were enough of them to tell.
    fn has_not_grown(&self, what: &str) {
        let least = |readings: &[u64]| readings.iter().copied().min().unwrap_or_default();
        let steps = self.kib.len();
        let last = least(&self.kib[steps.saturating_sub(Self::WINDOW)..]);
        if steps < 100 + Self::WINDOW {
            println!("{what}: resident memory {last} KiB; compared with that after 100 from {} on", 100 + Self::WINDOW);
            return;
        }
        let after_100 = least(&self.kib[100 - Self::WINDOW..100]);
        println!("{what}: resident memory {after_100} KiB after 100, {last} KiB after {steps}");
        assert!(last as f64 <= after_100 as f64 * 1.05, "{what}: {after_100} KiB became {last} KiB");
    }
}
