//! The manager: the one task that decides what is loaded, and publishes what is served.
//!
//! Everything that happens reaches it as an event: a look at the repositories, a load that ended, a version that has
//! drained, a command. It holds the state of every model, asks the pure policy what follows, and acts.

mod actor;
mod alarms;
mod backend;
mod cold;
mod handle;
mod loads;
mod measuring;
mod model;
mod pending;
mod publication;
mod scanner;
mod traffic;
#[cfg(test)]
mod tests;

pub use actor::{ManagerConfig, Parts, StartError, start};
pub use handle::{ClientControl, Command, ManagerHandle, Reply};
pub use scanner::ScannerConfig;
