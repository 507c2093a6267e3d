//! OUTBOUND: what is sent to others. Webhooks get events as CloudEvents, signed as Standard Webhooks specify.
//!
//! An event becomes rows of the outbox ([`Webhooks::rows`]), written in the same commit as what it tells of, and stays
//! there until its receiver took it: at least once, in any order, with the same `webhook-id` each time.

mod client;
pub mod config;
mod delivery;
pub mod event;
pub mod outbox;
mod retry_policy;
mod signature;
pub mod row_events;
mod tls;
pub mod upload;
mod webhooks;

pub use config::{WebhookConfig, WebhookError, WebhookSettings};
pub use event::{Event, ROLLOUT_TRANSITION};
pub use outbox::OutboxRow;
pub use retry_policy::RetryPolicy;
pub use row_events::RowEvents;
pub use upload::{UploadError, Uploads};
pub use webhooks::Webhooks;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
