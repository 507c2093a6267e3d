//! The child process in which a server tries an unknown model file.
//!
//! The file may ask for absurd memory, loop, or crash whoever reads it. So the process limits itself first, in ways that
//! it can't take back, and whatever it then says or doesn't say is the answer. It loads on a stack no larger than a server's
//! threads have, so that what would overflow there does so here.

use std::io::Write;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::failure::Failure;
use crate::engine::{LoadError, Model};
use crate::registry::probe_report::ProbeReport;

/// What the process may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpu_seconds: Option<u64>,
}

/// Files that may be open: the model, its external data, and what the process started with.
const MAX_OPEN_FILES: u64 = 256;
/// A thread's usual stack, less what a server's thread has on it when it loads or runs a model.
const STACK_BYTES: usize = (2 << 20) - (128 << 10);

/// Limits this process, loads the file and prints a [`ProbeReport`]. A refused file is no failure of this command.
///
/// # Errors
/// `Refused` when a limit can't be set or no thread started, `Output` when nobody reads.
pub fn run(
    limits: Limits,
    load: impl FnOnce() -> Result<Arc<dyn Model>, LoadError> + Send,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    limits.apply().map_err(|cause| Failure::Refused(format!("the process can't limit itself: {cause}")))?;
    let loaded = on_small_stack(load).map_err(|cause| Failure::Refused(format!("no thread to load on: {cause}")))?;
    let report = match loaded {
        Ok(_) => ProbeReport::Loaded,
        Err(error) => ProbeReport::from(&error),
    };
    serde_json::to_writer(&mut *out, &report).map_err(std::io::Error::from)?;
    Ok(writeln!(out)?)
}

fn on_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

impl Limits {
    fn apply(self) -> Result<(), Errno> {
        // A core file would hold the operator's model and fill the operator's disk.
        lower(Resource::Core, 0)?;
        lower(Resource::Nofile, MAX_OPEN_FILES)?;
        if let Some(seconds) = self.cpu_seconds {
            lower(Resource::Cpu, seconds)?;
        }
        match self.memory_bytes {
            None => Ok(()),
            Some(bytes) => lower(Resource::As, bytes),
        }
    }
}

/// Sets both limits of a resource, never above the one that is there.
fn lower(resource: Resource, limit: u64) -> Result<(), Errno> {
    let limit = getrlimit(resource).maximum.map_or(limit, |there| there.min(limit));
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}
