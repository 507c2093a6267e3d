//! The sessions of one model: as many as runs have been under way at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::session::Session;

use super::convert::failed;
use super::memory::trim_memory;
use super::recipe::Recipe;
use crate::engine::RunError;
use crate::engine::panics::caught;

/// Sessions that are kept while nobody runs them. Runs at a time are bounded by the gateway's cores.
pub const MAX_IDLE_SESSIONS: usize = 1024;

/// Sessions without a run, and how to make another.
pub struct Sessions {
    /// Before `recipe`, whose weights they were lent.
    idle: Mutex<Vec<Session>>,
    recipe: Recipe,
    /// Goes last.
    _trim: TrimWhenGone,
}

/// Gives back what the fields before it have freed.
struct TrimWhenGone;

impl Drop for TrimWhenGone {
    fn drop(&mut self) {
        trim_memory();
    }
}

impl Sessions {
    pub fn new(recipe: Recipe, first: Session) -> Self {
        Self { idle: Mutex::new(vec![first]), recipe, _trim: TrimWhenGone }
    }

    /// Lends a session to `work`, one that is idle or a new one. Blocks while a new one is made.
    ///
    /// # Errors
    /// Those of `work`; `Failed` where no session can be made, or for a panic, whose session is given up.
    pub fn with<T>(&self, work: impl FnOnce(&mut Session) -> Result<T, RunError>) -> Result<T, RunError> {
        let idle = self.idle().pop();
        let ran = caught(|| {
            let mut session = match idle {
                Some(session) => session,
                None => self.another()?,
            };
            let done = work(&mut session);
            Ok((session, done))
        });
        let (session, done) = ran.map_err(|text| RunError::Failed(format!("the engine panicked: {text}")))??;
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE_SESSIONS {
            idle.push(session);
        }
        done
    }

    fn another(&self) -> Result<Session, RunError> {
        let session = self.recipe.session().map_err(failed)?;
        // It has repacked weights only to find that another session did so before.
        trim_memory();
        Ok(session)
    }

    /// Bytes of weights that are held once for all of them.
    pub fn shared_bytes(&self) -> u64 {
        self.recipe.shared_bytes()
    }

    /// Sessions that are idle now.
    pub fn idle_count(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        // Nothing under this lock can be left half done by a panic.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
