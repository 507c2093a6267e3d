//! Padding along a declared sequence axis: answers are what they are without it, and a model that doesn't tolerate it
//! serves without.

use headgate::engine::rows::{concat_rows, slice_rows};
use headgate::tensor::Tensor;

use crate::support::infer::{Call, Encoding, Reply, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{eventually, zoo};

const POLL: [&str; 2] = ["--poll-interval", "10ms"];
const TEXT: &str =
    "sequence_padding: {dimension: S, buckets: [16, 48, 128], mask: attention_mask, pad: {input_ids: 256}}";

fn notes(server: &Server, model: &str) -> String {
    server.model(model)["versions"][0]["loaded"]["notes"].to_string()
}

async fn infer(wires: &Wires, encoding: Encoding, model: &str, inputs: &[(String, Tensor)]) -> Reply {
    wires.infer(encoding, &Call { model, version: "", inputs }).await.unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Inputs cut, or repeated, to a length along an axis.
fn with_length(inputs: Vec<(String, Tensor)>, axis: usize, length: usize) -> Vec<(String, Tensor)> {
    let each = |(name, tensor): (String, Tensor)| {
        let copies = vec![tensor.clone(); length.div_ceil(tensor.shape()[axis])];
        (name, slice_rows(&concat_rows(&copies, axis).unwrap(), axis, 0, length))
    };
    inputs.into_iter().map(each).collect()
}

fn assert_same(padded: &Reply, plain: &Reply, what: &str) {
    assert_eq!(padded.outputs.keys().collect::<Vec<_>>(), plain.outputs.keys().collect::<Vec<_>>());
    for (name, expected) in &plain.outputs {
        let difference = zoo::difference(&padded.outputs[name], expected, 1e-4);
        assert_eq!(difference, None, "output {name} of {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_padded_text_model_answers_as_without_padding() {
    let repository = TempDir::new();
    for model in ["padded", "plain"] {
        repository.add("codelang_v2", model, 1);
    }
    repository.write("padded/model.yaml", TEXT);
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;
    assert_eq!(notes(&server, "padded"), "[]");
    let mut compared = 0;
    for tag in ["b1s128", "b8s128"] {
        for length in [1, 15, 16, 17, 40, 100, 128] {
            let inputs = with_length(zoo::inputs("codelang_v2", tag), 1, length);
            let plain = infer(&wires, Encoding::Raw, "plain", &inputs).await;
            for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.takes(&inputs)) {
                let padded = infer(&wires, encoding, "padded", &inputs).await;
                assert_same(&padded, &plain, &format!("{tag} at {length} by {encoding:?}"));
                compared += 1;
            }
        }
    }
    println!("padding: {compared} answers as without");
    assert!(compared >= 28);
}

/// Outputs as long as the inputs come back at the request's own length, on whatever axis they lie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_come_back_at_their_own_length() {
    let repository = TempDir::new();
    for model in ["padded", "plain"] {
        repository.add("batch_axis1", model, 1);
    }
    repository.write("padded/model.yaml", "sequence_padding: {dimension: T, buckets: [8, 32], pad: {x: 1.5}}");
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;
    assert_eq!(notes(&server, "padded"), "[]");
    for length in [1, 7, 8, 9, 33] {
        let inputs = with_length(zoo::inputs("batch_axis1", "b3"), 0, length);
        let padded = infer(&wires, Encoding::Raw, "padded", &inputs).await;
        assert_eq!(padded.outputs["y"].shape(), [length, 3, 3]);
        assert_same(&padded, &infer(&wires, Encoding::Raw, "plain", &inputs).await, &format!("{length}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_does_not_tolerate_it_serves_without_and_says_so() {
    let repository = TempDir::new();
    // The state after the last step depends on every step; added positions count where the mask is padded with ones.
    repository.add("gru_stateful", "gru", 1);
    repository.write("gru/model.yaml", "sequence_padding: {dimension: T, buckets: [8, 32]}");
    repository.add("codelang_v2", "text", 1);
    let ones = "sequence_padding: {dimension: S, buckets: [16, 48], pad: {attention_mask: 1}}";
    repository.write("text/model.yaml", ones);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    let index = wires.http.post("/v2/repository/index", "").await.json();
    for (model, zoo_model, output) in [("gru", "gru_stateful", "h_out"), ("text", "codelang_v2", "probabilities")] {
        let expected =
            format!("served without sequence padding: output '{output}' changes with a length of 1 padded to");
        assert!(notes(&server, model).contains(&expected), "{}", notes(&server, model));
        let entry = index.as_array().unwrap().iter().find(|entry| entry["name"] == model).unwrap();
        assert_eq!(entry["state"], "READY");
        assert!(entry["reason"].as_str().unwrap().contains(&expected), "{entry}");
        server.logs(&[model, "ready", &expected]).await;
        let reply = infer(&wires, Encoding::Raw, model, &zoo::inputs(zoo_model, "b3")).await;
        for (name, recorded) in &zoo::case(zoo_model, "b3").outputs {
            assert_eq!(zoo::difference(&reply.outputs[name], recorded, zoo::tolerance(zoo_model)), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_does_not_fit_the_model_is_refused() {
    let repository = TempDir::new();
    repository.add("codelang_v2", "text", 1);
    repository.write("text/model.yaml", TEXT.replace("dimension: S", "dimension: T"));
    let server = Server::start(repository.path(), &POLL);
    let reason = server.reaches("text", 1, "failed").await;
    let expected = "expected a dimension that the model's inputs name ('N', 'S'), got 'T'";
    assert!(reason.contains(expected), "{reason}");

    // Mended, it loads; what is declared after that is followed from the next load on.
    repository.write("text/model.yaml", "");
    server.reaches("text", 1, "ready").await;
    repository.write("text/model.yaml", TEXT);
    eventually("the note says when it is checked", async || match notes(&server, "text") {
        text if text.contains("checked when that is loaded again") => Ok(()),
        text => Err(text),
    })
    .await;
    let wires = Wires::connect(&server).await;
    infer(&wires, Encoding::Raw, "text", &with_length(zoo::inputs("codelang_v2", "b1"), 1, 3)).await;
    repository.write("text/model.yaml", TEXT.replace("attention_mask", "mask"));
    eventually("the misfit is told", async || match server.model("text")["fault"].as_str() {
        Some(fault) if fault.contains("sequence_padding.mask: expected an input of the model") => Ok(()),
        fault => Err(format!("{fault:?}")),
    })
    .await;
}

/// `inspect` reads the settings beside the file's version.
#[test]
fn inspect_says_whether_the_model_tolerates_it() {
    let repository = TempDir::new();
    repository.add("codelang_v2", "text", 1);
    let inspect = || {
        let file = repository.version("text", 1).join("model.onnx");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_headgate"));
        let output = command.args(["inspect", "--seconds", "0", "--batch-sizes", "1"]).arg(file).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!inspect().contains("padding"));
    repository.write("text/model.yaml", TEXT);
    let text = inspect();
    assert!(text.contains("note      sequence padding along 'S' up to [16,48,128]: proven"), "{text}");
    repository.write("text/model.yaml", TEXT.replace("mask: attention_mask, pad: {", "pad: {attention_mask: 1, "));
    let text = inspect();
    assert!(text.contains("note      served without sequence padding: output 'probabilities' changes"), "{text}");
}
