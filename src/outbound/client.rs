//! The client that everything but object stores is sent with.

use std::io;

use http::Uri;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use super::tls;

/// Idle connections that are kept to a receiver.
const MAX_IDLE: usize = 16;
/// Bytes of an answer that are read so that its connection can be used again; with more it is closed.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// A client for receivers at this address, over http or https. It follows no redirect and uses no proxy. Certificates are
/// held against those that this machine trusts; without https none are needed.
///
/// # Errors
/// What keeps TLS from working, such as a machine that trusts nobody.
pub fn client(url: &Uri) -> io::Result<Client> {
    tls::install();
    let agent = concat!("headgate/", env!("CARGO_PKG_VERSION"));
    let builder =
        Client::builder().redirect(Policy::none()).no_proxy().pool_max_idle_per_host(MAX_IDLE).user_agent(agent);
    let is_tls = url.scheme_str() == Some("https");
    let builder = if is_tls { builder.https_only(true) } else { builder.tls_certs_only([]) };
    builder.build().map_err(|error| io::Error::other(root_cause(&error)))
}

/// Whether the receiver took it: any status of success is success. Reads the answer to its end, if that is near.
///
/// # Errors
/// What came instead.
pub async fn taken(answer: Result<Response, reqwest::Error>) -> Result<(), String> {
    let mut answer =
        answer.map_err(|error| if error.is_timeout() { "no answer in time".into() } else { root_cause(&error) })?;
    let status = answer.status();
    let mut read = 0;
    while read < MAX_ANSWER_BYTES
        && let Ok(Some(part)) = answer.chunk().await
    {
        read += part.len();
    }
    if status.is_success() { Ok(()) } else { Err(format!("expected a status of success, got {status}")) }
}

/// The operating system's words, without the layers around them.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_http_and_https_have_a_client() {
        for url in ["http://127.0.0.1:1/hook", "https://127.0.0.1:1/hook"] {
            let made = client(&url.parse().unwrap());
            assert!(made.is_ok(), "{url}: {made:?}");
        }
    }
}
