//! The small door from the wire to the control plane.
//!
//! The data plane does not import the control plane; where a wire call asks for a change of what is loaded, or a
//! prediction needs a version that is cold, it asks through this trait, which the composition root fills in. Only the
//! latter makes a prediction wait for the control plane, for as long as the version loads.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use crate::error::Result;

/// Loads and unloads models on a client's request.
pub trait ModelControl: Send + Sync {
    /// Loads a model, or looks at its directory again if it is loaded. Done when its versions are ready or failed.
    ///
    /// # Errors
    /// `Unavailable` with Triton's text where the control mode forbids it, `Internal` with the reason when no version
    /// could be loaded (what served before goes on), `Unsupported` for overrides.
    fn load(&self, model: String, overrides: LoadOverrides) -> BoxFuture<'static, Result<()>>;

    /// Takes a model out of service. Done when no version of it is ready; requests in flight finish by themselves.
    ///
    /// # Errors
    /// `Unavailable` as for `load`, `Invalid` when the model is not known.
    fn unload(&self, model: String) -> BoxFuture<'static, Result<()>>;

    /// Has a cold version loaded, once for all who ask at the same time. Done when the snapshot shows it as cold no
    /// longer, whatever became of it: route again. Dropping the future gives up waiting; the load goes on. The caller
    /// bounds the time.
    ///
    /// # Errors
    /// `Overloaded` when too many wait for this version already, `Unavailable` when nobody loads any more.
    fn warm(&self, model: String, version: u64) -> BoxFuture<'static, Result<()>>;
}

/// What a client's load call may carry beside the name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOverrides {
    /// A configuration in place of the repository's, as JSON.
    pub config: Option<String>,
    /// Files in place of the repository's, by `<version>/<file>`.
    pub files: BTreeMap<String, Bytes>,
}
