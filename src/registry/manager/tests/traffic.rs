//! Splits of a route's traffic, as rollouts ask for them.

use super::*;
use crate::registry::digest::Digest;
use crate::routing::{Arm, Assignment, Dial, Route, ShadowTolerance, SplitPlan, Unit};
use crate::servable::ServableId;

fn plan(rollout: &str, stable: u64, candidate: u64) -> SplitPlan {
    SplitPlan {
        route: "digits".to_owned(),
        rollout: rollout.to_owned(),
        model: "digits".to_owned(),
        stable,
        candidate,
        assignment: Arc::new(Assignment { units: vec![Unit::Request], force: vec![], salt: 0 }),
        dial: Arc::new(Dial::new().0),
        tolerance: ShadowTolerance { atol: 0.0, rtol: 0.0 },
    }
}

/// Version 1 answers, version 2 is in the repository and not loaded.
async fn held() -> Fixture {
    let fixture = Fixture::new(ModelControlMode::Poll);
    fixture.write("digits/model.yaml", "version_policy: {specific: {versions: [1]}}");
    fixture.add("digits_cnn_v1", "digits/1");
    fixture.until("digits", |entry| entry.default == Some(1)).await;
    fixture.add("digits_cnn_v2", "digits/2");
    fixture.until("digits", |entry| entry.statuses.contains_key(&2)).await;
    fixture
}

fn route(fixture: &Fixture) -> Option<Arc<Route>> {
    fixture.plane.serving.load().routes.get("digits").cloned()
}

#[tokio::test]
async fn a_split_loads_its_versions_and_holds_them() {
    let fixture = held().await;
    fixture.manager.set_split(plan("digits-1", 1, 2)).await.unwrap();
    let split = route(&fixture).unwrap().split.clone().unwrap();
    let versions = [&split.stable, &split.candidate, &split.control, &split.shadow]
        .map(|backend| (backend.arm, backend.servable.id.version));
    assert_eq!(versions, [(Arm::Stable, 1), (Arm::Candidate, 2), (Arm::Control, 1), (Arm::Shadow, 2)]);
    assert!(Arc::ptr_eq(&split.candidate.servable, &split.shadow.servable));
    drop(split);

    // Whatever the policy says now, what the split names stays, and the stable version answers.
    fixture.write("digits/model.yaml", "version_policy: {specific: {versions: [3]}}");
    fixture.add("digits_cnn_v2", "digits/3");
    let entry = fixture.until("digits", |entry| Fixture::state(entry, 3) == Some(State::Ready)).await;
    assert_eq!((entry.default, entry.backends.len()), (Some(1), 3));
    drop(entry);

    let refused = fixture.manager.set_label("digits", "stable", Some(3)).await.unwrap_err();
    assert_eq!(refused.to_string(), "rollout 'digits-1' is under way on model 'digits': promote or abort it first");
    fixture.manager.move_label_of_rollout("digits", "stable", Some(2)).await.unwrap();
    fixture.manager.clear_split("digits", Duration::ZERO).await.unwrap();
    assert!(route(&fixture).is_none());
    let entry = fixture.until("digits", |entry| Fixture::state(entry, 1) == Some(State::Unloaded)).await;
    assert_eq!(entry.default, Some(2));
}

#[tokio::test]
async fn the_previous_version_is_kept_for_a_while() {
    let fixture = held().await;
    fixture.manager.set_split(plan("digits-1", 1, 2)).await.unwrap();
    fixture.manager.move_label_of_rollout("digits", "stable", Some(2)).await.unwrap();
    fixture.write("digits/model.yaml", "version_policy: {specific: {versions: [2]}}");
    fixture.manager.clear_split("digits", PATIENCE).await.unwrap();
    // Something else happens, and it is still there.
    fixture.add("digits_cnn_v2", "digits/3");
    let entry = fixture.until("digits", |entry| entry.statuses.contains_key(&3)).await;
    assert_eq!((entry.default, Fixture::state(&entry, 1)), (Some(2), Some(State::Ready)));
}

#[tokio::test]
async fn a_second_rollout_and_versions_that_are_not_there_are_refused() {
    let fixture = held().await;
    let unknown = fixture.manager.set_split(plan("digits-1", 1, 9)).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownVersion { .. }), "{unknown}");
    fixture.manager.set_split(plan("digits-1", 1, 2)).await.unwrap();
    let second = fixture.manager.set_split(plan("digits-2", 1, 2)).await.unwrap_err();
    assert_eq!(second.to_string(), "route 'digits' is split by rollout 'digits-1' already");
    fixture.write("digits/3/model.onnx", b"this is no model");
    fixture.manager.clear_split("digits", Duration::ZERO).await.unwrap();
    fixture.until("digits", |entry| entry.statuses.contains_key(&3)).await;
    let broken = fixture.manager.set_split(plan("digits-3", 1, 3)).await.unwrap_err();
    assert!(broken.to_string().contains("not a valid ONNX model"), "{broken}");
}

#[tokio::test]
async fn a_version_rolled_back_is_quarantined_across_a_restart() {
    let mut fixture = held().await;
    fixture.manager.set_split(plan("digits-1", 1, 2)).await.unwrap();
    let id = ServableId { model: "digits".to_owned(), version: 2 };
    fixture.manager.quarantine(id, Digest::of(b"2"), "rolled back: error rate".to_owned()).await.unwrap();
    fixture.manager.clear_split("digits", Duration::ZERO).await.unwrap();
    let is_out = |entry: &ModelEntry| !entry.backends.contains_key(&2) && entry.statuses[&2].quarantined;
    fixture.until("digits", is_out).await;
    let root = std::mem::replace(&mut fixture.root, tempfile::tempdir().unwrap());
    let again = Fixture::over(root, fixture.records.clone(), ModelControlMode::Poll);
    let entry = again.until("digits", |entry| entry.default == Some(1)).await;
    assert!(is_out(&entry), "{entry:?}");
    let refused = again.manager.set_split(plan("digits-2", 1, 2)).await.unwrap_err();
    assert!(
        refused.to_string().ends_with("quarantined until an operator clears it: rolled back: error rate"),
        "{refused}"
    );
}
