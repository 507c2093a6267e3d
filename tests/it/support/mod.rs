//! What the tests share: a server process of our own, clients, repositories made on the spot.

pub mod client;
pub mod repository;
pub mod server;

/// The stated count under `HEADGATE_TEST_SCALE=full`, a twentieth of it otherwise. Prints which.
pub fn scaled(what: &str, full: usize) -> usize {
    let is_full = std::env::var("HEADGATE_TEST_SCALE").is_ok_and(|scale| scale == "full");
    let count = if is_full { full } else { full.div_ceil(20) };
    println!("{what}: {count} of {full} (HEADGATE_TEST_SCALE=full runs all)");
    count
}
