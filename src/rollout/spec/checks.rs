use super::RolloutSpec;
use crate::yaml::SettingsError;
pub(super) fn resolved(
    spec: RolloutSpec,
    route: &str,
    to: Option<u64>,
    answering: u64,
) -> Result<RolloutSpec, SettingsError> {
    todo!("{spec:?}{route}{to:?}{answering}")
}
