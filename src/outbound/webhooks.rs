//! The way to the receivers, for those who have something to tell.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::client;
use super::config::WebhookConfig;
use super::delivery::Delivery;
use super::event::Event;
use super::outbox::OutboxRow;
use super::retry_policy::RetryPolicy;
use crate::store::Store;

/// A handle to the delivery of events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    urls: Vec<String>,
    source: String,
    news: watch::Sender<()>,
}

impl Webhooks {
    /// Starts the thread that delivers, until `stop`; rows of an earlier process are delivered too. `source` names this
    /// gateway in its events. Without a configured receiver nothing is started.
    ///
    /// # Errors
    /// The operating system's, when the thread can't be started, and what keeps TLS from working for a receiver over https.
    pub fn start(
        config: Vec<WebhookConfig>,
        store: Arc<dyn Store>,
        source: String,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        Self::start_with(config, store, source, RetryPolicy::default(), stop)
    }

    /// The same at another pace.
    ///
    /// # Errors
    /// As [`Webhooks::start`].
    pub fn start_with(
        config: Vec<WebhookConfig>,
        store: Arc<dyn Store>,
        source: String,
        policy: RetryPolicy,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let urls = config.iter().map(|webhook| webhook.url.to_string()).collect();
        let news = watch::Sender::new(());
        let shared = Arc::new(Shared { urls, source, news: news.clone() });
        let delivery = Delivery { store, policy, now: now_ms, news };
        delivery.forget_others(&shared.urls);
        if !config.is_empty() {
            let receivers: io::Result<Vec<_>> = config
                .into_iter()
                .map(|webhook| client::client(&webhook.url).map(|client| (webhook, client)))
                .collect();
            let receivers = receivers?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = delivery.run(receivers) => {}
                        () = stop.cancelled() => {}
                    }
                });
            };
            thread::Builder::new().name("webhooks".to_owned()).spawn(run)?;
        }
        Ok(Self { shared })
    }

    /// The rows that tell every receiver of the event. To be committed with what the event tells of; then
    /// [`Webhooks::wake`] sends them.
    pub fn rows(&self, event: &Event) -> Vec<OutboxRow> {
        if self.shared.urls.is_empty() {
            return vec![];
        }
        let id =
            format!("msg_{}", uuid::Builder::from_random_bytes(fastrand::u128(..).to_le_bytes()).into_uuid().simple());
        let content = event.to_json(&id, &self.shared.source);
        let row = |url: &String| OutboxRow {
            id: id.clone(),
            url: url.clone(),
            created_ms: event.at_ms,
            event: content.clone(),
        };
        self.shared.urls.iter().map(row).collect()
    }

    /// Says that there are new rows. Never blocks.
    pub fn wake(&self) {
        self.shared.news.send_replace(());
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
