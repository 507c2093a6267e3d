//! What rollouts leave in the state: each rollout, its transitions, its last figures, and who served a route when.
//!
//! Everything here blocks as the store does. Keys sort by route, then by number or time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::view::{RouteRow, TransitionView};
use crate::outbound::{OutboxRow, outbox};
use crate::store::rows::{bad_row, put, read, read_all};
use crate::store::{Store, StoreError, Table, Write};

/// Ended rollouts that are kept with their journals; of a route the latest is always kept.
pub const MAX_ENDED: usize = 1000;
/// Changes of one route's serving that are kept.
pub const MAX_ROUTE_ROWS: usize = 10_000;

/// Bytes of one part of a rollout's figures. As JSON text it grows by what is escaped, to less than a row may have.
const PART_BYTES: usize = 400_000;
const RUNNING_KEY: &str = "running";
/// A route's name can't hold it, so that it separates the parts of a key.
const SEPARATOR: char = '/';

/// One row of a rollout's journal.
pub type TransitionRow = TransitionView;
/// One change of who serves a route.
pub type RouteHistoryRow = RouteRow;

/// A rollout as it is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRow {
    /// `<route>-<number>`, see [`rollout_id`].
    pub id: String,
    pub route: String,
    pub model: String,
    pub stable: u64,
    pub candidate: u64,
    /// Of the candidate's files, hexadecimal.
    pub candidate_digest: String,
    /// With every default filled in.
    pub spec: Value,
    /// Where the state machine stands.
    pub progress: Value,
    /// Unix times in ms.
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
    pub requested_by: String,
    pub reason: String,
    /// Of the assignment's hash.
    pub salt: u64,
}

/// What one transition leaves in the state beside the rollout's own row.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub transition: TransitionRow,
    /// Who serves the route from then on, if that changed.
    pub served: Option<RouteHistoryRow>,
    /// Events to be sent.
    pub events: Vec<OutboxRow>,
}

/// The id of a route's rollout.
pub fn rollout_id(route: &str, number: u64) -> String {
    format!("{route}-{number}")
}

/// The typed rows. Shared by reference; one thread at a time writes.
pub struct Journal {
    store: Arc<dyn Store>,
}

impl Journal {
    pub fn open(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    // Whether the process ended as it should

    /// Notes that the process runs, and says whether the one before ended as it should. True at the first start.
    ///
    /// # Errors
    /// Those of the store.
    pub fn mark_running(&self) -> Result<bool, StoreError> {
        let was_clean = self.store.get(Table::Gateway, RUNNING_KEY)?.is_none();
        self.store.commit(&[put(Table::Gateway, RUNNING_KEY.to_owned(), &true)])?;
        Ok(was_clean)
    }

    /// Notes that the process ends as it should.
    ///
    /// # Errors
    /// Those of the store.
    pub fn mark_clean_exit(&self) -> Result<(), StoreError> {
        self.store.commit(&[Write::Delete { table: Table::Gateway, key: RUNNING_KEY.to_owned() }])
    }

    // Writing

    /// The number of the route's next rollout. Numbers count from 1 and are never used again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn next_number(&self, route: &str) -> Result<u64, StoreError> {
        let rows = self.store.list(Table::Rollouts, &route_prefix(route))?;
        let Some((key, _)) = rows.last() else { return Ok(1) };
        let number = key.rsplit(SEPARATOR).next().and_then(|number| number.parse::<u64>().ok());
        number.map(|number| number + 1).ok_or_else(|| bad_row(Table::Rollouts, key, "its key ends in no number"))
    }

