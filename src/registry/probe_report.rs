//! What the child that tries an unknown file says to the server, as one line of JSON on its standard output.

use serde::{Deserialize, Serialize};

/// `{"ok":true}`, or why the file can't be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub ok: bool,
    /// Which kind of `LoadError` it is; empty when `ok`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What an operator reads; empty when `ok`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}
