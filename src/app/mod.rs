//! The composition root: from a configuration to bound sockets, and from there to the end of the process.

mod prediction_log;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::service::service_fn;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::prediction_log::{Log, Running};
use crate::admin::{self, LogAdmin};
use crate::audit::{AuditError, AuditLog};
use crate::budget::ByteBudget;
use crate::config::{Config, Limits, ModelControlMode, RouteSettings};
use crate::data_plane::DataPlane;
use crate::engine::Engine;
use crate::engine::auto::AutoEngine;
use crate::grpc::{GrpcConfig, GrpcService};
use crate::health::Health;
use crate::http::{HttpLimits, HttpService};
use crate::outbound::{UploadError, Webhooks};
use crate::prediction_log::PredictionLog;
use crate::prediction_log::feedback::FeedbackLog;
use crate::prediction_log::open::OpenError;
use crate::registry::engine_cache::EngineCache;
use crate::registry::loader::LoaderConfig;
use crate::registry::manager::{self, ClientControl, ManagerConfig, ManagerHandle, ScannerConfig, StartError};
use crate::registry::probe::ProbeConfig;
use crate::rollout::RolloutHandle;
use crate::rollout::journal::Journal;
use crate::rollout::{self, controller};
use crate::routing::shadow::{self, ShadowJob, Shadows};
use crate::server::{self, ServerConfig, TimeLimits};
use crate::store::records::Records;
use crate::store::{MemoryStore, RedbStore, Store, StoreError};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::settings::WireSettings;
use crate::telemetry::{logging, recorder};

/// Serves until SIGTERM or SIGINT, then finishes what is in flight; a second signal ends it at once.
///
/// # Errors
/// `AppError`.
pub async fn run(config: Config) -> Result<(), AppError> {
    let mut signals = Signals::listen().map_err(AppError::Signals)?;
    let app = App::start(config).await?;
    let (first, second) = signals.split();
    app.run(first, second).await
}

/// A server whose sockets are bound and whose models are being loaded.
pub struct App {
    listeners: Listeners,
    plane: Arc<DataPlane>,
    manager: ManagerHandle,
    audit: Arc<AuditLog>,
    rollouts: RolloutHandle,
    metrics: PrometheusHandle,
    limits: Limits,
    pre_drain: Duration,
    drain_timeout: Duration,
    stop_manager: CancellationToken,
    copies: mpsc::Receiver<ShadowJob>,
    /// `None` without a data directory.
    log: Option<Running>,
    /// Heard when everything that rollouts know is written.
    rollouts_end: Option<oneshot::Receiver<()>>,
}

struct Listeners {
    http: TcpListener,
    grpc: TcpListener,
    admin: TcpListener,
    metrics: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, AppError> {
        Ok(Self {
            http: bind("http", config.http_address).await?,
            grpc: bind("grpc", config.grpc_address).await?,
            admin: bind("admin", config.admin_address).await?,
            metrics: match config.metrics_address {
                None => None,
                Some(address) => Some(bind("metrics", address).await?),
            },
        })
    }
}

