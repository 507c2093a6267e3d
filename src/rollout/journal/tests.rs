use serde_json::json;

use super::*;
use crate::outbound::outbox::{MAX_ROWS, waiting_for};
use crate::rollout::view::WeightsView;
use crate::store::{MemoryStore, RedbStore};

fn rollout(route: &str, number: u64, ended_ms: Option<u64>) -> RolloutRow {
    RolloutRow {
        id: rollout_id(route, number),
        route: route.to_owned(),
        model: route.to_owned(),
        stable: 1,
        candidate: 2,
        candidate_digest: "00".to_owned(),
        spec: json!({"steps": []}),
        progress: json!({"state": "baking"}),
        started_ms: number,
        ended_ms,
        requested_by: "alice".to_owned(),
        reason: "retrained".to_owned(),
        salt: u64::MAX,
    }
}

fn transition(number: u64) -> TransitionRow {
    TransitionRow {
        number,
        at_ms: 10 + number,
        from: "baking".to_owned(),
        to: "deciding".to_owned(),
        actor: "headgate".to_owned(),
        cause: "enough samples".to_owned(),
        weights: WeightsView { stable: 9_900, candidate: 100, ..WeightsView::default() },
        evidence: json!({"samples": 500}),
    }
}

fn steps(number: u64, served: Option<RouteHistoryRow>, events: &[OutboxRow]) -> [Step; 1] {
    [Step { transition: transition(number), served, events: events.to_vec() }]
}

fn served(at_ms: u64, stable: u64) -> RouteHistoryRow {
    RouteHistoryRow {
        at_ms,
        stable: Some(stable),
        candidate: None,
        weights: WeightsView { stable: 10_000, ..WeightsView::default() },
        rollout: None,
    }
}

fn event(id: &str, created_ms: u64) -> OutboxRow {
    OutboxRow { id: id.to_owned(), url: "http://a/".to_owned(), created_ms, event: json!({"id": id}) }
}

#[test]
fn everything_of_a_transition_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir.path()).unwrap());
        (Journal::open(store.clone()), store)
    };
    let row = rollout("digits-8", 1, None);
    {
        let (journal, _) = open();
        journal.commit_steps(&row, &steps(1, Some(served(11, 1)), &[event("a", 11)])).unwrap();
        journal.commit_steps(&row, &steps(2, None, &[event("b", 12)])).unwrap();
        journal.checkpoint(&row.id, &json!({"e_harm": 0.5, "keys": "\"0123456é".repeat(200_000)})).unwrap();
        journal.checkpoint(&row.id, &json!({"e_harm": 0.6})).unwrap();
    }
    let (journal, store) = open();
    assert_eq!(journal.rollouts().unwrap(), std::slice::from_ref(&row));
    assert_eq!(journal.rollout("digits-8-1").unwrap(), Some(row.clone()));
    assert_eq!(journal.latest_of_route("digits-8").unwrap(), Some(row));
    assert_eq!(journal.transitions("digits-8-1").unwrap(), [transition(1), transition(2)]);
    assert_eq!(journal.checkpoint_of("digits-8-1").unwrap(), Some(json!({"e_harm": 0.6})));
    assert_eq!(journal.route_history("digits-8", None).unwrap(), [served(11, 1)]);
    assert_eq!(waiting_for(&*store, "http://a/").unwrap(), [event("a", 11), event("b", 12)]);
    for unknown in ["digits", "digits-8-2", "digits-x", ""] {
        assert_eq!(journal.rollout(unknown).unwrap(), None, "{unknown}");
        assert_eq!(journal.checkpoint_of(unknown).unwrap(), None, "{unknown}");
        assert!(journal.transitions(unknown).unwrap().is_empty(), "{unknown}");
    }
}

#[test]
fn a_transition_that_cannot_be_written_leaves_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let journal = Journal::open(store.clone());
    let too_long = RolloutRow { reason: "x".repeat(crate::store::MAX_VALUE_BYTES), ..rollout("m", 1, None) };
    let refused = journal.commit_steps(&too_long, &steps(1, Some(served(1, 1)), &[event("a", 1)]));
    assert!(matches!(refused, Err(StoreError::TooLong { .. })));
    for table in Table::ALL {
        assert!(store.list(table, "").unwrap().is_empty(), "{table:?}");
    }
    let bad = RolloutRow { id: "m".to_owned(), ..rollout("m", 1, None) };
    assert!(matches!(journal.commit_steps(&bad, &steps(1, None, &[])), Err(StoreError::BadRow { .. })));
}

