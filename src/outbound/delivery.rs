//! The loop that takes events from the outbox to their receivers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::CONTENT_TYPE;
use reqwest::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::config::WebhookConfig;
use super::outbox::{self, OutboxRow};
use super::retry_policy::RetryPolicy;
use super::{client, event, signature};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics;

/// Wait after the state could not be read or written.
const STATE_RETRY: Duration = Duration::from_secs(10);

/// What delivery works with.
pub struct Delivery {
    pub store: Arc<dyn Store>,
    pub policy: RetryPolicy,
    /// Unix time in ms.
    pub now: fn() -> u64,
    /// Changes when there are new rows.
    pub news: watch::Sender<()>,
}

/// An event that was refused: how often, and when it is tried again.
struct Refused {
    times: u32,
    next: Instant,
}

impl Delivery {
    /// Takes away what waits for receivers that are no longer configured.
    pub fn forget_others(&self, urls: &[String]) {
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        match outbox::forget_others(&*self.store, &urls) {
            Ok(0) => {}
            Ok(rows) => {
                metrics::count_webhooks("dropped", rows as u64);
                tracing::warn!(rows, "events for webhooks that are no longer configured were dropped");
            }
            Err(error) => tracing::error!(%error, "the outbox of webhooks can't be cleaned"),
        }
    }

    /// Delivers to each receiver by itself, for ever.
    pub async fn run(self, receivers: Vec<(WebhookConfig, Client)>) {
        join_all(receivers.iter().map(|(webhook, client)| self.serve(webhook, client))).await;
    }

    async fn serve(&self, webhook: &WebhookConfig, client: &Client) {
        let mut news = self.news.subscribe();
        let mut refused = HashMap::new();
        loop {
            news.borrow_and_update();
            let next = match self.pass(webhook, client, &mut refused).await {
                Ok(()) => refused.values().map(|refused: &Refused| refused.next).min(),
                Err(error) => {
                    tracing::error!(%error, "the outbox of webhooks can't be read or written");
                    Some(Instant::now() + STATE_RETRY)
                }
            };
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                _ = news.changed() => {}
            }
        }
    }

    /// Tries every event once that is due, oldest first.
    async fn pass(
        &self,
        webhook: &WebhookConfig,
        client: &Client,
        refused: &mut HashMap<String, Refused>,
    ) -> Result<(), StoreError> {
        let rows = outbox::waiting_for(&*self.store, &webhook.url.to_string())?;
        let waiting: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        refused.retain(|id, _| waiting.contains(id.as_str()));
        metrics::set_webhook_outbox(outbox::count(&*self.store)?);
        for row in &rows {
            let times = match refused.get(&row.id) {
                Some(before) if before.next > Instant::now() => continue,
                before => before.map_or(0, |before| before.times),
            };
            let outcome = match self.attempt(webhook, client, row).await {
                Ok(()) => "delivered",
                Err(cause) => {
                    let age = Duration::from_millis((self.now)().saturating_sub(row.created_ms));
                    let wait = self.policy.wait(times + 1, age, fastrand::u32(..));
                    note_refused(webhook, row, &cause, wait);
                    match wait {
                        Some(wait) => {
                            metrics::count_webhooks("failed", 1);
                            refused.insert(row.id.clone(), Refused { times: times + 1, next: Instant::now() + wait });
                            continue;
                        }
                        None => "given_up",
                    }
                }
            };
            metrics::count_webhooks(outcome, 1);
            outbox::remove(&*self.store, row)?;
            refused.remove(&row.id);
        }
        metrics::set_webhook_outbox(outbox::count(&*self.store)?);
        Ok(())
    }

    /// Sends one event once. Any status of success is success; a redirect is not followed.
    async fn attempt(&self, webhook: &WebhookConfig, client: &Client, row: &OutboxRow) -> Result<(), String> {
        let body = row.event.to_string();
        let timestamp_s = (self.now)() / 1000;
        let request = client
            .post(webhook.url.to_string())
            .timeout(webhook.timeout)
            .header(CONTENT_TYPE, event::CONTENT_TYPE)
            .header("webhook-id", &row.id)
            .header("webhook-timestamp", timestamp_s)
            .header("webhook-signature", signature::sign(&webhook.key, &row.id, timestamp_s, body.as_bytes()))
            .body(body);
        client::taken(request.send().await).await
    }
}

fn note_refused(webhook: &WebhookConfig, row: &OutboxRow, cause: &str, wait: Option<Duration>) {
    // The path may hold a token.
    let (receiver, id) = (webhook.url.authority().map_or("", |authority| authority.as_str()), row.id.as_str());
    match wait {
        Some(wait) => tracing::warn!(receiver, id, cause, retry_in_s = wait.as_secs_f64(), "a webhook was not taken"),
        None => tracing::error!(receiver, id, cause, "a webhook was given up: its receiver did not take it in time"),
    }
}