    /// Writes a rollout as it is after these steps, and the steps: all of it or none, on the disk when this returns. With a
    /// rollout's first row the oldest ended ones beyond [`MAX_ENDED`] are forgotten.
    ///
    /// # Errors
    /// Those of the store, and `BadRow` for an id that is not the route and a number.
    pub fn commit_steps(&self, row: &RolloutRow, steps: &[Step]) -> Result<(), StoreError> {
        let key = rollout_key(&row.id)?;
        let mut writes = vec![];
        if self.store.get(Table::Rollouts, &key)?.is_none() {
            self.forget_old(&row.route, &mut writes)?;
        }
        for Step { transition, served, .. } in steps {
            let number = transition.number;
            writes.push(put(Table::RolloutJournal, format!("{key}{SEPARATOR}{number:010}"), transition));
            writes.extend(served.iter().map(|served| put(Table::RouteHistory, route_key(&row.route, served), served)));
        }
        writes.push(put(Table::Rollouts, key, row));
        let events: Vec<OutboxRow> = steps.iter().flat_map(|step| step.events.iter().cloned()).collect();
        let dropped = outbox::insert(&*self.store, &events, &mut writes)?;
        self.store.commit(&writes)?;
        outbox::note_dropped(dropped);
        Ok(())
    }

    /// Writes a rollout down that has not done anything yet.
    ///
    /// # Errors
    /// Those of the store, and `BadRow` for an id that is not the route and a number.
    pub fn begin(&self, row: &RolloutRow) -> Result<(), StoreError> {
        let mut writes = vec![];
        self.forget_old(&row.route, &mut writes)?;
        writes.push(put(Table::Rollouts, rollout_key(&row.id)?, row));
        self.store.commit(&writes)
    }

    /// Writes who serves these routes from now on.
    ///
    /// # Errors
    /// Those of the store.
    pub fn note_routes(&self, rows: &[(String, RouteHistoryRow)]) -> Result<(), StoreError> {
        let write = |(route, row): &(String, RouteHistoryRow)| put(Table::RouteHistory, route_key(route, row), row);
        self.store.commit(&rows.iter().map(write).collect::<Vec<_>>())
    }

    /// The last row of every route.
    ///
    /// # Errors
    /// Those of the store.
    pub fn last_route_rows(&self) -> Result<BTreeMap<String, RouteHistoryRow>, StoreError> {
        let rows = read_all(&*self.store, Table::RouteHistory, "")?;
        let route_of = |key: &str| key.rsplit_once(SEPARATOR).map(|(route, _)| route.to_owned());
        // Later rows of a route come later.
        Ok(rows.into_iter().filter_map(|(key, row)| Some((route_of(&key)?, row))).collect())
    }

