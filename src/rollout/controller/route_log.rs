//! Who serves which route, and since when.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Controller, logged, now_ms};
use crate::audit::{AUTOMATIC, Entry};
use crate::registry::version_policy::STABLE;
use crate::rollout::controller::active::weights_view;
use crate::rollout::journal::Journal;
use crate::rollout::view::RouteRow;
use crate::routing::{ModelEntry, Weights};

/// The last row of each route.
pub struct RouteLog {
    last: BTreeMap<String, RouteRow>,
}

impl RouteLog {
    /// As the journal has it.
    pub fn of(journal: &Journal) -> Self {
        let last = logged("reading who served the routes", journal.last_route_rows());
        Self { last: last.unwrap_or_default() }
    }

    /// Whether this says something new of the route.
    pub fn differs(&self, route: &str, row: &RouteRow) -> bool {
        self.last.get(route).is_none_or(|last| RouteRow { at_ms: row.at_ms, ..last.clone() } != *row)
    }

    pub fn note(&mut self, route: &str, row: RouteRow) {
        self.last.insert(route.to_owned(), row);
    }
}

impl Controller {
    /// Writes down routes whose version has changed by other means than a rollout.
    pub(super) fn note_routes(&mut self) {
        let serving = self.parts.plane.serving.load_full();
        let of_models = serving.models.iter().map(|(name, entry)| (name.clone(), entry.default));
        let of_names = self.parts.routes.iter().filter_map(|(name, (model, label))| {
            let entry: &Arc<ModelEntry> = serving.models.get(model)?;
            Some((name.clone(), labelled(entry, label)))
        });
        let mut rows = vec![];
        for (route, version) in of_models.chain(of_names) {
            // A version that is not there yet at the start, or no more at the end, is no change.
            if self.active.contains_key(&route) || (version.is_none() && !self.is_serving()) {
                continue;
            }
            let row = RouteRow {
                at_ms: now_ms(),
                stable: version,
                candidate: None,
                weights: weights_view(Weights::ALL_STABLE, 0),
                rollout: None,
            };
            if self.log.differs(&route, &row) && (version.is_some() || self.log.last.contains_key(&route)) {
                rows.push((route, row));
            }
        }
        if rows.is_empty() {
            return;
        }
        logged("writing who serves the routes", self.parts.journal.note_routes(&rows));
        for (route, row) in rows {
            // That a route came to be is no decision of anybody.
            if let Some(before) = self.log.last.get(&route) {
                self.audit(Entry {
                    reason: "the version that answers has changed".to_owned(),
                    before: serde_json::json!({"version": before.stable}),
                    after: serde_json::json!({"version": row.stable}),
                    ..Entry::now(AUTOMATIC, "route.answers", &route)
                });
            }
            self.log.note(&route, row);
        }
    }
}

/// The version of a model's label; for label `stable` without a version the one that answers.
pub fn labelled(entry: &ModelEntry, label: &str) -> Option<u64> {
    match entry.labels.get(label) {
        None if label == STABLE => entry.default,
        version => version.copied(),
    }
}
