//! Who is sent to which arm: the settings of it.

use super::arm::Arm;

/// How a split route's requests are divided. The first unit that a request has decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub units: Vec<Unit>,
    /// Looked at before the units, in order; a request that one of them matches is left out of the statistics.
    pub force: Vec<ForceRule>,
    /// Of the hash; one for each rollout, the same in all of its steps.
    pub salt: u64,
}

/// What is kept together on one arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Requests with the same value of this header (gRPC: metadata); the name in lower case.
    Header(String),
    /// Requests with the same value of this request parameter of the Open Inference Protocol.
    Param(String),
    /// Nothing: each request at random.
    Request,
}

/// Sends what matches to one arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForceRule {
    /// Header or metadata name, in lower case.
    pub header: String,
    pub matches: Match,
    pub arm: Arm,
}

/// What a header's value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    Exact(String),
    Prefix(String),
    Present,
}
