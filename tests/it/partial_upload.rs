//! Partial uploads are safe: a version that is still being copied is never loaded, whatever way it comes, and a broken
//! one costs nothing but itself.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::{Manifest, TempDir, manifest_of, model_files};
use crate::support::server::Server;
use crate::support::{eventually, scaled, zoo};

const STEP_BYTES: usize = 1024;
/// Slower than the server looks, and faster than files have to rest before they count as whole.
const PAUSE: Duration = Duration::from_millis(15);
const POLL: [&str; 2] = ["--poll-interval", "10ms"];

#[derive(Debug, Clone, Copy)]
enum Upload {
    NoManifest,
    ManifestFirst,
    ManifestLast,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_under_copy_is_never_loaded() {
    let rounds = scaled("partial uploads of each kind", 20);
    let repository = Arc::new(TempDir::new());
    repository.add("digits_cnn_v1", "digits", 1);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    let (mut looks, mut version) = (0, 1);
    for _ in 0..rounds {
        for upload in [Upload::NoManifest, Upload::ManifestFirst, Upload::ManifestLast] {
            version += 1;
            looks += watch_upload(&server, &wires, &repository, version, upload).await;
        }
    }
    println!("partial uploads: {} uploads, {looks} looks at a version under copy", version - 1);
    assert!(looks >= version * 10, "hardly a look fell into an upload: {looks}");
}

/// Uploads a version in small steps and looks all the while at who answers and what the index says.
async fn watch_upload(server: &Server, wires: &Wires, repository: &Arc<TempDir>, version: u64, upload: Upload) -> u64 {
    let is_complete = Arc::new(AtomicBool::new(false));
    let target = repository.version("digits", version);
    let copying = tokio::task::spawn_blocking({
        let is_complete = is_complete.clone();
        move || copy_in_steps(&target, upload, &is_complete)
    });
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    let mut looks = 0;
    loop {
        let (state, reason) = server.state("digits", version);
        let call = Call { model: "digits", version: "", inputs: &inputs };
        let answered_by = wires.infer(Encoding::Binary, &call).await.unwrap().version;
        if is_complete.load(SeqCst) {
            break;
        }
        looks += 1;
        assert_eq!(answered_by, version - 1, "{upload:?}: answered by a version that is still being copied");
        assert!(matches!(state.as_str(), "" | "discovered"), "{upload:?}: half a copy is {state}: {reason}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    copying.await.unwrap();
    server.answers("digits", version).await;
    let call = Call { model: "digits", version: "", inputs: &inputs };
    let reply = wires.infer(Encoding::Binary, &call).await.unwrap();
    let expected = &zoo::case("digits_cnn_v2", "b1").outputs["probabilities"];
    assert_eq!(zoo::difference(&reply.outputs["probabilities"], expected, 1e-4), None);
    looks
}

/// Copies digits_cnn_v2 in place. `is_complete` is set before the last step, since the server may act on it at once.
fn copy_in_steps(target: &Path, upload: Upload, is_complete: &AtomicBool) {
    let files = model_files("digits_cnn_v2");
    let manifest = ("manifest.json".to_owned(), manifest_of(&files).into_bytes());
    let order = match upload {
        Upload::NoManifest => files,
        Upload::ManifestFirst => [vec![manifest], files].concat(),
        Upload::ManifestLast => [files, vec![manifest]].concat(),
    };
    fs::create_dir_all(target).unwrap();
    let last_file = order.len() - 1;
    for (position, (name, content)) in order.iter().enumerate() {
        let mut file = OpenOptions::new().create(true).append(true).open(target.join(name)).unwrap();
        let steps = content.len().div_ceil(STEP_BYTES);
        for (step, bytes) in content.chunks(STEP_BYTES).enumerate() {
            if position == last_file && step + 1 == steps {
                is_complete.store(true, SeqCst);
            }
            file.write_all(bytes).unwrap();
            file.flush().unwrap();
            std::thread::sleep(PAUSE);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staged_names_are_never_loaded() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    for folder in ["digits/2.tmp", "digits/.3", "digits/..4", "upload.tmp/1", ".hidden/1"] {
        repository.write(&format!("{folder}/model.onnx"), &model_files("digits_cnn_v2")[0].1);
    }
    repository.write("digits/5/model.onnx.tmp", &model_files("digits_cnn_v2")[0].1);
    let server = Server::start(repository.path(), &POLL);
    // Once a version that came after them was loaded, they have been looked at and passed over.
    repository.add("digits_cnn_v2", "digits", 9);
    server.answers("digits", 9).await;
    repository.add("digits_cnn_v1", "digits", 10);
    server.answers("digits", 10).await;
    let digits = server.model("digits");
    let known: Vec<u64> =
        digits["versions"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
    assert_eq!(known, [1, 5, 9, 10]);
    let (state, reason) = server.state("digits", 5);
    assert_eq!((state.as_str(), reason.contains("no model.onnx")), ("failed", true), "{reason}");
    let models = server.admin_http().get("/admin/v1/models").await.json();
    let names: Vec<&str> = models["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["digits"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_truncated_file_fails_beside_the_version_that_serves() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let serving = tokio::spawn({
        let (wires, stop, answered) = (wires.clone(), stop.clone(), answered.clone());
        async move {
            let inputs = zoo::inputs("digits_cnn_v1", "b1");
            while !stop.load(SeqCst) {
                let call = Call { model: "digits", version: "", inputs: &inputs };
                assert_eq!(wires.infer(Encoding::Raw, &call).await.unwrap().version, 1);
                answered.fetch_add(1, SeqCst);
            }
        }
    });

    let whole = model_files("digits_cnn_v2");
    let half = vec![("model.onnx".to_owned(), whole[0].1[..whole[0].1.len() / 2].to_vec())];
    repository.add_files("digits", 2, &half, Manifest::None);
    let reason = server.reaches("digits", 2, "failed").await;
    assert!(reason.contains("ONNX"), "{reason}");
    server.logs(&["digits", "failed", "ONNX"]).await;
    // Half a file under the manifest of the whole one.
    let claimed = [half, vec![("manifest.json".to_owned(), manifest_of(&whole).into_bytes())]].concat();
    repository.add_files("digits", 3, &claimed, Manifest::None);
    let reason = server.reaches("digits", 3, "failed").await;
    assert!(reason.contains("model.onnx") && reason.contains("sha256"), "{reason}");

    let before = answered.load(SeqCst);
    eventually("version 1 goes on serving", async || {
        if answered.load(SeqCst) > before + 20 { Ok(()) } else { Err("no answers".to_owned()) }
    })
    .await;
    stop.store(true, SeqCst);
    serving.await.unwrap();
    assert_eq!(server.model("digits")["default_version"], 1);
    repository.add("digits_cnn_v2", "digits", 4);
    server.answers("digits", 4).await;
}
