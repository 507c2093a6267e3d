//! What the writer does in one turn. It is told the time, so that a test can let an hour pass.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::WriterParts;
use super::version::{MAX_BATCH_ROWS, OpenVersion, Outcome};
use crate::prediction_log::columns::{RowContext, VersionLog};
use crate::prediction_log::disk_policy::{Room, next_room};
use crate::prediction_log::entry::{Entry, NotSynced};
use crate::prediction_log::known::Known;
use crate::prediction_log::ring::Entries;
use crate::prediction_log::stream::{is_due, unix_us};
use crate::prediction_log::table::Table;

/// Most entries that are taken in one turn, before anything else is looked at.
const TURN_ENTRIES: usize = 1024;
/// Bytes of rows in memory, over all versions, at which all are written.
const MAX_PENDING_BYTES: usize = 64 << 20;
/// Time between two looks at how full the disk is.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks for rows that are too old.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// What the writer does, for metrics and people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriterStats {
    /// Segments that are being appended to.
    pub open_segments: usize,
    /// Bytes of rows that are only in memory.
    pub pending_bytes: usize,
    /// Rows that took a number: written, dropped for the disk, or about to be written.
    pub numbered_rows: u64,
    pub room: Room,
    /// Share of the file system in use, 0 to 1; `None` before the first look.
    pub disk_share: Option<f64>,
    /// Of the disk, since the process began.
    pub errors: u64,
    pub last_error: Option<String>,
}

/// The writer without its thread.
pub struct Core {
    parts: WriterParts,
    entries: Entries,
    /// By the address of their `VersionLog`, which they keep alive: another load of a version has other columns.
    open: HashMap<usize, OpenVersion>,
    turns: u64,
    numbered: u64,
    room: Room,
    room_seen: Option<SystemTime>,
    flushed: SystemTime,
    /// Rows of before are all written; no later row is of before.
    known_until: SystemTime,
    known: Known,
    synced: SystemTime,
    expired: SystemTime,
    is_behind: bool,
    stats: Arc<Mutex<WriterStats>>,
}

impl Core {
    pub fn new(parts: WriterParts, entries: Entries, now: SystemTime) -> Self {
        let known = Known::begin(&parts.wal.data_dir, Table::Predictions, unix_us(now));
        Self {
            parts,
            entries,
            open: HashMap::new(),
            turns: 0,
            numbered: 0,
            room: Room::Everything,
            room_seen: None,
            flushed: now,
            known_until: now,
            known,
            synced: now,
            // The first look comes at once: a process may never live for an interval.
            expired: SystemTime::UNIX_EPOCH,
            is_behind: false,
            stats: Arc::default(),
        }
    }

    pub fn stats(&self) -> Arc<Mutex<WriterStats>> {
        self.stats.clone()
    }

    /// Where ended segments go.
    #[cfg(test)]
    pub fn sealer(&self) -> &crate::prediction_log::seal::Sealer {
        &self.parts.sealer
    }

    /// Takes what waits in the ring and writes what is due. Says whether there was anything in the ring.
    pub fn turn(&mut self, now: SystemTime) -> bool {
        self.turns += 1;
        self.look_at_room(now);
        let mut taken = 0;
        while taken < TURN_ENTRIES
            && let Some(mut entry) = self.entries.next()
        {
            taken += 1;
            // It ended while the moment was told before which all is written, and came after it.
            entry.ended = entry.ended.max(self.known_until.min(now));
            for witness in &mut self.parts.witnesses {
                witness.see(&entry);
            }
            self.push(entry, now);
        }
        self.commit(now);
        // Rows stay in memory for half of the interval at most, so that they are synced when they are as old as it.
        let interval = self.parts.wal.limits.sync_interval;
        if is_due(self.flushed, now, interval / 2) {
            self.flush_all(now, is_due(self.synced, now, interval));
            if taken < TURN_ENTRIES {
                // Whatever had come by now is written, or never will be.
                self.known_until = now;
                self.known.tell(unix_us(now));
            }
        }
        if is_due(self.expired, now, RETENTION_INTERVAL) {
            self.expire(now);
        }
        self.is_behind = taken == TURN_ENTRIES;
        taken > 0
    }

    /// Whether the last turn left something in the ring. Where it did not, the next can wait: a turn an entry would keep a
    /// core busy with little else than turns.
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Ends all segments.
    pub fn close_all(&mut self, now: SystemTime) {
        let mut outcome = Outcome::default();
        for (_, mut version) in self.open.drain() {
            outcome.add(version.flush(&self.parts.wal, &mut self.parts.rows_witnesses, now));
            outcome.add(version.sync(now, true));
            outcome.add(version.close(now));
        }
        self.tell(outcome);
        self.show();
    }

    /// Takes all that is in the ring, until `deadline` at most, and ends all segments.
    pub fn drain(&mut self, now: impl Fn() -> SystemTime, deadline: Instant) {
        while self.turn(now()) && Instant::now() < deadline {}
        self.close_all(now());
    }