/// Why a server does not start, or ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("the {listener} listener can't be bound to {address}: {cause}")]
    Bind { listener: &'static str, address: SocketAddr, cause: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the thread that delivers to webhooks can't be started: {0}")]
    Webhooks(std::io::Error),
    #[error("the rollout controller can't be started: {0}")]
    Rollouts(std::io::Error),
    #[error("the prediction log can't be started: {0}")]
    PredictionLog(std::io::Error),
    #[error("the prediction log can't be taken up: {0}")]
    OpenLog(#[from] OpenError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("the model manager can't be started: {0}")]
    Manager(#[from] StartError),
    #[error("the metrics recorder can't be started: {0}")]
    Metrics(std::io::Error),
    #[error("signals can't be received: {0}")]
    Signals(std::io::Error),
    #[error("stopped by a second signal: requests in flight were cut off")]
    Forced,
}

/// Files count as whole once they were unchanged for as long as this, or for one poll interval where that lies between
/// the two. A writer that pauses for longer needs a manifest.
const QUIET_MIN: Duration = Duration::from_millis(250);
const QUIET_MAX: Duration = Duration::from_secs(1);

/// What the last writes to the state may take at the end.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Tells this build's engine from another's: a file that one of them loaded may crash the other.
const ENGINE_BUILD: &str = concat!("headgate ", env!("CARGO_PKG_VERSION"));

impl App {
    /// Binds the sockets, opens the state, and begins to load models.
    ///
    /// # Errors
    /// `AppError`, saying which address, file or thread could not be had.
    pub async fn start(config: Config) -> Result<Self, AppError> {
        let metrics = recorder::install().map_err(AppError::Metrics)?;
        // First of all: a second process on the same directory must not take a port before it is refused.
        let store = open_store(&config)?;
        let records = Arc::new(Records::open(store.clone())?);
        let audit = Arc::new(AuditLog::open(config.data_dir.as_deref())?);
        let listeners = Listeners::bind(&config).await?;
        let (manager, commands) = ManagerHandle::channel();
        let (shadows, copies) = Shadows::channel();
        let log = match &config.data_dir {
            None => Log::off(config.prediction_log.is_some()),
            Some(data_dir) => {
                let log = config.prediction_log.clone().unwrap_or_default();
                Log::start(&log, data_dir, &records, store.clone())?
            }
        };
        let (running, to) = (log.running, (shadows, log.predictions, log.feedback));
        let plane = Arc::new(data_plane(&config, &records, &manager, to));
        if let Some(log) = &running {
            log.join(&plane)?;
        }
        let stop_manager = CancellationToken::new();
        let source = format!("/headgate/gateway/{}", records.gateway());
        let journal = Journal::open(store.clone());
        let webhooks = Webhooks::start(config.webhooks.clone(), store, source, stop_manager.clone());
        let webhooks = webhooks.map_err(AppError::Webhooks)?;
        let routes = named_routes(&config);
        let restored = controller::restore(&journal, &routes)?;
        let engine = open_engine(&config);
        let parts = manager::Parts {
            plane: plane.clone(),
            engine_cache: open_engine_cache(&config, &engine.build()),
            engine,
            records,
            splits: restored.plans(),
            routes: routes.clone(),
            rollout_fault: |spec| rollout::spec::read(spec).err().map(|fault| fault.to_string()),
        };
        manager::start(manager_config(&config), parts, commands, stop_manager.clone())?;
        let (rollouts, asked, readings) = RolloutHandle::channel();
        let parts = controller::Parts {
            plane: plane.clone(),
            manager: manager.clone(),
            journal,
            audit: audit.clone(),
            webhooks,
            readings,
            routes,
        };
        let rollouts_end =
            controller::start(parts, restored, asked, stop_manager.clone()).map_err(AppError::Rollouts)?;
        Ok(Self {
            listeners,
            plane,
            manager,
            audit,
            rollouts,
            metrics,
            limits: config.limits,
            pre_drain: config.pre_drain,
            drain_timeout: config.drain_timeout,
            stop_manager,
            copies,
            log: running,
            rollouts_end: Some(rollouts_end),
        })
    }

    /// Serves until `stop` resolves, then finishes what is in flight. When `force` resolves first, it returns at once.
    ///
    /// # Errors
    /// `Forced`.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        force: impl Future<Output = ()>,
    ) -> Result<(), AppError> {
        let drain = CancellationToken::new();
        let plane = self.plane.clone();
        let pre_drain = self.pre_drain;
        let (drain_when_told, stop_manager) = (drain.clone(), self.stop_manager.clone());
        let rollouts_end = self.rollouts_end.take();
        let log = self.log.take();
        let log_admin = log.as_ref().map_or_else(LogAdmin::off, |log| log.admin(&self.plane));
        let announce = async move {
            stop.await;
            tracing::info!("draining");
            server::announce(&plane.health, pre_drain, &drain_when_told).await;
        };
        let outcome = tokio::select! {
            _ = async { tokio::join!(announce, self.serve(drain, log_admin)) } => Ok(()),
            () = force => Err(AppError::Forced),
        };
        if let (Ok(()), Some(log)) = (&outcome, log) {
            log.end().await;
        }
        stop_manager.cancel();
        if let (Ok(()), Some(end)) = (&outcome, rollouts_end) {
            // Without this the next process would take the end for a crash.
            _ = tokio::time::timeout(WRITE_PATIENCE, end).await;
        }
        outcome
    }

    async fn serve(self, drain: CancellationToken, log: LogAdmin) {
        let Self { listeners, plane, manager, rollouts, audit, metrics, limits, drain_timeout, copies, .. } = self;
        // Admin and metrics answer until the data ports are done, so that a drain can be watched.
        let data_done = CancellationToken::new();
        let http = HttpService { plane: plane.clone(), limits: HttpLimits { body_timeout: limits.body_timeout } };
        let http = service_fn(move |request| {
            let http = http.clone();
            async move { Ok::<_, Infallible>(http.handle(request).await) }
        });
        let grpc_config = GrpcConfig { body_timeout: limits.body_timeout, ..GrpcConfig::default() };
        let grpc = GrpcService::new(plane.clone(), grpc_config, drain.clone());
        let data = async {
            let configure = |config| configure(config, &limits, drain_timeout);
            let (http, grpc) = tokio::join!(
                server::serve(listeners.http, http, configure(ServerConfig::http()), drain.clone()),
                server::serve(listeners.grpc, grpc, configure(ServerConfig::grpc()), drain.clone()),
            );
            data_done.cancel();
            if http.cut + grpc.cut > 0 {
                tracing::warn!(http = http.cut, grpc = grpc.cut, "connections were cut off at the end of the drain");
            }
        };
        let admin = admin::router(plane.clone(), manager, rollouts.clone(), metrics.clone(), (audit, log));
        let admin = TowerToHyperService::new(admin);
        let admin_config = ServerConfig { listener: "admin", ..configure(ServerConfig::http(), &limits, DRAIN_ADMIN) };
        let admin = server::serve(listeners.admin, admin, admin_config.clone(), data_done.clone());
        let metrics = async {
            if let Some(listener) = listeners.metrics {
                let router = TowerToHyperService::new(admin::metrics_router(plane, rollouts, metrics));
                let config = ServerConfig { listener: "metrics", ..admin_config };
                server::serve(listener, router, config, data_done.clone()).await;
            }
        };
        // Nobody waits for copies, so neither does the end.
        let copies = async {
            tokio::select! {
                () = shadow::run(copies) => {}
                () = data_done.cancelled() => {}
            }
        };
        tokio::join!(data, admin, metrics, copies);
    }
}

/// What the admin listener may still take once the data ports are done.
const DRAIN_ADMIN: Duration = Duration::from_millis(500);

fn configure(config: ServerConfig, limits: &Limits, drain_timeout: Duration) -> ServerConfig {
    ServerConfig {
        max_connections: limits.max_connections,
        times: TimeLimits {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            send: limits.send_timeout,
            ..config.times
        },
        drain_timeout,
        ..config
    }
}

async fn bind(listener: &'static str, address: SocketAddr) -> Result<TcpListener, AppError> {
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        tracing::info!(listener, %address, "listening");
        Ok(socket)
    };
    bound.await.map_err(|cause| AppError::Bind { listener, address, cause })
}

