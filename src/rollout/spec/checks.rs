//! What keys of a spec must be together, and with the call that starts it.

use super::{Require, RolloutSpec};
use crate::yaml::SettingsError;

/// Refuses a step that could never pass.
pub(super) fn consistent(spec: &RolloutSpec) -> Result<(), SettingsError> {
    let can_be_safe = spec.analysis.checks.iter().any(|check| !check.dry_run);
    match spec.steps.iter().position(|step| step.require == Require::Safe) {
        Some(at) if !can_be_safe => Err(SettingsError::bad_value(
            format!("steps[{at}].require"),
            "no_harm where no check acts",
            "'safe' without a check that is not dry_run",
        )),
        _ => Ok(()),
    }
}

/// As [`RolloutSpec::resolved`].
pub(super) fn resolved(
    mut spec: RolloutSpec,
    route: &str,
    to: Option<u64>,
    answering: u64,
) -> Result<RolloutSpec, SettingsError> {
    if let Some(named) = spec.route.as_deref().filter(|named| *named != route) {
        let expected = format!("'{route}', which the rollout is started on");
        return Err(SettingsError::bad_value("route", expected, format!("'{named}'")));
    }
    let candidate = match (spec.candidate, to) {
        (Some(named), Some(to)) if named != to => {
            let expected = format!("version {to}, which the rollout is started to");
            return Err(SettingsError::bad_value("candidate", expected, named));
        }
        (named, to) => named.or(to),
    };
    let Some(candidate) = candidate else {
        return Err(SettingsError::bad_value("candidate", "the version to be tried", "nothing"));
    };
    let stable = spec.stable.unwrap_or(answering);
    if candidate == stable {
        let expected = format!("another version than stable ({stable})");
        return Err(SettingsError::bad_value("candidate", expected, candidate));
    }
    spec.route = Some(route.to_owned());
    (spec.stable, spec.candidate) = (Some(stable), Some(candidate));
    Ok(spec)
}
