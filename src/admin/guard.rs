//! Keeps web pages from using the operator's browser against the admin API.
//!
//! A page can make the browser send requests to loopback in two ways: through a name of its own that resolves there
//! (DNS rebinding), which shows in `Host`, and as a cross-origin request, which for any change shows in `Origin`.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api_error::ApiError;

/// Lets a request on unless it names a host that isn't loopback or comes from a page of another origin.
pub async fn refuse_browsers(request: Request, next: Next) -> Response {
    match check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(text) => ApiError::new(StatusCode::FORBIDDEN, text).into_response(),
    }
}

fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    const HOST_TEXT: &str =
        "the Host header must be a loopback address or localhost: the admin API answers on this machine only";
    let host = match uri.authority() {
        // HTTP/2 carries the host in the URI.
        Some(authority) => Some(authority.clone()),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<Authority>().ok()),
    };
    let host = host.filter(is_loopback).ok_or(HOST_TEXT)?;
    match headers.get(ORIGIN) {
        None => Ok(()),
        Some(origin)
            if origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) == Some(host.as_str()) =>
        {
            Ok(())
        }
        Some(_) => Err("requests from web pages of another origin are refused"),
    }
}

fn is_loopback(host: &Authority) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_hosts_and_own_pages_pass() {
        let check = |host: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            for (name, value) in [(HOST, host), (ORIGIN, origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            check(&Uri::from_static("/metrics"), &headers).is_ok()
        };
        for (host, origin, expected) in [
            (Some("127.0.0.1:8002"), None, true),
            (Some("127.5.0.1"), None, true),
            (Some("[::1]:8002"), None, true),
            (Some("localhost:8002"), None, true),
            (Some("LOCALHOST:8002"), Some("http://localhost:8002"), false),
            (Some("localhost:8002"), Some("http://localhost:8002"), true),
            (Some("localhost:8002"), Some("http://localhost:3000"), false),
            (Some("localhost:8002"), Some("https://localhost:8002"), false),
            (Some("localhost:8002"), Some("null"), false),
            (Some("headgate.example:8002"), None, false),
            (Some("127.0.0.1.headgate.example"), None, false),
            (Some("10.0.0.1:8002"), None, false),
            (Some("127.0.0.1@evil.example"), None, false),
            (Some(""), None, false),
            (None, None, false),
        ] {
            assert_eq!(check(host, origin), expected, "host {host:?}, origin {origin:?}");
        }
        let absolute = Uri::from_static("http://evil.example/metrics");
        let local = HeaderMap::from_iter([(HOST, "localhost".parse().unwrap())]);
        assert!(super::check(&absolute, &local).is_err());
    }
}