#[test]
fn steps_that_could_not_be_written_come_with_the_next() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let journal = Journal::open(store.clone());
    let late = [steps(1, Some(served(11, 1)), &[event("a", 11)]), steps(2, Some(served(12, 2)), &[event("b", 12)])];
    journal.commit_steps(&rollout("m", 1, Some(12)), &late.concat()).unwrap();
    assert_eq!(journal.transitions("m-1").unwrap(), [transition(1), transition(2)]);
    assert_eq!(journal.route_history("m", None).unwrap(), [served(11, 1), served(12, 2)]);
    assert_eq!(waiting_for(&*store, "http://a/").unwrap(), [event("a", 11), event("b", 12)]);
}

#[test]
fn numbers_count_by_route_and_are_never_used_again() {
    let journal = Journal::open(Arc::new(MemoryStore::default()));
    assert_eq!(journal.next_number("m").unwrap(), 1);
    for number in 1..=12 {
        journal.commit_steps(&rollout("m", number, Some(number)), &steps(1, None, &[])).unwrap();
    }
    assert_eq!((journal.next_number("m").unwrap(), journal.next_number("m2").unwrap()), (13, 1));
    assert_eq!(journal.latest_of_route("m").unwrap().unwrap().id, "m-12");
}

#[test]
fn the_oldest_ended_rollouts_are_forgotten_with_all_that_is_theirs() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let journal = Journal::open(store.clone());
    // The only one of its route, and the oldest of all.
    journal.commit_steps(&rollout("lone", 1, Some(0)), &steps(1, None, &[])).unwrap();
    // Never ended.
    journal.commit_steps(&rollout("m", 1, None), &steps(1, None, &[])).unwrap();
    let last = MAX_ENDED as u64 + 4;
    for number in 2..=last {
        let row = rollout("m", number, Some(number));
        journal.commit_steps(&row, &steps(1, None, &[])).unwrap();
        journal.checkpoint(&row.id, &json!(number)).unwrap();
    }
    let ids: Vec<String> = journal.rollouts().unwrap().into_iter().map(|row| row.id).collect();
    // The newest row was written after the look, and the latest of a route does not count.
    assert_eq!(ids.len(), MAX_ENDED + 4);
    assert_eq!((ids[0].as_str(), ids[1].as_str(), ids[2].as_str()), ("lone-1", "m-1", "m-3"));
    assert!(journal.transitions("m-2").unwrap().is_empty());
    assert_eq!(journal.checkpoint_of("m-2").unwrap(), None);
    assert_eq!(journal.next_number("lone").unwrap(), 2);
}

#[test]
fn the_row_in_force_at_a_time_is_the_last_one_before_it() {
    let journal = Journal::open(Arc::new(MemoryStore::default()));
    for (number, at_ms) in [(1, 100), (2, 2_000), (3, 30_000)] {
        let row = rollout("m", 1, None);
        journal.commit_steps(&row, &steps(number, Some(served(at_ms, number)), &[])).unwrap();
    }
    let stable_at = |at_ms| journal.route_history("m", Some(at_ms)).unwrap().first().and_then(|row| row.stable);
    assert_eq!(
        [99, 100, 1_999, 2_000, 29_999, 90_000].map(stable_at),
        [None, Some(1), Some(1), Some(2), Some(2), Some(3)]
    );
    assert_eq!(journal.route_history("m", None).unwrap().len(), 3);
    assert!(journal.route_history("m2", None).unwrap().is_empty());
}

#[test]
fn a_full_outbox_loses_its_oldest() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let journal = Journal::open(store.clone());
    let writes: Vec<Write> = (0..MAX_ROWS as u64)
        .map(|i| put(Table::Outbox, event(&i.to_string(), i).key(), &event(&i.to_string(), i)))
        .collect();
    store.commit(&writes).unwrap();
    let new = MAX_ROWS as u64;
    journal.commit_steps(&rollout("m", 1, None), &steps(1, None, &[event("new", new)])).unwrap();
    let waiting = waiting_for(&*store, "http://a/").unwrap();
    assert_eq!((waiting.len(), waiting[0].id.as_str()), (MAX_ROWS, "1"));
    assert_eq!(waiting[MAX_ROWS - 1].id, "new");
}

#[test]
fn an_exit_without_its_mark_is_unclean() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let start = || Journal::open(store.clone());
    assert!(start().mark_running().unwrap(), "the first start");
    assert!(!start().mark_running().unwrap(), "after a crash");
    start().mark_clean_exit().unwrap();
    assert!(start().mark_running().unwrap(), "after a clean exit");
}
