//! What the tests share: a server process of our own, clients, repositories made on the spot.

pub mod client;
pub mod infer;
pub mod json;
pub mod onnx;
pub mod python;
pub mod raw;
pub mod repository;
pub mod server;
pub mod small_disk;
pub mod tensors;
pub mod zoo;

use std::time::{Duration, Instant};

pub use server::PATIENCE;

/// The stated count under `HEADGATE_TEST_SCALE=full`, a twentieth of it otherwise. Prints which.
pub fn scaled(what: &str, full: usize) -> usize {
    let count = if is_full() { full } else { full.div_ceil(20) };
    println!("{what}: {count} of {full} (HEADGATE_TEST_SCALE=full runs all)");
    count
}

pub fn is_full() -> bool {
    std::env::var("HEADGATE_TEST_SCALE").is_ok_and(|scale| scale == "full")
}

/// Waits until `look` gives something; panics with its last complaint when that takes too long.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(complaint) => assert!(Instant::now() < deadline, "{what}: {complaint}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
