//! What an operator may set: flags, the same keys in `headgate.yaml`, and what the program means by them.
//!
//! [`Settings`] is what was written, by flag or in the file; [`Config`] is what follows from it. A flag wins over the
//! file; a key that isn't one is refused with the nearest that is.

mod routes;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use self::routes::RouteSettings;
use self::values::{at_least_one, duration, positive};
use crate::outbound::{WebhookConfig, WebhookError, WebhookSettings, config as outbound};
use crate::prediction_log::LogConfig as PredictionLogConfig;
use crate::telemetry::access_log::AccessLogMode;
use crate::telemetry::logging::{LogConfig, LogFormat};

/// What was written. Every field is a key of the file (with `_`) and, but for [`FILE_ONLY`], a flag of `serve` (with
/// `-`).
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Model repositories: directories of <model>/<version>/model.onnx
    #[arg(value_name = "DIR")]
    pub repositories: Vec<PathBuf>,
    /// Further names that clients may call, each with its model and label. Only in the file.
    #[arg(skip)]
    pub routes: BTreeMap<String, RouteSettings>,
    /// Address for HTTP [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDR")]
    pub http_address: Option<SocketAddr>,
    /// Address for gRPC [default: 127.0.0.1:8001]
    #[arg(long, value_name = "ADDR")]
    pub grpc_address: Option<SocketAddr>,
    /// Address for the admin API and /metrics, loopback only [default: 127.0.0.1:8002]
    #[arg(long, value_name = "ADDR")]
    pub admin_address: Option<SocketAddr>,
    /// One more address that answers /metrics and nothing else
    #[arg(long, value_name = "ADDR")]
    pub metrics_address: Option<SocketAddr>,
    /// Directory for what outlives the process: labels, quarantine, known-good digests
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// When models are loaded [default: poll]
    #[arg(long, value_enum, value_name = "MODE")]
    pub model_control_mode: Option<ModelControlMode>,
    /// Time between two looks at the repositories [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub poll_interval: Option<Duration>,
    /// Let clients load and unload models in explicit mode on addresses other than loopback [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub allow_repository_control: Option<bool>,
    /// Name that server metadata gives [default: headgate]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,

    /// Largest request body in bytes, after decompression [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    pub max_body_bytes: Option<usize>,
    /// Most bytes of request bodies in memory at one time [default: 536870912]
    #[arg(long, value_name = "BYTES")]
    pub max_bytes_in_flight: Option<u64>,
    /// Most open connections on each listener [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// Time for a request's headers to arrive [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub header_timeout: Option<Duration>,
    /// Time for a request's body to arrive [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub body_timeout: Option<Duration>,
    /// Time a connection may stay without a request [default: 75s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Option<Duration>,
    /// Time a client may leave an answer unread [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub send_timeout: Option<Duration>,
    /// Time between the first SIGTERM and the last accepted connection [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub pre_drain: Option<Duration>,
    /// Time that requests in flight have to finish at shutdown [default: 25s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub drain_timeout: Option<Duration>,

    /// Requests that may wait for one version, where its configuration doesn't say [default: 1000]
    #[arg(long, value_name = "COUNT")]
    pub max_queue_size: Option<usize>,
    /// Bytes of inputs that may wait for one version [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    pub max_queue_bytes: Option<usize>,
    /// Longest wait that a request is taken in for; one that would have to wait longer is refused at once [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub max_queue_wait: Option<Duration>,
    /// Cores that the runs of all models may take together [default: the machine's cores]
    #[arg(long, value_name = "COUNT")]
    pub cores: Option<usize>,
    /// Cores that one version may hold, where its configuration doesn't say [default: all of them]
    #[arg(long, value_name = "COUNT")]
    pub workers: Option<usize>,
    /// Threads that load models, beside those that serve [default: half of the cores, at least 1]
    #[arg(long, value_name = "COUNT")]
    pub loader_threads: Option<usize>,
    /// Time that an unknown model file has to load and warm up in its child process [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub load_timeout: Option<Duration>,
    /// Address space that an unknown model file may take in its child process, in bytes [default: 8589934592]
    #[arg(long, value_name = "BYTES")]
    pub load_memory_limit_bytes: Option<u64>,
    /// libonnxruntime.so or its folder, or none to do without [default: ORT_DYLIB_PATH, else the Python package's folder]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime_library: Option<PathBuf>,
    /// Time without a request after which a version is let go until its next one, where its model.yaml doesn't say
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub idle_unload: Option<Duration>,
    /// Memory of loaded versions, in bytes, beyond which those not in use are let go, least recently used first
    #[arg(long, value_name = "BYTES")]
    pub max_model_memory_bytes: Option<u64>,
    /// Time that a request waits for a cold version to be loaded [default: load_timeout]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(deserialize_with = "duration")]
    pub cold_start_timeout: Option<Duration>,

    /// Form of the log [default: human on a terminal, else json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged, such as info or headgate=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,
    /// Which requests get a line [default: sample, that is errors and one success in 1000]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub access_log: Option<AccessLogChoice>,

    /// Receivers of events: only in the file
    #[arg(skip)]
    pub webhooks: Option<Vec<WebhookSettings>>,
    /// How predictions and feedback are written: only in the file, whose reader reads it as it means
    #[arg(skip)]
    #[serde(skip)]
    pub prediction_log: Option<PredictionLogConfig>,
}

