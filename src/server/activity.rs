//! What a connection is doing, and whether it has done so for too long.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::config::TimeLimits;

/// The bytes an HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is known of one connection; written by its socket, its requests and its answers.
#[derive(Debug)]
pub struct Activity(Mutex<State>);

#[derive(Debug, Clone)]
struct State {
    version: Version,
    in_flight: usize,
    /// Since when nothing is in flight.
    idle_since: Instant,
    /// Since when a head is under way.
    head_since: Option<Instant>,
    /// Answers that have bytes the peer hasn't taken.
    waiting_answers: usize,
    /// When an answer last got on.
    sent: Instant,
    /// When the socket last took bytes.
    wrote: Instant,
    /// Since when the socket takes no bytes, though there are some.
    blocked_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// So many bytes of the preface have come, and nothing else.
    Unknown(usize),
    Http1,
    Http2,
}

/// A limit that a connection has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Header,
    Idle,
    Send,
}

impl Limit {
    /// The limit's name on metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Idle => "idle",
            Self::Send => "send",
        }
    }
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    /// Tell the peer that the connection ends, so that a request just on its way isn't lost.
    Close(Limit),
    Cut(Limit),
    /// It was told to close, and has nothing left to do.
    Done,
}

impl Activity {
    pub fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            version: Version::Unknown(0),
            in_flight: 0,
            idle_since: now,
            head_since: None,
            waiting_answers: 0,
            sent: now,
            wrote: now,
            blocked_since: None,
        })))
    }

    /// What to do with the connection at `now`; `closing` is when it was told to close, if it was.
    pub fn verdict(&self, now: Instant, limits: &TimeLimits, closing: Option<Instant>) -> Verdict {
        self.lock().verdict(now, limits, closing)
    }

    /// Bytes came in.
    pub fn read(&self, bytes: &[u8], now: Instant) {
        let mut state = self.lock();
        state.version = state.version.after(bytes);
        match state.version {
            // Between two heads HTTP/2 has other frames, so there the idle limit alone bounds a head.
            Version::Http2 => state.head_since = None,
            _ if state.in_flight == 0 => state.head_since = state.head_since.or(Some(now)),
            _ => {}
        }
    }

    /// The socket took bytes.
    pub fn wrote(&self, now: Instant) {
        let mut state = self.lock();
        state.wrote = now;
        state.blocked_since = None;
    }

    /// The socket took no bytes.
    pub fn blocked(&self, now: Instant) {
        let mut state = self.lock();
        state.blocked_since = state.blocked_since.or(Some(now));
    }

    /// A request's head is whole; it is in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.head_since = None;
        drop(state);
        InFlight { activity: self.clone(), waiting: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn verdict(&self, now: Instant, limits: &TimeLimits, closing: Option<Instant>) -> Verdict {
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if self.head_since.is_some_and(|since| passed(since, limits.header)) {
            return Verdict::Cut(Limit::Header);
        }
        let stalled = self.waiting_answers > 0 && passed(self.sent, limits.send);
        if stalled || self.blocked_since.is_some_and(|since| passed(since, limits.send)) {
            return Verdict::Cut(Limit::Send);
        }
        match closing {
            _ if self.in_flight > 0 => Verdict::Keep,
            None if passed(self.idle_since, limits.idle) => Verdict::Close(Limit::Idle),
            // The last bytes of the last answer may still be on their way.
            Some(told) if passed(told.max(self.idle_since).max(self.wrote), limits.linger) => Verdict::Done,
            _ => Verdict::Keep,
        }
    }
}

impl Version {
    fn after(self, bytes: &[u8]) -> Self {
        let Self::Unknown(matched) = self else { return self };
        let expected = &PREFACE[matched..];
        let compared = expected.len().min(bytes.len());
        if bytes[..compared] != expected[..compared] {
            Self::Http1
        } else if compared == expected.len() {
            Self::Http2
        } else {
            Self::Unknown(matched + compared)
        }
    }
}

/// A request in flight: from the end of its head to the end of its answer.
#[derive(Debug)]
pub struct InFlight {
    activity: Arc<Activity>,
    /// Whether its answer has bytes that the peer hasn't taken.
    waiting: bool,
}

