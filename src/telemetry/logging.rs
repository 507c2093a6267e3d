//! Structured logs on standard error: for people on a terminal, JSON otherwise.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::telemetry::settings::LogSettings;

/// The form of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Human,
    Json,
}

/// How the process logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `None` decides by whether standard error is a terminal.
    pub format: Option<LogFormat>,
    /// A filter such as `info` or `headgate=debug`.
    pub level: String,
}

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging for the whole process. A second call does nothing.
///
/// # Errors
/// The filter's own words when `config.level` is not a filter.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(&config.level).map_err(|cause| {
        format!("log_level expects a filter such as info or headgate=debug, got '{}': {cause}", config.level)
    })?;
    let (filter, handle) = reload::Layer::new(filter);
    let terminal = std::io::stderr().is_terminal();
    let format = config.format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
    let layer = match format {
        LogFormat::Human => {
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false).boxed()
        }
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

/// Follows the log settings that clients may change.
pub fn apply(settings: &LogSettings) {
    let level = match settings {
        LogSettings { verbose_level: 1.., .. } => "debug",
        LogSettings { info: true, .. } => "info",
        LogSettings { warning: true, .. } => "warn",
        LogSettings { error: true, .. } => "error",
        _ => "off",
    };
    if let Some(handle) = FILTER.get() {
        // Fails only when the subscriber is gone, that is at the end of the process.
        let _ = handle.reload(EnvFilter::new(level));
    }
}
