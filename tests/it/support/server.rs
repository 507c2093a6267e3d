//! `headgate serve` as a process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{Http, get_blocking};
use super::eventually;

/// Ten times and more of what anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running server, killed when it is dropped.
pub struct Server {
    child: Child,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves a repository with more flags, and waits until it is ready.
    pub fn start(repository: &Path, flags: &[&str]) -> Self {
        Self::start_with(repository, flags, &[])
    }

    /// The same with variables of its environment.
    pub fn start_with(repository: &Path, flags: &[&str], variables: &[(&str, PathBuf)]) -> Self {
        let mut server = Self::spawn(command(repository, flags).envs(variables.iter().cloned()));
        server.wait_ready();
        server
    }

    /// Starts a server and waits until it listens, not until it is ready.
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the server starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let addresses = follow(child.stderr.take().expect("stderr is piped"), log.clone());
        let mut address = |listener: &str| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match addresses.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok((name, address)) if name == listener => return address,
                    Ok(_) => {}
                    Err(_) => {
                        let _ = child.kill();
                        panic!("no {listener} address in the log:\n{}", log.lock().unwrap().join("\n"));
                    }
                }
            }
        };
        let (http, grpc, admin) = (address("http"), address("grpc"), address("admin"));
        Self { child, http, grpc, admin, log }
    }

    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while get_blocking(self.http, "/v2/health/ready").0 != 200 {
            assert!(self.is_running(), "ended before it was ready:\n{}", self.log());
            assert!(Instant::now() < deadline, "not ready in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn admin_http(&self) -> Http {
        Http::new(self.admin)
    }

    /// A model as the admin API shows it; `Null` where there is none.
    pub fn model(&self, name: &str) -> Value {
        match get_blocking(self.admin, &format!("/admin/v1/models/{name}")) {
            (200, body) => serde_json::from_str(&body).unwrap(),
            (404, _) => Value::Null,
            (status, body) => panic!("{status}: {body}"),
        }
    }

    /// State and reason of a version; empty where it isn't known.
    pub fn state(&self, model: &str, version: u64) -> (String, String) {
        let model = self.model(model);
        let versions = model["versions"].as_array().map_or(&[][..], Vec::as_slice);
        versions.iter().find(|entry| entry["version"] == version).map_or_else(Default::default, |entry| {
            (entry["state"].as_str().unwrap().to_owned(), entry["reason"].as_str().unwrap().to_owned())
        })
    }

    /// Waits until a version is in a state, and gives the reason.
    pub async fn reaches(&self, model: &str, version: u64, state: &str) -> String {
        eventually(&format!("{model} {version} becomes {state}"), async || match self.state(model, version) {
            (now, reason) if now == state => Ok(reason),
            (now, reason) => Err(format!("it is '{now}': {reason}\n{}", self.log())),
        })
        .await
    }

    /// Waits until the bare name is answered by a version.
    pub async fn answers(&self, model: &str, version: u64) {
        eventually(&format!("{model} is answered by {version}"), async || match &self.model(model) {
            view if view["default_version"] == version => Ok(()),
            view => Err(view.to_string()),
        })
        .await;
    }

    /// Waits until the log has a line with all of these words.
    pub async fn logs(&self, words: &[&str]) {
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        eventually(&format!("the log has {words:?}"), async || {
            let log = self.log.lock().unwrap();
            log.iter().find(has_all).map(drop).ok_or_else(|| log.join("\n"))
        })
        .await;
    }

    /// The value of a series on /metrics, by its full name and labels; 0 where it isn't there.
    pub fn metric(&self, series: &str) -> f64 {
        let (status, text) = get_blocking(self.admin, "/metrics");
        assert_eq!(status, 200);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub async fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
    }
}

/// Runs a server that is to refuse to start: its exit status and what it says.
pub fn refused(repository: &Path, flags: &[&str]) -> (ExitStatus, String) {
    let output = command(repository, flags).output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

fn command(repository: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    // What is refused and what is fast must not depend on the machine's packages.
    let is_chosen = flags.contains(&"--onnxruntime-library");
    let without: &[&str] = if is_chosen { &[] } else { &["--onnxruntime-library", "none"] };
    command
        .arg("serve")
        .arg(repository)
        .args(["--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0"])
        .args(["--admin-address", "127.0.0.1:0", "--log-format", "json"])
        .args(without)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Keeps the log and reports each `listening` line.
fn follow(stderr: std::process::ChildStderr, log: Arc<Mutex<Vec<String>>>) -> mpsc::Receiver<(String, SocketAddr)> {
    const KEPT_LINES: usize = 2000;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str::<serde_json::Value>(&line)
                && event["message"] == "listening"
                && let (Some(listener), Some(address)) = (event["listener"].as_str(), event["address"].as_str())
            {
                let _ = sender.send((listener.to_owned(), address.parse().unwrap()));
            }
            let mut log = log.lock().unwrap();
            if log.len() < KEPT_LINES {
                log.push(line);
            }
        }
    });
    receiver
}

/// The repository that the project ships.
pub fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}
