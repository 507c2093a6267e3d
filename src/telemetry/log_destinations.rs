//! Series of what the prediction log sends elsewhere: files uploaded, rows told as events.

use metrics::{counter, describe_counter, describe_gauge, gauge};

const UPLOADS: &str = "headgate_log_uploads_total";
const UPLOAD_BYTES: &str = "headgate_log_upload_bytes_total";
const UPLOADS_WAITING: &str = "headgate_log_uploads_waiting";
const EVENTS: &str = "headgate_log_events_total";
const EVENTS_WAITING: &str = "headgate_log_events_waiting";

/// Says once what each metric means.
pub fn describe() {
    describe_counter!(UPLOADS, "Attempts to upload a sealed log file, by outcome");
    describe_counter!(UPLOAD_BYTES, "Bytes of log files that were uploaded");
    describe_gauge!(UPLOADS_WAITING, "Sealed log files that are not uploaded yet");
    describe_counter!(EVENTS, "Events of logged rows, by outcome; failed attempts are counted beside it");
    describe_gauge!(EVENTS_WAITING, "Events of logged rows that wait for their receiver");
}

/// Counts an attempt to upload a file, `uploaded` or `failed` (to be tried again), and what was uploaded.
pub fn count_upload(outcome: &'static str, bytes: u64) {
    counter!(UPLOADS, "outcome" => outcome).increment(1);
    counter!(UPLOAD_BYTES).increment(bytes);
}

/// Sets how many sealed files are not uploaded yet.
pub fn set_uploads_waiting(files: usize) {
    gauge!(UPLOADS_WAITING).set(files as f64);
}

/// Counts events: `delivered`, `failed` (an attempt, to be made again), `given_up` or `dropped` (there was no room).
pub fn count_events(outcome: &'static str, events: u64) {
    counter!(EVENTS, "outcome" => outcome).increment(events);
}

/// Sets how many events wait.
pub fn set_events_waiting(events: usize) {
    gauge!(EVENTS_WAITING).set(events as f64);
}
