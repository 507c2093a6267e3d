//! Time from starting the process to its readiness, on the models that the project ships.
//!
//! `cargo bench --bench startup` prints minimum, median and maximum over twenty starts without a data directory (every
//! file is tried in a child process first) and twenty with one (every file is known).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STARTS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let data = std::env::temp_dir().join(format!("headgate-bench-{}", std::process::id()));
    report("unknown files", &[]);
    let data_flag = ["--data-dir", data.to_str().expect("a temporary path is UTF-8")];
    start(&data_flag);
    report("known files", &data_flag);
    std::fs::remove_dir_all(data).expect("the data directory was made by the server");
}

fn report(what: &str, flags: &[&str]) {
    let mut times: Vec<Duration> = (0..STARTS).map(|_| start(flags)).collect();
    times.sort();
    let [min, median, max] = [times[0], times[STARTS / 2], times[STARTS - 1]].map(|time| time.as_millis());
    println!("startup, {what}: min {min} ms, median {median} ms, max {max} ms over {STARTS} starts");
}

/// Starts a server, waits until it is ready, ends it, and says how long it took.
fn start(flags: &[&str]) -> Duration {
    let address = free_address();
    let started = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_headgate"))
        .arg("serve")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
        .args(["--http-address", &address.to_string(), "--grpc-address", "127.0.0.1:0"])
        .args(["--admin-address", "127.0.0.1:0", "--log-level", "error"])
        .args(flags)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    while !is_ready(address) {
        assert!(started.elapsed() < PATIENCE, "not ready in time");
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = started.elapsed();
    end(&mut server);
    took
}

fn free_address() -> SocketAddr {
    // Free a moment ago; nothing else on this machine asks for it meanwhile.
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has free ports")
}

fn is_ready(address: SocketAddr) -> bool {
    let mut answer = [0; 12];
    TcpStream::connect(address)
        .and_then(|mut stream| {
            stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            stream.read_exact(&mut answer)
        })
        .is_ok_and(|()| answer.ends_with(b"200"))
}

fn end(server: &mut Child) {
    server.kill().expect("it runs");
    server.wait().expect("it was started here");
}