fn open_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    match &config.data_dir {
        Some(directory) => Ok(Arc::new(RedbStore::open(directory)?)),
        None => {
            tracing::warn!("no data directory (--data-dir): labels, quarantine and the like end with this process");
            Ok(Arc::new(MemoryStore::default()))
        }
    }
}

/// The engines that are there, which the log is told.
fn open_engine(config: &Config) -> Arc<dyn Engine> {
    let engine = AutoEngine::open(config.loading.onnxruntime_library.as_deref());
    match engine.onnxruntime_absent() {
        Some(absent) => tracing::info!(engines = engine.build(), "{absent}; tract serves what it can"),
        None => tracing::info!(engines = engine.build(), "each model runs where it runs fastest"),
    }
    Arc::new(engine)
}

/// Without it every start measures again; nothing else is lost.
fn open_engine_cache(config: &Config, engines: &str) -> Option<EngineCache> {
    let directory = config.data_dir.as_ref()?;
    let opened = EngineCache::open(directory, &format!("{ENGINE_BUILD}, {engines}"));
    opened.inspect_err(|cause| tracing::warn!(%cause, "measurements can't be kept for the next start")).ok()
}

/// Further names with the model and the label that they lead to.
fn named_routes(config: &Config) -> BTreeMap<String, (String, String)> {
    let named = |(name, route): (&String, &RouteSettings)| (name.clone(), (route.model.clone(), route.label.clone()));
    config.routes.iter().map(named).collect()
}

