use super::*;
use crate::rollout::view::Action;

/// What an operator's action does.
///
/// # Errors
/// Why the present state does not allow it, as a sentence.
pub fn command(
    spec: &RolloutSpec,
    progress: &Progress,
    action: Action,
    actor: &str,
    now_ms: u64,
) -> Result<Transition, String> {
    todo!("{spec:?}{progress:?}{action:?}{actor}{now_ms}")
}
