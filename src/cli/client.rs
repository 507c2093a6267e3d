//! The HTTP client of the commands that ask a running server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use super::failure::Failure;

/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 30;
/// Time for a connection to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest part of an answer that isn't ours to be shown, in characters.
const MAX_SHOWN_CHARS: usize = 300;

/// Asks one server, one call at a time.
pub struct Client {
    base: String,
    /// The flag that named the server, for error texts.
    flag: &'static str,
    timeout: Duration,
    http: HttpClient<HttpConnector, Full<Bytes>>,
    runtime: Runtime,
}

/// A server's answer with a status of success.
#[derive(Debug)]
pub struct Answer {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:8002`; nothing is sent yet. `timeout` bounds each
    /// call as a whole.
    ///
    /// # Errors
    /// `Usage` when `url` is no HTTP address.
    pub fn new(url: &str, flag: &'static str, timeout: Duration) -> Result<Self, Failure> {
        let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let base = base.trim_end_matches('/').to_owned();
        let valid = base.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.path() == "/");
        if !valid {
            return Err(Failure::Usage(format!(
                "{flag} expects an address such as http://127.0.0.1:8000, got '{url}'"
            )));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { base, flag, timeout, http, runtime })
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// `Unreachable` when no answer comes, `NotFound` for 404, `Refused` with the server's words for any other status
    /// that isn't success.
    pub fn call(&self, method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.headers_mut() = headers;
        *request.uri_mut() = format!("{}{path}", self.base)
            .parse()
            .map_err(|cause| Failure::Usage(format!("{path} can't be asked for: {cause}")))?;
        self.runtime.block_on(async {
            match timeout(self.timeout, self.exchange(request)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    Err(self.unreachable(format!("nothing came within {}", humantime::format_duration(self.timeout))))
                }
            }
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = self.http.request(request).await.map_err(|error| self.unreachable(root_cause(&error)))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| Failure::Refused(format!("the answer of {} is incomplete: {error}", self.base)))?
            .to_bytes();
        if parts.status.is_success() {
            return Ok(Answer { headers: parts.headers, body });
        }
        let text = error_text(&body).unwrap_or_else(|| format!("{} answered {}", self.base, parts.status));
        Err(if parts.status.as_u16() == 404 { Failure::NotFound(text) } else { Failure::Refused(text) })
    }

    fn unreachable(&self, cause: String) -> Failure {
        Failure::Unreachable { url: self.base.clone(), cause, flag: self.flag }
    }
}

/// One segment of a path. `@` stands for itself, so that `model@label` stays readable in a log.
pub fn segment(name: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@');
    utf8_percent_encode(name, KEPT).to_string()
}

/// The operating system's words, without the layers around them.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// What an error's body says: `{"error": …}`, else the beginning of what is there.
fn error_text(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct ErrorBody {
        error: String,
    }
    if let Ok(ErrorBody { error }) = serde_json::from_slice(body) {
        return Some(error);
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(MAX_SHOWN_CHARS).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, valid) in [
            ("http://127.0.0.1:8000", true),
            ("http://127.0.0.1:8000/", true),
            ("localhost:8000", true),
            ("https://localhost:8000", false),
            ("http://localhost:8000/v2", false),
            ("http://", false),
            ("", false),
        ] {
            let client = Client::new(url, "--url", Duration::from_secs(1));
            assert_eq!(client.is_ok(), valid, "{url}");
        }
    }

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(segment("a/b c@stable?"), "a%2Fb%20c@stable%3F");
    }

    #[test]
    fn error_bodies() {
        assert_eq!(error_text(b"{\"error\": \"no\"}").as_deref(), Some("no"));
        assert_eq!(error_text(b" plain\n").as_deref(), Some("plain"));
        assert_eq!(error_text(b"").as_deref(), None);
    }
}
