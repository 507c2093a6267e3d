//! Every metric's name, and the text of `/metrics`.
//!
//! Two sources make the text: series of the process, kept by the `metrics` recorder, and series of a version, read from
//! the version's own counters. The labels of the first come from fixed sets; the second end with their version.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::error::Kind;
use crate::inference::Protocol;

const REQUESTS: &str = "headgate_requests_total";
const CONNECTIONS: &str = "headgate_connections";
const CONNECTIONS_REFUSED: &str = "headgate_connections_refused_total";
const CONNECTIONS_CUT: &str = "headgate_connections_cut_total";
const BODY_BYTES: &str = "headgate_request_bytes_in_flight";
const BODY_BYTES_LIMIT: &str = "headgate_request_bytes_in_flight_limit";
const LOADS: &str = "headgate_model_loads_total";
const VERSIONS: &str = "headgate_versions";
const COLD_STARTS: &str = "headgate_cold_starts_total";
const COLD_START_SECONDS: &str = "headgate_cold_start_seconds";
const MEMORY_LIMIT: &str = "headgate_model_memory_limit_bytes";
const AUDIT_ENTRIES: &str = "headgate_audit_entries_total";
const WEBHOOKS: &str = "headgate_webhooks_total";
const WEBHOOK_OUTBOX: &str = "headgate_webhook_outbox";
const FEEDBACK: &str = "headgate_feedback_total";
const ROLLOUTS_ENDED: &str = "headgate_rollouts_ended_total";

/// Says once what each metric means.
pub fn describe() {
    super::log_destinations::describe();
    describe_counter!(REQUESTS, "Inference requests by protocol and outcome");
    describe_gauge!(CONNECTIONS, "Open connections by listener");
    describe_counter!(CONNECTIONS_REFUSED, "Connections closed at once because the limit was reached, by listener");
    describe_counter!(CONNECTIONS_CUT, "Connections cut off by a time limit, by listener and limit");
    describe_gauge!(BODY_BYTES, "Bytes of request bodies in memory");
    describe_gauge!(BODY_BYTES_LIMIT, "Most bytes of request bodies that may be in memory");
    describe_counter!(LOADS, "Attempts to load a version, by outcome");
    describe_gauge!(VERSIONS, "Versions by state");
    describe_counter!(COLD_STARTS, "Loads of cold versions, by outcome");
    describe_histogram!(COLD_START_SECONDS, "Time from the first request for a cold version until it is ready");
    describe_counter!(ROLLOUTS_ENDED, "Rollouts that ended, by outcome and cause");
    describe_gauge!(MEMORY_LIMIT, "Memory that loaded versions may take before those not in use are let go");
    describe_counter!(AUDIT_ENTRIES, "Entries added to the audit log");
    describe_counter!(WEBHOOKS, "Attempts to deliver an event, and events that were lost, by outcome");
    describe_gauge!(WEBHOOK_OUTBOX, "Events that wait for their receivers");
    describe_counter!(FEEDBACK, "Items of feedback by outcome");
}

/// Counts an inference request; `None` is success.
pub fn count_request(protocol: Protocol, error: Option<Kind>) {
    counter!(REQUESTS, "protocol" => protocol.name(), "outcome" => error.map_or("ok", Kind::label)).increment(1);
}

/// Sets the number of open connections of a listener.
pub fn set_connections(listener: &'static str, open: usize) {
    gauge!(CONNECTIONS, "listener" => listener).set(open as f64);
}

/// Counts a connection that was refused because too many were open.
pub fn count_refused_connection(listener: &'static str) {
    counter!(CONNECTIONS_REFUSED, "listener" => listener).increment(1);
}

/// Counts a connection that a time limit cut off.
pub fn count_cut_connection(listener: &'static str, limit: &'static str) {
    counter!(CONNECTIONS_CUT, "listener" => listener, "limit" => limit).increment(1);
}

/// Sets the bytes of request bodies in memory, and their limit.
pub fn set_body_bytes(in_use: u64, limit: u64) {
    gauge!(BODY_BYTES).set(in_use as f64);
    gauge!(BODY_BYTES_LIMIT).set(limit as f64);
}

/// Counts an attempt to load a version: `ready`, `failed` or `rejected`.
pub fn count_load(outcome: &'static str) {
    counter!(LOADS, "outcome" => outcome).increment(1);
}

/// Counts a load of a cold version that ended: `ready`, `failed` or `rejected`. Only one that made it has a duration.
pub fn count_cold_start(outcome: &'static str, duration: Duration) {
    counter!(COLD_STARTS, "outcome" => outcome).increment(1);
    if outcome == "ready" {
        histogram!(COLD_START_SECONDS).record(duration.as_secs_f64());
    }
}

/// Sets the memory that loaded versions may take.
pub fn set_memory_limit(bytes: u64) {
    gauge!(MEMORY_LIMIT).set(bytes as f64);
}

/// Sets how many versions are in a state.
pub fn set_versions(state: &'static str, count: usize) {
    gauge!(VERSIONS, "state" => state).set(count as f64);
}

/// Counts an entry of the audit log.
pub fn count_audit_entry() {
    counter!(AUDIT_ENTRIES).increment(1);
}

/// Counts deliveries: `delivered`, `failed` (to be tried again), `given_up` or `dropped`.
pub fn count_webhooks(outcome: &'static str, count: u64) {
    counter!(WEBHOOKS, "outcome" => outcome).increment(count);
}

/// Sets how many events wait for their receivers.
pub fn set_webhook_outbox(waiting: usize) {
    gauge!(WEBHOOK_OUTBOX).set(waiting as f64);
}

/// Counts items of feedback: `accepted` (kept, and credited to who answered), `unknown` (kept, and nobody here answered),
/// `duplicate` (told before in the same words) or `refused` (at fault, or there was no room).
pub fn count_feedback(outcome: &'static str, items: u64) {
    counter!(FEEDBACK, "outcome" => outcome).increment(items);
}

/// How a rollout can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutOutcome {
    Completed,
    RolledBack,
    Rejected,
    Aborted,
}

/// What made a rollout end: the fixed set that labels may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutCause {
    /// Every step was passed.
    Evidence,
    /// A check's verdict was fail.
    Check,
    /// An absolute limit was broken.
    Guard,
    /// A panic, or too many answers that were not finite.
    Breaker,
    /// The router's shares were not those of the weights.
    SampleRatio,
    /// No verdict in time.
    Inconclusive,
    /// The process ended uncleanly within a step.
    UncleanExit,
    /// The candidate is not fit to be tried.
    Validation,
    /// An operator's word.
    Operator,
    /// Anything else, such as a version that could not be loaded.
    Failure,
}

impl RolloutOutcome {
    /// The value of the `outcome` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Rejected => "rejected",
            Self::Aborted => "aborted",
        }
    }
}

impl RolloutCause {
    /// The value of the `cause` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Check => "check",
            Self::Guard => "guard",
            Self::Breaker => "breaker",
            Self::SampleRatio => "sample_ratio",
            Self::Inconclusive => "inconclusive",
            Self::UncleanExit => "unclean_exit",
            Self::Validation => "validation",
            Self::Operator => "operator",
            Self::Failure => "failure",
        }
    }
}

/// Counts a rollout that ended.
pub fn count_rollout_ended(outcome: RolloutOutcome, cause: RolloutCause) {
    counter!(ROLLOUTS_ENDED, "outcome" => outcome.label(), "cause" => cause.label()).increment(1);
}
