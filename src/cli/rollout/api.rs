//! What the rollout commands ask of the admin API.

use bytes::Bytes;
use hyper::Method;

use crate::cli::admin_api::AdminArgs;
use crate::cli::client::segment;
use crate::cli::failure::Failure;
use crate::rollout::view::{RolloutList, RolloutView};

/// The path of all rollouts.
pub const ROLLOUTS: &str = "/admin/v1/rollouts";

/// The path of a rollout, or of a route's latest; the name escaped.
pub fn rollout_path(rollout: &str) -> String {
    format!("{ROLLOUTS}/{}", segment(rollout))
}

/// The path of a route, its name escaped.
pub fn route_path(route: &str) -> String {
    format!("/admin/v1/routes/{}", segment(route))
}

/// Every rollout.
///
/// # Errors
/// As [`AdminArgs::ask`].
pub fn list(admin: &AdminArgs) -> Result<RolloutList, Failure> {
    admin.ask(Method::GET, ROLLOUTS, Bytes::new())
}

/// One rollout, by its id or its route's name.
///
/// # Errors
/// As [`AdminArgs::ask`].
pub fn show(admin: &AdminArgs, rollout: &str) -> Result<RolloutView, Failure> {
    admin.ask(Method::GET, &rollout_path(rollout), Bytes::new())
}

/// The rollout that is under way, where it is the only one.
///
/// # Errors
/// `Usage` that lists what there is to choose from; else as [`AdminArgs::ask`].
pub fn only_one(admin: &AdminArgs) -> Result<RolloutView, Failure> {
    let rollouts = list(admin)?.rollouts;
    let under_way: Vec<&RolloutView> = rollouts.iter().filter(|rollout| !rollout.ended).collect();
    match under_way.as_slice() {
        [one] => Ok((*one).clone()),
        [] if rollouts.is_empty() => Err(Failure::Usage("there is no rollout".to_owned())),
        [] => Err(Failure::Usage(format!("no rollout is under way, name one that has ended: {}", ids(&rollouts)))),
        several => Err(Failure::Usage(format!("several rollouts are under way, name one: {}", ids(several)))),
    }
}

/// What a command means: the rollout or route that was named, else the only one under way.
///
/// # Errors
/// As [`only_one`].
pub fn named_or_only(admin: &AdminArgs, named: Option<&str>) -> Result<String, Failure> {
    named.map_or_else(|| Ok(only_one(admin)?.id), |named| Ok(named.to_owned()))
}

/// At most ten, as `digits-3 (baking), iris-1 (paused)`.
fn ids<T: std::borrow::Borrow<RolloutView>>(rollouts: &[T]) -> String {
    const SHOWN: usize = 10;
    let one = |rollout: &T| format!("{} ({})", rollout.borrow().id, rollout.borrow().state);
    let mut shown: Vec<String> = rollouts.iter().take(SHOWN).map(one).collect();
    if rollouts.len() > SHOWN {
        shown.push(format!("and {} more", rollouts.len() - SHOWN));
    }
    shown.join(", ")
}