    /// Overwrites a rollout's last figures. They may be longer than a row may be, so they lie in parts.
    ///
    /// # Errors
    /// Those of the store.
    pub fn checkpoint(&self, id: &str, figures: &Value) -> Result<(), StoreError> {
        let prefix = format!("{}{SEPARATOR}", rollout_key(id)?);
        let text = figures.to_string();
        let mut parts: Vec<&str> = vec![];
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES.min(rest.len())));
            parts.push(part);
            rest = after;
        }
        let before = self.store.list(Table::RolloutCheckpoints, &prefix)?.into_iter().map(|(key, _)| key);
        let mut writes: Vec<Write> =
            before.skip(parts.len()).map(|key| Write::Delete { table: Table::RolloutCheckpoints, key }).collect();
        let put_part = |(at, part): (usize, &&str)| put(Table::RolloutCheckpoints, format!("{prefix}{at:04}"), part);
        writes.extend(parts.iter().enumerate().map(put_part));
        self.store.commit(&writes)
    }

    // Reading

    /// Every rollout that is kept, by route and number.
    ///
    /// # Errors
    /// Those of the store.
    pub fn rollouts(&self) -> Result<Vec<RolloutRow>, StoreError> {
        Ok(read_all(&*self.store, Table::Rollouts, "")?.into_iter().map(|(_, row)| row).collect())
    }

    /// One rollout.
    ///
    /// # Errors
    /// Those of the store.
    pub fn rollout(&self, id: &str) -> Result<Option<RolloutRow>, StoreError> {
        let Ok(key) = rollout_key(id) else { return Ok(None) };
        read(&*self.store, Table::Rollouts, &key)
    }

    /// The route's rollout with the highest number.
    ///
    /// # Errors
    /// Those of the store.
    pub fn latest_of_route(&self, route: &str) -> Result<Option<RolloutRow>, StoreError> {
        let rows = read_all(&*self.store, Table::Rollouts, &route_prefix(route))?;
        Ok(rows.into_iter().next_back().map(|(_, row)| row))
    }

    /// A rollout's transitions, oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn transitions(&self, id: &str) -> Result<Vec<TransitionRow>, StoreError> {
        let Ok(key) = rollout_key(id) else { return Ok(vec![]) };
        let rows = read_all(&*self.store, Table::RolloutJournal, &format!("{key}{SEPARATOR}"))?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }

    /// A rollout's last figures.
    ///
    /// # Errors
    /// Those of the store.
    pub fn checkpoint_of(&self, id: &str) -> Result<Option<Value>, StoreError> {
        let Ok(key) = rollout_key(id) else { return Ok(None) };
        let parts = read_all::<String>(&*self.store, Table::RolloutCheckpoints, &format!("{key}{SEPARATOR}"))?;
        if parts.is_empty() {
            return Ok(None);
        }
        let text: String = parts.into_iter().map(|(_, part)| part).collect();
        let figures = serde_json::from_str(&text).map_err(|cause| bad_row(Table::RolloutCheckpoints, &key, cause))?;
        Ok(Some(figures))
    }

    /// Who served a route, oldest first; with a Unix time in ms the one row that was in force then, if any was.
    ///
    /// # Errors
    /// Those of the store.
    pub fn route_history(&self, route: &str, at_ms: Option<u64>) -> Result<Vec<RouteHistoryRow>, StoreError> {
        let rows = read_all(&*self.store, Table::RouteHistory, &route_prefix(route))?;
        let rows = rows.into_iter().map(|(_, row): (String, RouteHistoryRow)| row);
        Ok(match at_ms {
            None => rows.collect(),
            Some(at_ms) => rows.take_while(|row| row.at_ms <= at_ms).last().into_iter().collect(),
        })
    }

    /// Forgets the oldest ended rollouts beyond [`MAX_ENDED`], and the oldest rows of this route's history.
    fn forget_old(&self, route: &str, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        let rows: Vec<(String, RolloutRow)> = read_all(&*self.store, Table::Rollouts, "")?;
        // Numbers are given out by the latest of a route.
        let is_latest = |at: usize| rows.get(at + 1).is_none_or(|(_, next)| next.route != rows[at].1.route);
        let mut ended: Vec<(u64, &str)> = rows
            .iter()
            .enumerate()
            .filter(|(at, _)| !is_latest(*at))
            .filter_map(|(_, (key, row))| Some((row.ended_ms?, key.as_str())))
            .collect();
        ended.sort_unstable();
        for (_, key) in ended.iter().take(ended.len().saturating_sub(MAX_ENDED)) {
            let prefix = format!("{key}{SEPARATOR}");
            let journal = self.store.list(Table::RolloutJournal, &prefix)?;
            writes.extend(journal.into_iter().map(|(key, _)| Write::Delete { table: Table::RolloutJournal, key }));
            let figures = self.store.list(Table::RolloutCheckpoints, &prefix)?;
            writes.extend(figures.into_iter().map(|(key, _)| Write::Delete { table: Table::RolloutCheckpoints, key }));
            writes.push(Write::Delete { table: Table::Rollouts, key: (*key).to_owned() });
        }
        let history = self.store.list(Table::RouteHistory, &route_prefix(route))?;
        // One row is about to be added.
        let surplus = (history.len() + 1).saturating_sub(MAX_ROUTE_ROWS);
        let oldest = history.into_iter().take(surplus);
        writes.extend(oldest.map(|(key, _)| Write::Delete { table: Table::RouteHistory, key }));
        Ok(())
    }
}

fn route_key(route: &str, row: &RouteHistoryRow) -> String {
    format!("{}{:020}", route_prefix(route), row.at_ms)
}

fn route_prefix(route: &str) -> String {
    format!("{route}{SEPARATOR}")
}

/// `<route>/<number>`, the number with ten digits.
fn rollout_key(id: &str) -> Result<String, StoreError> {
    let parts = id.rsplit_once('-').and_then(|(route, number)| Some((route, number.parse::<u64>().ok()?)));
    let (route, number) = parts.ok_or_else(|| bad_row(Table::Rollouts, id, "it is no route and number"))?;
    Ok(format!("{}{number:010}", route_prefix(route)))
}
#[cfg(test)]
mod tests;