impl InFlight {
    /// The answer has bytes for the peer (`true`), or was asked for more (`false`): then they have been taken.
    pub fn set_waiting(&mut self, waiting: bool, now: Instant) {
        let mut state = self.activity.lock();
        if waiting != self.waiting {
            if waiting {
                state.waiting_answers += 1;
            } else {
                state.waiting_answers -= 1;
            }
        }
        state.sent = now;
        self.waiting = waiting;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.lock();
        state.in_flight -= 1;
        if self.waiting {
            state.waiting_answers -= 1;
        }
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: TimeLimits = TimeLimits {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        send: Duration::from_secs(30),
        linger: Duration::from_secs(1),
    };

    /// A connection's verdict `after` so many seconds, once `act` has happened at its start.
    fn verdict(after: u64, act: impl FnOnce(&Arc<Activity>, Instant)) -> Verdict {
        let now = Instant::now();
        let activity = Activity::new(now);
        act(&activity, now);
        activity.verdict(now + Duration::from_secs(after), &LIMITS, None)
    }

    #[test]
    fn a_silent_connection_is_closed_when_idle() {
        assert_eq!(verdict(74, |_, _| ()), Verdict::Keep);
        assert_eq!(verdict(75, |_, _| ()), Verdict::Close(Limit::Idle));
    }

    #[test]
    fn a_head_that_does_not_end_is_cut() {
        let half = |activity: &Arc<Activity>, now| activity.read(b"GET / HTTP/1.1\r\n", now);
        assert_eq!(verdict(9, half), Verdict::Keep);
        assert_eq!(verdict(10, half), Verdict::Cut(Limit::Header));
        assert_eq!(verdict(10, |activity, now| activity.read(&PREFACE[..9], now)), Verdict::Cut(Limit::Header));
    }

    #[test]
    fn slow_bytes_do_not_restart_the_head() {
        let dripping = |activity: &Arc<Activity>, now: Instant| {
            for second in 0..10 {
                activity.read(b"x", now + Duration::from_secs(second));
            }
        };
        assert_eq!(verdict(10, dripping), Verdict::Cut(Limit::Header));
    }

    #[test]
    fn http2_without_a_request_is_idle_whatever_frames_it_sends() {
        let frames = |activity: &Arc<Activity>, now| {
            activity.read(&PREFACE[..10], now);
            activity.read(&PREFACE[10..], now);
            activity.read(b"frames", now);
        };
        assert_eq!(verdict(74, frames), Verdict::Keep);
        assert_eq!(verdict(75, frames), Verdict::Close(Limit::Idle));
    }

    #[test]
    fn a_request_in_flight_is_never_idle() {
        let now = Instant::now();
        let activity = Activity::new(now);
        let request = activity.begin();
        assert_eq!(activity.verdict(now + Duration::from_secs(1000), &LIMITS, Some(now)), Verdict::Keep);
        drop(request);
        assert_eq!(activity.verdict(now + Duration::from_secs(1000), &LIMITS, None), Verdict::Close(Limit::Idle));
    }

    #[test]
    fn an_answer_that_is_not_taken_cuts_the_connection() {
        let now = Instant::now();
        let activity = Activity::new(now);
        let mut answer = activity.begin();
        answer.set_waiting(true, now);
        let at = |seconds| activity.verdict(now + Duration::from_secs(seconds), &LIMITS, None);
        assert_eq!((at(29), at(30)), (Verdict::Keep, Verdict::Cut(Limit::Send)));
        answer.set_waiting(false, now);
        assert_eq!(at(1000), Verdict::Keep);
        activity.blocked(now);
        assert_eq!(at(30), Verdict::Cut(Limit::Send));
        activity.wrote(now);
        assert_eq!(at(30), Verdict::Keep);
    }

    #[test]
    fn a_closing_connection_is_done_once_it_is_quiet() {
        let now = Instant::now();
        let activity = Activity::new(now);
        let wrote = now + Duration::from_millis(500);
        activity.wrote(wrote);
        let at = |ms| activity.verdict(now + Duration::from_millis(ms), &LIMITS, Some(now));
        assert_eq!((at(1499), at(1500)), (Verdict::Keep, Verdict::Done));
    }
}
