//! What the manager has decided and nobody has seen yet: the next snapshot, and answers that must come after it.
//!
//! One event may change many models, a look at the repositories all of them. They are published together, because each
//! snapshot is a map of every model.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::actor::Actor;
use super::alarms::alarms;
use super::handle::Reply;
use super::model::Model;
use crate::error::Result;
use crate::routing::{ModelEntry, Serving};

/// What is decided and not seen.
#[derive(Default)]
pub struct Unpublished {
    models: BTreeSet<String>,
    /// Whether a split has come or gone.
    pub routes: bool,
    /// Versions that have come to answer the bare name of their model.
    pub answered: BTreeMap<String, u64>,
    /// Sent once the snapshot shows what they speak of.
    pub replies: Vec<(Reply, Result<()>)>,
}

impl Unpublished {
    /// What the first snapshot brings whatever is loaded: the further names.
    pub fn first() -> Self {
        Self { routes: true, ..Self::default() }
    }
}

impl Actor {
    /// The model may look different from now on.
    pub(super) fn changed(&mut self, name: &str) {
        self.unpublished.models.insert(name.to_owned());
    }

    /// Answers a command once what it did is published.
    pub(super) fn answer(&mut self, reply: Reply, result: Result<()>) {
        self.unpublished.replies.push((reply, result));
    }

    /// Makes everything decided so far seen.
    pub(super) fn publish_changes(&mut self) {
        let Unpublished { models, routes, answered, replies } = mem::take(&mut self.unpublished);
        if !answered.is_empty() {
            // Written before it is published: what was seen to serve is what serves after a restart.
            self.logged("writing the versions that answer", self.records.set_answered(&answered));
        }
        let before = self.plane.serving.load_full();
        // Every look comes by here, and most see nothing new.
        let changes = models.into_iter().filter_map(|name| {
            let after = self.models.get(&name).map(Model::entry);
            let is_same = match (before.models.get(&name), &after) {
                (Some(before), Some(after)) => before.is_same(after),
                (before, after) => before.is_none() && after.is_none(),
            };
            (!is_same).then_some((name, after))
        });
        let changes: Vec<(String, Option<ModelEntry>)> = changes.collect();
        if routes || !changes.is_empty() {
            let mut models = before.models.clone();
            for (name, entry) in changes {
                match entry {
                    Some(entry) => {
                        warn_of_changes(&name, models.get(&name), &entry);
                        models.insert(name, Arc::new(entry));
                    }
                    None => _ = models.remove(&name),
                }
            }
            self.plane.publish(Serving { models, routes: self.routes() });
        }
        for (reply, result) in replies {
            // Whoever asked may be gone.
            let _ = reply.send(result);
        }
    }
}

fn warn_of_changes(name: &str, before: Option<&Arc<ModelEntry>>, after: &ModelEntry) {
    let unseen = ModelEntry::default();
    for alarm in alarms(before.map_or(&unseen, |before| before), after) {
        tracing::error!(model = name, version = alarm.version, reason = alarm.reason, "{}", alarm.what);
    }
}
