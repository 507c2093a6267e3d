//! Real clients work: unmodified tritonclient and KServe clients, from a virtual environment of their own under target/.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::support::server::{Server, models};

const SKIP: &str = "HEADGATE_SKIP_INTEROP";

#[test]
fn real_clients_work() {
    run("label of the server", &["--label", "stable=1"], &[]);
}

#[test]
fn real_clients_load_and_unload() {
    run("explicit mode", &["--explicit"], &["--model-control-mode", "explicit"]);
}

fn run(what: &str, arguments: &[&str], flags: &[&str]) {
    if std::env::var(SKIP).is_ok_and(|value| value == "1") {
        println!("skipped: real clients, {what} ({SKIP}=1)");
        return;
    }
    let python = environment().unwrap_or_else(|reason| {
        panic!("real clients can't be tested: {reason}; {SKIP}=1 leaves these tests out");
    });
    let server = Server::start(&models(), flags);
    if arguments.contains(&"--label") {
        label_stable(&server);
    }
    let output = Command::new(python)
        .arg(interop().join("run.py"))
        .args(["--http", &server.http.to_string(), "--grpc", &server.grpc.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn label_stable(server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = "/admin/v1/models/digits/labels/stable";
    let moved = runtime.block_on(server.admin_http().put_json(path, &serde_json::json!({"version": 1})));
    assert_eq!(moved.status, 200, "{:?}", moved.body);
}

fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// The Python of an environment with the pinned packages. It is made once for each content of requirements.txt; a file
/// written last tells a whole one from one that was cut off.
fn environment() -> Result<PathBuf, String> {
    static MADE: std::sync::OnceLock<Result<PathBuf, String>> = std::sync::OnceLock::new();
    MADE.get_or_init(make_environment).clone()
}

fn make_environment() -> Result<PathBuf, String> {
    let requirements = interop().join("requirements.txt");
    let digest = Sha256::digest(std::fs::read(&requirements).map_err(|cause| cause.to_string())?);
    let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("interop-{key}"));
    let python = |place: &Path| place.join("bin/python");
    let whole = place.join("whole");
    if whole.exists() {
        return Ok(python(&place));
    }
    let _ = std::fs::remove_dir_all(&place);
    let made = Command::new("python3").args(["-m", "venv"]).arg(&place).output();
    let made = made.map_err(|cause| format!("python3 can't be run ({cause})"))?;
    if !made.status.success() {
        return Err(format!("python3 -m venv failed ({})", last_line(&made)));
    }
    let pip = Command::new(python(&place))
        .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--quiet", "-r"])
        .arg(&requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| cause.to_string())?;
    if !pip.status.success() {
        return Err(format!("the packages of tests/interop/requirements.txt can't be installed ({})", last_line(&pip)));
    }
    std::fs::write(whole, "").map_err(|cause| cause.to_string())?;
    Ok(python(&place))
}

fn last_line(output: &std::process::Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).trim().lines().last().unwrap_or("no word").to_owned()
}