/// Keys of the file that are no flags.
pub const FILE_ONLY: [&str; 3] = ["routes", "webhooks", "prediction_log"];

/// When models are loaded and unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelControlMode {
    /// Follow the repositories.
    Poll,
    /// Only when a client or an operator asks.
    Explicit,
    /// Everything at start, nothing after.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogChoice {
    Off,
    Sample,
    All,
}

/// What the program does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub repositories: Vec<PathBuf>,
    /// Further names that clients may call.
    pub routes: BTreeMap<String, RouteSettings>,
    pub http_address: SocketAddr,
    pub grpc_address: SocketAddr,
    pub admin_address: SocketAddr,
    pub metrics_address: Option<SocketAddr>,
    pub data_dir: Option<PathBuf>,
    pub model_control_mode: ModelControlMode,
    pub poll_interval: Duration,
    pub allow_repository_control: bool,
    pub server_name: String,
    pub limits: Limits,
    pub pre_drain: Duration,
    pub drain_timeout: Duration,
    pub serving: ServingDefaults,
    pub loading: LoadingConfig,
    pub residency: ResidencyConfig,
    pub log: LogConfig,
    pub access_log: AccessLogMode,
    pub webhooks: Vec<WebhookConfig>,
    /// `None` where nothing was said of it; of use where there is a data directory.
    pub prediction_log: Option<PredictionLogConfig>,
}

/// What a client may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_body_bytes: usize,
    pub max_bytes_in_flight: u64,
    pub max_connections: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub send_timeout: Duration,
}

/// What a version gets where its own configuration says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingDefaults {
    pub max_queue_size: usize,
    pub max_queue_bytes: usize,
    pub max_queue_wait: Duration,
    /// Of all versions together.
    pub cores: usize,
    /// Of one version.
    pub workers: usize,
}

/// How model files are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadingConfig {
    pub threads: usize,
    pub timeout: Duration,
    pub memory_limit_bytes: u64,
    /// The program that is run as the child which tries an unknown file: this one.
    pub probe_program: PathBuf,
    /// `None`: where it usually lies.
    pub onnxruntime_library: Option<PathBuf>,
}

/// Which loaded versions stay in memory, and how long a request waits for one that didn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResidencyConfig {
    /// Time without a request after which a version is let go, where its own settings say nothing; `None`: never.
    pub idle_unload: Option<Duration>,
    /// Memory that loaded versions may take; `None`: any.
    pub max_memory_bytes: Option<u64>,
    pub cold_start_timeout: Duration,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("no model repository given: name at least one directory, as in `headgate serve models`")]
    NoRepository,
    #[error("{} is not a directory that can be read: {cause}", path.display())]
    Repository { path: PathBuf, cause: std::io::Error },
    #[error(
        "the admin listener has no authentication and therefore only listens on a loopback address, got {0}; \
         use --metrics-address to expose /metrics elsewhere"
    )]
    AdminNotLoopback(SocketAddr),
    #[error("webhooks[{at}]: {cause}")]
    Webhook { at: usize, cause: WebhookError },
    #[error("{key} expects {expected}, got {got}")]
    Value { key: &'static str, expected: &'static str, got: String },
}

/// Most compute threads that may be asked for.
const MAX_CORES: usize = 1024;

/// One success in so many gets an access line by default.
const ACCESS_SAMPLE: u64 = 1000;

const LOAD_TIMEOUT_S: u64 = 60;

impl Settings {
    /// Fills what was not given here from `file`.
    pub fn or(self, file: Self) -> Self {
        macro_rules! pick {
            ($($field:ident),* $(,)?) => {
                Self {
                    repositories: if self.repositories.is_empty() { file.repositories } else { self.repositories },
                    routes: if self.routes.is_empty() { file.routes } else { self.routes },
                    $($field: self.$field.or(file.$field),)*
                }
            };
        }
        pick!(
            http_address,
            grpc_address,
            admin_address,
            metrics_address,
            data_dir,
            model_control_mode,
            poll_interval,
            allow_repository_control,
            server_name,
            max_body_bytes,
            max_bytes_in_flight,
            max_connections,
            header_timeout,
            body_timeout,
            idle_timeout,
            send_timeout,
            pre_drain,
            drain_timeout,
            max_queue_size,
            max_queue_bytes,
            max_queue_wait,
            cores,
            workers,
            loader_threads,
            load_timeout,
            load_memory_limit_bytes,
            onnxruntime_library,
            idle_unload,
            max_model_memory_bytes,
            cold_start_timeout,
            log_format,
            log_level,
            access_log,
            webhooks,
            prediction_log,
        )
    }

