//! The composition root: from a configuration to bound sockets, and from there to the end of the process.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::budget::ByteBudget;
use crate::config::{Config, ModelControlMode};
use crate::data_plane::DataPlane;
use crate::engine::tract::TractEngine;
use crate::grpc::GrpcService;
use crate::health::{Health, Phase};
use crate::http::{HttpLimits, HttpService};
use crate::registry::loader::LoaderConfig;
use crate::registry::manager::{self, ClientControl, ManagerConfig, ManagerHandle, ScannerConfig};
use crate::registry::probe::ProbeConfig;
use crate::server::{self, ServerConfig};
use crate::store::records::Records;
use crate::store::{StoreError, memory::MemoryStore, redb::RedbStore};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::settings::WireSettings;
use crate::telemetry::{logging, metrics, recorder};
use crate::{admin, store};

/// A server whose sockets are bound and whose models are being loaded.
pub struct App {
    config: Config,
    listeners: Listeners,
    plane: Arc<DataPlane>,
    manager: ManagerHandle,
    metrics: recorder::MetricsHandle,
    /// Ends the manager.
    stop_manager: CancellationToken,
}

struct Listeners {
    http: TcpListener,
    grpc: TcpListener,
    admin: TcpListener,
    metrics: Option<TcpListener>,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
}

/// Why a server does not start, or ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("the {listener} listener can't be bound to {address}: {cause}")]
    Bind { listener: &'static str, address: SocketAddr, cause: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
    #[error("stopped by a second signal, requests in flight were cut off")]
    Forced,
}
