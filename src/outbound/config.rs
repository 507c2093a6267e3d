//! What `webhooks` in the settings file means.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde::Deserialize;

/// Most webhooks of a gateway.
pub const MAX_WEBHOOKS: usize = 16;
/// Bytes that a secret may have, as Standard Webhooks bound it.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const SECRET_PREFIX: &str = "whsec_";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// One receiver, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    pub url: String,
    pub secret: Secret,
    /// Such as `10s`.
    pub timeout: Option<String>,
}

/// Text that no log shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// One receiver.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    pub url: Uri,
    /// Of the signatures.
    pub key: Vec<u8>,
    /// Of one attempt as a whole.
    pub timeout: Duration,
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig").field("url", &self.url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Why a webhook is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    #[error("url expects an address such as https://example.org/hook, got '{0}'")]
    Url(String),
    #[error("url '{0}' is named twice")]
    Twice(String),
    #[error("secret expects whsec_ and 24 to 64 bytes in base64, got {0}")]
    Secret(String),
    #[error("timeout expects a time longer than 0, such as 10s or 500ms, got '{0}'")]
    Timeout(String),
    #[error("at most {MAX_WEBHOOKS} are possible, got {0}")]
    TooMany(usize),
}

/// What the list means.
///
/// # Errors
/// `WebhookError` with the number of the webhook in the list, from 0 on.
pub fn read(list: &[WebhookSettings]) -> Result<Vec<WebhookConfig>, (usize, WebhookError)> {
    if list.len() > MAX_WEBHOOKS {
        return Err((MAX_WEBHOOKS, WebhookError::TooMany(list.len())));
    }
    let mut read: Vec<WebhookConfig> = vec![];
    for (at, settings) in list.iter().enumerate() {
        let webhook = settings.read().map_err(|fault| (at, fault))?;
        if read.iter().any(|other| other.url == webhook.url) {
            return Err((at, WebhookError::Twice(settings.url.clone())));
        }
        read.push(webhook);
    }
    Ok(read)
}

impl WebhookSettings {
    fn read(&self) -> Result<WebhookConfig, WebhookError> {
        let url: Uri = self.url.parse().map_err(|_| WebhookError::Url(self.url.clone()))?;
        match url.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err(WebhookError::Url(self.url.clone())),
        }
        let timeout = match &self.timeout {
            None => DEFAULT_TIMEOUT,
            Some(text) => match humantime::parse_duration(text) {
                Ok(timeout) if !timeout.is_zero() => timeout,
                _ => return Err(WebhookError::Timeout(text.clone())),
            },
        };
        Ok(WebhookConfig { url, key: self.key()?, timeout })
    }

    /// The secret's bytes. Texts of its faults don't show it.
    fn key(&self) -> Result<Vec<u8>, WebhookError> {
        let refused = |got: String| Err(WebhookError::Secret(got));
        let Some(text) = self.secret.0.strip_prefix(SECRET_PREFIX) else {
            return refused("a text that does not begin with whsec_".to_owned());
        };
        let Ok(key) = STANDARD.decode(text) else { return refused("a text that is not base64".to_owned()) };
        if !SECRET_BYTES.contains(&key.len()) {
            return refused(format!("{} bytes", key.len()));
        }
        Ok(key)
    }
}