    /// Adds an entry's rows to its version's. Rows are numbered by how many were written or dropped before them, so that
    /// those that are missing show as a gap.
    fn push(&mut self, mut entry: Box<Entry>, now: SystemTime) {
        if self.room == Room::Nothing {
            let rows = entry.rows as u64;
            entry.version.counts.dropped_disk.fetch_add(rows, Relaxed);
            self.numbered += rows;
            entry.synced.take().into_iter().for_each(|synced| _ = synced.send(Err(NotSynced::NoRoom)));
            return;
        }
        let key = self.open_version(&entry.version, now);
        let Some(version) = self.open.get_mut(&key) else { return };
        version.last_used = self.turns;
        entry.synced.take().into_iter().for_each(|synced| version.wait(synced));
        let mut outcome = Outcome::default();
        let mut start = 0;
        while start < entry.rows {
            let rows = start..entry.rows.min(start + MAX_BATCH_ROWS);
            start = rows.end;
            let context = RowContext {
                gateway: self.parts.gateway,
                incarnation: self.parts.wal.incarnation,
                first_seq: self.numbered + self.entries.dropped_rows(),
                payload: self.room == Room::Everything,
                hmac_key: &self.parts.hmac_key,
            };
            self.numbered += version.push(&entry, rows, &context);
            if version.is_full() {
                outcome.add(version.flush(&self.parts.wal, &mut self.parts.rows_witnesses, now));
            }
        }
        self.tell(outcome);
    }

    /// Sees to it that a version's rows can be collected.
    fn open_version(&mut self, log: &Arc<VersionLog>, now: SystemTime) -> usize {
        let key = Arc::as_ptr(log).addr();
        if self.open.contains_key(&key) {
            return key;
        }
        if self.open.len() >= self.parts.max_open_segments.max(1) {
            let oldest = self.open.iter().min_by_key(|(_, version)| version.last_used).map(|(key, _)| *key);
            if let Some(mut version) = oldest.and_then(|key| self.open.remove(&key)) {
                let mut outcome = version.flush(&self.parts.wal, &mut self.parts.rows_witnesses, now);
                outcome.add(version.sync(now, true));
                outcome.add(version.close(now));
                self.tell(outcome);
            }
        }
        if self.parts.retention.tell(&log.model, log.settings.retain) {
            self.expired = SystemTime::UNIX_EPOCH;
        }
        self.open.insert(key, OpenVersion::new(log.clone()));
        key
    }

    /// Writes and syncs what somebody waits for, all entries of this turn at once; and everything, if it is much.
    fn commit(&mut self, now: SystemTime) {
        let mut outcome = Outcome::default();
        let mut pending_bytes = 0;
        for version in self.open.values_mut() {
            if version.is_waited_for() {
                outcome.add(version.flush(&self.parts.wal, &mut self.parts.rows_witnesses, now));
                outcome.add(version.sync(now, false));
            }
            pending_bytes += version.bytes();
        }
        self.tell(outcome);
        if pending_bytes >= MAX_PENDING_BYTES {
            self.flush_all(now, false);
        }
    }

    fn flush_all(&mut self, now: SystemTime, is_sync_due: bool) {
        self.flushed = now;
        let mut outcome = Outcome::default();
        for version in self.open.values_mut() {
            outcome.add(version.flush(&self.parts.wal, &mut self.parts.rows_witnesses, now));
            outcome.add(version.sync(now, is_sync_due));
            if version.seal_due(now) {
                outcome.add(version.close(now));
            }
        }
        if is_sync_due {
            self.synced = now;
        }
        self.open.retain(|_, version| !version.is_empty());
        self.tell(outcome);
        self.show();
    }

    /// Hands ended segments over, and keeps what went wrong.
    fn tell(&mut self, outcome: Outcome) {
        for segment in outcome.closed {
            self.parts.sealer.seal(segment);
        }
        if let Some(cause) = outcome.error {
            let (error, rows) = (cause.to_string(), outcome.dropped);
            tracing::warn!(error, rows, "the disk does not take rows of the log");
            // A full disk shows itself sooner than by its next look.
            self.room_seen = None;
            let mut stats = self.stats_mut();
            stats.errors += 1;
            stats.last_error = Some(error);
        }
    }

    fn look_at_room(&mut self, now: SystemTime) {
        if self.room_seen.is_some_and(|seen| !is_due(seen, now, ROOM_INTERVAL)) {
            return;
        }
        self.room_seen = Some(now);
        // A disk that does not say how full it is gets the rows; it refuses them itself.
        let Ok(usage) = self.parts.wal.disk.usage(&self.parts.wal.data_dir) else { return };
        let (before, share) = (self.room, usage.share());
        self.room = next_room(before, share, self.parts.disk_share);
        if self.room != before {
            let percent = (share * 100.0).round();
            tracing::warn!(percent, room = ?self.room, "the disk's use changes what the prediction log writes");
        }
        self.stats_mut().disk_share = Some(share);
    }

    fn expire(&mut self, now: SystemTime) {
        self.expired = now;
        let (retention, wal) = (self.parts.retention.clone(), self.parts.wal.clone());
        self.parts.sealer.chore(Box::new(move || {
            retention.expire(&wal.data_dir, &*wal.disk, now);
        }));
    }

    fn show(&self) {
        let mut stats = self.stats_mut();
        stats.open_segments = self.open.values().filter(|version| version.has_segment()).count();
        stats.pending_bytes = self.open.values().map(OpenVersion::bytes).sum();
        stats.numbered_rows = self.numbered;
        stats.room = self.room;
    }

    fn stats_mut(&self) -> MutexGuard<'_, WriterStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