fn data_plane(
    config: &Config,
    records: &Records,
    manager: &ManagerHandle,
    (shadows, log, feedback): (Shadows, PredictionLog, FeedbackLog),
) -> DataPlane {
    let loopback = config.http_address.ip().is_loopback() && config.grpc_address.ip().is_loopback();
    let clients_may_load =
        config.model_control_mode == ModelControlMode::Explicit && (loopback || config.allow_repository_control);
    DataPlane {
        serving: ArcSwap::default(),
        served: watch::Sender::new(0),
        control: Arc::new(ClientControl::new(manager.clone(), clients_may_load)),
        shadows,
        log,
        health: Health::default(),
        budget: ByteBudget::new(config.limits.max_bytes_in_flight),
        access_log: AccessLog::new(config.access_log),
        feedback,
        settings: WireSettings::new(logging::apply),
        gateway_id: records.gateway(),
        server_name: config.server_name.clone(),
        max_body_bytes: config.limits.max_body_bytes,
        cold_start_timeout: config.residency.cold_start_timeout,
    }
}

fn manager_config(config: &Config) -> ManagerConfig {
    let polls = config.model_control_mode == ModelControlMode::Poll;
    ManagerConfig {
        mode: config.model_control_mode,
        scanner: ScannerConfig {
            roots: config.repositories.clone(),
            interval: polls.then_some(config.poll_interval),
            quiet: config.poll_interval.clamp(QUIET_MIN, QUIET_MAX),
        },
        loader: LoaderConfig {
            threads: config.loading.threads,
            probe: ProbeConfig {
                program: config.loading.probe_program.clone(),
                timeout: config.loading.timeout,
                memory_limit_bytes: config.loading.memory_limit_bytes,
                onnxruntime_library: config.loading.onnxruntime_library.clone(),
            },
            build: ENGINE_BUILD.to_owned(),
        },
        serving: config.serving,
        residency: config.residency,
    }
}

/// SIGTERM and SIGINT, counted.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    count: watch::Sender<u32>,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            count: watch::Sender::new(0),
        })
    }

    /// Futures of the first signal and of the second. The second one receives; both must be polled together.
    fn split(&mut self) -> (impl Future<Output = ()> + use<>, impl Future<Output = ()> + use<'_>) {
        let mut counted = self.count.subscribe();
        let first = async move { _ = counted.wait_for(|count| *count >= 1).await };
        let second = async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = self.terminate.recv() => {}
                    _ = self.interrupt.recv() => {}
                }
                self.count.send_modify(|count| *count += 1);
            }
        };
        (first, second)
    }
}