    /// What the program will do.
    ///
    /// # Errors
    /// `ConfigError`, naming the key, what it expects and what it got.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        if self.repositories.is_empty() {
            return Err(ConfigError::NoRepository);
        }
        for path in &self.repositories {
            if let Err(cause) = std::fs::read_dir(path) {
                return Err(ConfigError::Repository { path: path.clone(), cause });
            }
        }
        if self.data_dir.is_none()
            && let Some(key) = self.prediction_log.as_ref().and_then(PredictionLogConfig::destination)
        {
            let expected = "a data_dir to write the log in";
            return Err(ConfigError::Value { key, expected, got: "none".to_owned() });
        }
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let admin_address = self.admin_address.unwrap_or(loopback(8002));
        if !admin_address.ip().is_loopback() {
            return Err(ConfigError::AdminNotLoopback(admin_address));
        }
        // What the scheduler and the control group of this process leave of the machine.
        let machine = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = at_least_one("cores", self.cores.unwrap_or(machine))?;
        if cores > MAX_CORES {
            let expected = "at most 1024";
            return Err(ConfigError::Value { key: "cores", expected, got: cores.to_string() });
        }
        Ok(Config {
            limits: self.limits()?,
            serving: ServingDefaults {
                max_queue_size: at_least_one("max_queue_size", self.max_queue_size.unwrap_or(1000))?,
                max_queue_bytes: at_least_one("max_queue_bytes", self.max_queue_bytes.unwrap_or(256 << 20))?,
                max_queue_wait: positive("max_queue_wait", self.max_queue_wait, 1)?,
                cores,
                workers: at_least_one("workers", self.workers.unwrap_or(cores))?,
            },
            loading: LoadingConfig {
                threads: at_least_one("loader_threads", self.loader_threads.unwrap_or((machine / 2).max(1)))?,
                timeout: positive("load_timeout", self.load_timeout, LOAD_TIMEOUT_S)?,
                memory_limit_bytes: self.load_memory_limit_bytes.unwrap_or(8 << 30),
                onnxruntime_library: self.onnxruntime_library.clone(),
                // Also right after the file of a running program was replaced by its next release.
                probe_program: PathBuf::from("/proc/self/exe"),
            },
            residency: self.residency()?,
            log: LogConfig { format: self.log_format, level: self.log_level.unwrap_or_else(|| "info".to_owned()) },
            access_log: match self.access_log.unwrap_or(AccessLogChoice::Sample) {
                AccessLogChoice::Off => AccessLogMode::Off,
                AccessLogChoice::Sample => AccessLogMode::Sample { every: ACCESS_SAMPLE },
                AccessLogChoice::All => AccessLogMode::All,
            },
            http_address: self.http_address.unwrap_or(loopback(8000)),
            grpc_address: self.grpc_address.unwrap_or(loopback(8001)),
            webhooks: outbound::read(self.webhooks.as_deref().unwrap_or_default())
                .map_err(|(at, cause)| ConfigError::Webhook { at, cause })?,
            prediction_log: self.prediction_log,
            admin_address,
            metrics_address: self.metrics_address,
            data_dir: self.data_dir,
            model_control_mode: self.model_control_mode.unwrap_or(ModelControlMode::Poll),
            poll_interval: positive("poll_interval", self.poll_interval, 1)?,
            allow_repository_control: self.allow_repository_control.unwrap_or(false),
            server_name: self.server_name.unwrap_or_else(|| "headgate".to_owned()),
            pre_drain: self.pre_drain.unwrap_or(Duration::ZERO),
            drain_timeout: self.drain_timeout.unwrap_or(Duration::from_secs(25)),
            routes: routes::checked(self.routes)?,
            repositories: self.repositories,
        })
    }

    fn residency(&self) -> Result<ResidencyConfig, ConfigError> {
        let load_timeout = positive("load_timeout", self.load_timeout, LOAD_TIMEOUT_S)?;
        Ok(ResidencyConfig {
            idle_unload: match self.idle_unload {
                None => None,
                some => Some(positive("idle_unload", some, 0)?),
            },
            max_memory_bytes: self.max_model_memory_bytes,
            cold_start_timeout: match self.cold_start_timeout {
                None => load_timeout,
                some => positive("cold_start_timeout", some, 0)?,
            },
        })
    }

    fn limits(&self) -> Result<Limits, ConfigError> {
        let max_body_bytes = at_least_one("max_body_bytes", self.max_body_bytes.unwrap_or(64 << 20))?;
        let max_bytes_in_flight = self.max_bytes_in_flight.unwrap_or(512 << 20);
        if max_bytes_in_flight < max_body_bytes as u64 {
            return Err(ConfigError::Value {
                key: "max_bytes_in_flight",
                expected: "at least max_body_bytes",
                got: max_bytes_in_flight.to_string(),
            });
        }
        Ok(Limits {
            max_body_bytes,
            max_bytes_in_flight,
            max_connections: at_least_one("max_connections", self.max_connections.unwrap_or(10_000))?,
            header_timeout: positive("header_timeout", self.header_timeout, 10)?,
            body_timeout: positive("body_timeout", self.body_timeout, 60)?,
            idle_timeout: positive("idle_timeout", self.idle_timeout, 75)?,
            send_timeout: positive("send_timeout", self.send_timeout, 60)?,
        })
    }
}

#[cfg(test)]
mod tests;
