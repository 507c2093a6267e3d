//! The first load of an unknown file happens in a child process, under limits of time and memory.
//!
//! A model file is untrusted input: it may ask for absurd memory, loop, or crash the process that reads it. The child is
//! this program's own `inspect --probe`, which limits itself before it reads the file.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::EngineChoice;
use crate::engine::auto::remove_left_by;
use crate::registry::probe_report::{CHILD_ENVIRONMENT, ProbeReport, RefusalKind};

/// How the child is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeConfig {
    pub program: PathBuf,
    /// Wall-clock time, after which the child is killed; the same in CPU time.
    pub timeout: Duration,
    /// Address space, in bytes.
    pub memory_limit_bytes: u64,
    /// As the child is told it: the library of ONNX Runtime or its folder.
    pub onnxruntime_library: Option<PathBuf>,
}

/// Why a file did not survive its probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The child says why it can't be served.
    #[error("{0}")]
    Refused(String),
    #[error("loading took longer than {} s in a process of its own; raise load_timeout if the model is sound", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error(
        "loading crashed in a process of its own ({how}), as it does when the model needs more than {memory_limit_bytes} \
         bytes of address space (load_memory_limit_bytes) or is malformed"
    )]
    Crashed { how: String, memory_limit_bytes: u64 },
    #[error("the process that tries unknown models could not be run: {0}")]
    NotRun(String),
}

impl ProbeError {
    /// Whether the file itself is to blame, so that trying again would end the same.
    pub fn blames_file(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Crashed { .. })
    }
}

/// Most bytes of the child's answer that are read.
const MAX_REPORT_BYTES: u64 = 1 << 20;
/// Most bytes that are kept of what the child says on its standard error stream: the panics that it met.
const MAX_SAID_BYTES: u64 = 8 << 10;
/// Time between two looks at a running child. Most files load in a few milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Loads and warms up `model` in a child process, on the engine that it is to run on or on each that is there. Blocks until
/// it is done or its time is over. What a child that fails says beside its report goes to the log.
///
/// # Errors
/// `ProbeError`.
pub fn probe(config: &ProbeConfig, model: &Path, engine: EngineChoice) -> Result<(), ProbeError> {
    let (outcome, said) = tried(config, model, engine).map_err(|cause| ProbeError::NotRun(cause.to_string()))?;
    if outcome.is_err() && !said.is_empty() {
        tracing::warn!(file = %model.display(), %said, "the process that tried an unknown model failed");
    }
    outcome
}

/// The outcome, and what the child said on its standard error stream.
///
/// # Errors
/// The operating system's, where the child can't be run.
fn tried(config: &ProbeConfig, model: &Path, engine: EngineChoice) -> io::Result<(Result<(), ProbeError>, String)> {
    let mut command = Command::new(&config.program);
    command.args(["inspect", "--json", "--probe"]);
    if let Some(library) = &config.onnxruntime_library {
        command.arg("--onnxruntime-library").arg(library);
    }
    let mut child = command
        .args(["--memory-limit-bytes", &config.memory_limit_bytes.to_string()])
        .args(["--cpu-limit-seconds", &config.timeout.as_secs().max(1).to_string()])
        .args(["--engine", engine.name()])
        .arg("--")
        .arg(model)
        .env_clear()
        .envs([CHILD_ENVIRONMENT])
        .env("TMPDIR", std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = child.stderr.take().map(listen);
    let ended = wait(&mut child, config.timeout);
    remove_left_by(child.id());
    let outcome = match ended? {
        None => Err(ProbeError::TimedOut(config.timeout)),
        Some(status) => judged(&mut child, status, config.memory_limit_bytes),
    };
    Ok((outcome, said.and_then(|said| said.join().ok()).unwrap_or_default()))
}

/// Reads the stream to its end on a thread of its own, so that the child never waits for a reader, and gives its beginning.
fn listen(mut stream: ChildStderr) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stream.by_ref().take(MAX_SAID_BYTES).read_to_end(&mut said);
        let _ = io::copy(&mut stream, &mut io::sink());
        String::from_utf8_lossy(&said).trim().to_owned()
    })
}

/// What a child that ended has found.
fn judged(child: &mut Child, status: ExitStatus, memory_limit_bytes: u64) -> Result<(), ProbeError> {
    let mut report = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(MAX_REPORT_BYTES).read_to_end(&mut report);
    }
    match serde_json::from_slice::<ProbeReport>(&report) {
        Ok(ProbeReport::Loaded) if status.success() => Ok(()),
        // The engine turns some failed allocations into refusals.
        Ok(ProbeReport::Refused { kind: RefusalKind::Unsupported, error }) if error.contains("panicked") => {
            Err(ProbeError::Refused(format!(
                "{error} (it was tried with at most {memory_limit_bytes} bytes of address space, load_memory_limit_bytes)"
            )))
        }
        Ok(ProbeReport::Refused { error, .. }) => Err(ProbeError::Refused(error)),
        _ => Err(ProbeError::Crashed { how: describe(status), memory_limit_bytes }),
    }
}

/// `None` when the child had to be killed. Its answer is one short line, which the pipe holds until it is read.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit status {code}"),
        (None, None) => "no exit status".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::write_program;

    fn outcome_of(commands: &str) -> (Result<(), ProbeError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("probe.sh");
        write_program(&program, commands);
        let timeout = Duration::from_secs(60);
        let config = ProbeConfig { program, timeout, memory_limit_bytes: 1 << 30, onnxruntime_library: None };
        tried(&config, Path::new("model.onnx"), EngineChoice::Auto).unwrap()
    }

    #[test]
    fn what_a_child_says_beside_its_report_is_heard_and_never_holds_it_up() {
        let refusal = r#"{"ok":false,"kind":"unsupported","error":"no"}"#;
        let (outcome, said) = outcome_of(&format!("echo panicked at x.rs:1 >&2\necho '{refusal}'"));
        assert_eq!((outcome, &*said), (Err(ProbeError::Refused("no".into())), "panicked at x.rs:1"));
        let (outcome, said) = outcome_of("head -c 1000000 /dev/zero >&2\necho '{\"ok\":true}'");
        assert_eq!((outcome, said.len()), (Ok(()), 8 << 10));
        let (outcome, said) = outcome_of("echo memory allocation failed >&2\nkill -ABRT $$");
        assert!(matches!(outcome, Err(ProbeError::Crashed { how, .. }) if how == "signal 6"));
        assert_eq!(said, "memory allocation failed");
    }
}
