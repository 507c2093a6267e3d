//! Processor time, as the kernel counts it.

use std::fs;

/// The kernel counts a process's time in hundredths of a second.
const TICKS_PER_S: f64 = 100.0;

/// Seconds that a process and its threads have run, in user and kernel mode; 0 when there is no such process.
pub fn process_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces. After it: state is field 3, utime 14, stime 15.
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_S
}

/// Seconds that this thread has run.
pub fn thread_s() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// What several processes and this one have run so far.
pub struct Reading {
    server_s: f64,
    own_s: f64,
}

impl Reading {
    pub fn now(server: &[u32]) -> Self {
        Self { server_s: server.iter().map(|pid| process_s(*pid)).sum(), own_s: process_s(std::process::id()) }
    }

    /// Seconds of the server and of this process since then.
    pub fn since(&self, server: &[u32]) -> (f64, f64) {
        let now = Self::now(server);
        (now.server_s - self.server_s, now.own_s - self.own_s)
    }
}
