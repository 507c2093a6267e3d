//! Events in the form of CloudEvents 1.0, structured JSON.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

/// The type of the event of a rollout's transition.
pub const ROLLOUT_TRANSITION: &str = "io.headgate.rollout.transition.v1";
/// The media type of an event's bytes.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as [`ROLLOUT_TRANSITION`].
    pub kind: &'static str,
    /// What it is about within the source, such as a rollout's id.
    pub subject: String,
    /// Unix time in ms at which it happened.
    pub at_ms: u64,
    pub data: Value,
}

impl Event {
    /// The event as it is sent. `id` tells it from every other of the source.
    pub fn to_json(&self, id: &str, source: &str) -> Value {
        // Beyond the year 9999 there is no text for a time.
        const LAST_MS: u64 = 253_402_300_799_999;
        let at = UNIX_EPOCH + Duration::from_millis(self.at_ms.min(LAST_MS));
        json!({
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": self.kind,
            "subject": self.subject,
            "time": humantime::format_rfc3339_millis(at).to_string(),
            "datacontenttype": "application/json",
            "data": self.data,
        })
    }
}
