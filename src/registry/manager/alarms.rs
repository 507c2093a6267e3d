//! What an operator should hear of at once: the differences between two states of a model that nobody asked for.
//!
//! Loads report their own end; this is for what a look at the files shows.

use crate::routing::ModelEntry;
use crate::servable::{State, VersionStatus};

/// One line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// `None` where it is about the model as a whole.
    pub version: Option<u64>,
    pub what: &'static str,
    pub reason: String,
}

/// What is new in `after`.
pub fn alarms(before: &ModelEntry, after: &ModelEntry) -> Vec<Alarm> {
    let fault = (!after.fault.is_empty() && after.fault != before.fault).then(|| Alarm {
        version: None,
        what: "the model's folder has a fault",
        reason: after.fault.clone(),
    });
    let versions = after.statuses.iter().filter_map(|(&version, status)| {
        let what = version_alarm(before.statuses.get(&version), status)?;
        Some(Alarm { version: Some(version), what, reason: status.reason.clone() })
    });
    fault.into_iter().chain(versions).collect()
}

fn version_alarm(before: Option<&VersionStatus>, after: &VersionStatus) -> Option<&'static str> {
    let was = before.map(|status| status.state);
    match (was, after.state) {
        // Notes of the load itself come with the state.
        (Some(State::Ready), State::Ready) if before.is_some_and(|before| before.reason != after.reason) => {
            (!after.reason.is_empty()).then_some("the files of a loaded version were touched")
        }
        // Given up by a look: a load would have been under way before.
        (None | Some(State::Discovered), State::Failed) => Some("failed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fault: &str, statuses: &[(u64, State, &str)]) -> ModelEntry {
        let status = |state, reason: &str| VersionStatus { state, reason: reason.to_owned(), quarantined: false };
        ModelEntry {
            fault: fault.to_owned(),
            statuses: statuses.iter().map(|&(version, state, reason)| (version, status(state, reason))).collect(),
            ..ModelEntry::default()
        }
    }

    fn versions(before: &[(u64, State, &str)], after: &[(u64, State, &str)]) -> Vec<(Option<u64>, String)> {
        let alarms = alarms(&entry("", before), &entry("", after));
        alarms.into_iter().map(|alarm| (alarm.version, alarm.reason)).collect()
    }

    #[test]
    fn only_what_is_new_and_unasked_for_is_told() {
        use State::{Discovered, Failed, Loading, Ready};
        let none: Vec<(Option<u64>, String)> = vec![];
        assert_eq!(versions(&[], &[(1, Ready, "a note of the load")]), none);
        assert_eq!(versions(&[(1, Loading, "")], &[(1, Failed, "told by the load")]), none);
        assert_eq!(versions(&[(1, Ready, "")], &[(1, Ready, "changed")]), [(Some(1), "changed".to_owned())]);
        assert_eq!(versions(&[(1, Ready, "changed")], &[(1, Ready, "changed")]), none);
        assert_eq!(versions(&[(1, Ready, "changed")], &[(1, Ready, "")]), none);
        assert_eq!(versions(&[], &[(2, Failed, "no model.onnx")]), [(Some(2), "no model.onnx".to_owned())]);
        assert_eq!(versions(&[(2, Discovered, "")], &[(2, Failed, "broken")]), [(Some(2), "broken".to_owned())]);
        assert_eq!(versions(&[(2, Failed, "broken")], &[(2, Failed, "broken")]), none);
        assert_eq!(alarms(&entry("", &[]), &entry("a link", &[]))[0].reason, "a link");
        assert_eq!(alarms(&entry("a link", &[]), &entry("a link", &[])), []);
    }
}
