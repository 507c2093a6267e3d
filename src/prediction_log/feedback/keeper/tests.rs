use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

use super::super::item::Value;
use super::super::testing::{GATEWAY, Kept, item, parts, prediction_of};
use super::*;

/// 2026-03-01T12:00:00Z.
const NOW_US: i64 = 1_772_366_400_000_000;

fn keeper() -> (Keeper, Kept) {
    let (parts, kept) = parts();
    (Keeper::new(parts), kept)
}

fn call(items: Vec<Feedback>) -> (Call, Receiver<Result<Counts>>) {
    let (answer, answered) = oneshot::channel();
    (Call { items, answer }, answered)
}

/// One call with these items, answered at once.
fn take(keeper: &mut Keeper, items: Vec<Feedback>, now_us: i64) -> Result<Counts> {
    let (call, mut answered) = call(items);
    keeper.take([call], now_us);
    answered.try_recv().expect("it is answered at once")
}

fn about(row: u64, value: f64) -> Feedback {
    item(Subject::Prediction(prediction_of(GATEWAY, 1, 0).row(row)), value, NOW_US)
}

fn of_request(request: &str, row: u32) -> Feedback {
    item(Subject::Request { id: request.to_owned(), row }, 1.0, NOW_US)
}

#[test]
fn the_arm_and_version_in_the_id_are_credited() {
    let (mut keeper, kept) = keeper();
    for (slot, arm) in [(1, 0), (2, 1), (1, 2), (2, 3), (9, 1)] {
        let subject = Subject::Prediction(prediction_of(GATEWAY, slot, arm).row(3));
        take(&mut keeper, vec![item(subject, 1.0, NOW_US)], NOW_US).unwrap();
    }
    let expected = [
        "m 10 stable label 1",
        "m 20 candidate label 1",
        "m 10 control label 1",
        "m 20 shadow label 1",
        "m 90 candidate label 1",
    ];
    assert_eq!(kept.rows(), expected);
}

#[test]
fn what_is_not_known_here_is_kept_without_a_credit() {
    let (mut keeper, kept) = keeper();
    let other_gateway = Subject::Prediction(prediction_of(GATEWAY + 1, 1, 0));
    let no_slot = Subject::Prediction(prediction_of(GATEWAY, 10, 0));
    let items = vec![item(other_gateway, 1.0, NOW_US), item(no_slot, 1.0, NOW_US), about(1, 1.0)];
    assert_eq!(take(&mut keeper, items, NOW_US).unwrap(), Counts { accepted: 3, unknown: 2 });
    assert_eq!(kept.written().iter().filter(|row| row.credit.is_none()).count(), 2);
    assert!(kept.written().iter().all(|row| row.prediction.is_some()));
}

#[test]
fn a_row_that_the_request_did_not_have_is_nobodys() {
    let (parts, kept) = parts();
    let batches = parts.batches.clone();
    let mut keeper = Keeper::new(parts);
    let first = prediction_of(GATEWAY, 3, 0);
    batches.remember(first, 3);
    let row = |row| item(Subject::Prediction(first.row(row)), 1.0, NOW_US);
    let counts = take(&mut keeper, vec![row(2), row(3)], NOW_US).unwrap();
    assert_eq!(counts, Counts { accepted: 2, unknown: 1 });
    assert_eq!(kept.rows(), ["m 30 stable label 1", "nobody label 1"]);
    // By the request's id, which stands for two rows.
    let counts = take(&mut keeper, vec![of_request("seen", 1), of_request("seen", 2)], NOW_US + 1_000_000).unwrap();
    assert_eq!(counts, Counts { accepted: 2, unknown: 1 });
    assert_eq!(kept.written().iter().filter(|row| row.prediction.is_none()).count(), 1);
}

#[test]
fn a_row_of_a_known_request_is_judged_as_its_prediction() {
    let (mut keeper, kept) = keeper();
    take(&mut keeper, vec![of_request("seen", 1)], NOW_US).unwrap();
    let prediction = prediction_of(GATEWAY, 1, 0).row(1001);
    assert_eq!(kept.items()[0].subject, Subject::Prediction(prediction));
    let row = &kept.written()[0];
    assert_eq!((row.prediction, &row.feedback.subject), (Some(prediction), &of_request("seen", 1).subject));
}

#[test]
fn feedback_that_overtakes_its_prediction_waits_for_it_a_little() {
    let (mut keeper, kept) = keeper();
    let (early, mut answered) = call(vec![of_request("soon", 0)]);
    keeper.take([early], NOW_US + 1);
    assert!(keeper.has_early() && answered.try_recv().is_err());
    keeper.parts.requests.remember("soon", prediction_of(GATEWAY, 2, 0), 1);
    keeper.take([], NOW_US + 2);
    assert_eq!(answered.try_recv().unwrap().unwrap(), Counts { accepted: 1, unknown: 0 });
    assert_eq!(kept.rows(), ["m 20 stable label 1"]);
    assert!(!keeper.has_early());
}

#[test]
fn feedback_on_a_request_that_never_comes_is_kept_after_a_while() {
    let (mut keeper, kept) = keeper();
    let (unknown, mut answered) = call(vec![of_request("never", 0)]);
    keeper.take([unknown], NOW_US);
    keeper.take([], NOW_US + EARLY_PATIENCE_US - 1);
    assert!(answered.try_recv().is_err());
    keeper.take([], NOW_US + EARLY_PATIENCE_US);
    assert_eq!(answered.try_recv().unwrap().unwrap(), Counts { accepted: 1, unknown: 1 });
    assert_eq!(kept.written()[0].prediction, None);
    let (set_back, mut answered) = call(vec![of_request("never", 1)]);
    keeper.take([set_back], NOW_US - 3_600_000_000);
    assert!(answered.try_recv().unwrap().is_ok(), "a clock that was set back is not waited for");
}

#[test]
fn nothing_waits_beyond_the_end() {
    let (mut keeper, kept) = keeper();
    let (unknown, mut answered) = call(vec![of_request("never", 0)]);
    keeper.take([unknown], NOW_US);
    keeper.close_all(NOW_US);
    assert!(answered.try_recv().unwrap().is_ok());
    assert!(kept.is_closed() && kept.written().len() == 1);
}

#[test]
fn no_two_items_are_received_at_the_same_time() {
    let (mut keeper, kept) = keeper();
    take(&mut keeper, vec![about(1, 0.0), about(1, 1.0), about(1, 2.0)], NOW_US).unwrap();
    take(&mut keeper, vec![about(1, 3.0)], NOW_US - 5).unwrap();
    let received: Vec<i64> = kept.items().iter().map(|item| item.received_us - NOW_US).collect();
    assert_eq!(received, [0, 1, 2, 3]);
}

#[test]
fn what_the_disk_refused_is_no_repeat_when_it_comes_again() {
    let (mut keeper, kept) = keeper();
    kept.refuse(true);
    let ((first, mut first_answer), (second, mut second_answer)) =
        (call(vec![about(1, 1.0)]), call(vec![about(1, 1.0)]));
    keeper.take([first, second], NOW_US);
    for answer in [&mut first_answer, &mut second_answer] {
        let error = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "feedback can't be written now: the disk refused it");
    }
    assert!(kept.rows().is_empty());
    kept.refuse(false);
    take(&mut keeper, vec![about(1, 1.0)], NOW_US).unwrap();
    assert_eq!(kept.rows(), ["m 10 stable label 1"]);
}

/// What a reader makes of the table: of rows with one id the first received counts, and of what is left the last received
/// of a prediction and name.
fn state(rows: &[Row]) -> BTreeMap<(PredictionId, String), f64> {
    let mut first: HashMap<FeedbackId, &Row> = HashMap::new();
    for row in rows {
        let held = first.entry(row.id).or_insert(row);
        if row.feedback.received_us < held.feedback.received_us {
            *held = row;
        }
    }
    let mut latest: Vec<&Row> = first.into_values().collect();
    latest.sort_by_key(|row| row.feedback.received_us);
    let number = |value: &Value| if let Value::Number(number) = value { *number } else { f64::NAN };
    let entry = |row: &Row| ((row.prediction.unwrap(), row.feedback.name.clone()), number(&row.feedback.value));
    latest.into_iter().map(entry).collect()
}

#[test]
fn feedback_arrives_after_the_moment_up_to_which_all_is_known() {
    let (mut keeper, kept) = keeper();
    take(&mut keeper, vec![about(1, 1.0), about(2, 1.0)], NOW_US).unwrap();
    // The clock is set back, stands still and goes on.
    for (at, value) in [(-5, 2.0), (0, 3.0), (9, 4.0)] {
        keeper.tick(NOW_US + at);
        let known_us = kept.known_until_us();
        let (before, after) = (kept.written().len(), NOW_US + at - 1);
        assert!(kept.written().iter().all(|row| row.feedback.received_us < known_us));
        take(&mut keeper, vec![about(1, value)], after).unwrap();
        assert!(kept.written()[before..].iter().all(|row| row.feedback.received_us >= known_us));
    }
    assert_eq!(kept.known_until_us(), NOW_US + 9);
}

/// Items about few predictions, early and late, so that many revise or repeat one another.
fn items() -> impl Strategy<Value = Vec<Feedback>> {
    let one = (0u64..3, 0u8..3, -3i64..3, any::<bool>()).prop_map(|(row, value, at, is_click)| Feedback {
        name: if is_click { "click" } else { "label" }.to_owned(),
        event_us: NOW_US + at,
        ..about(row, f64::from(value))
    });
    proptest::collection::vec(one, 0..40)
}

proptest! {
    /// Whatever the order in which feedback comes, and however it is cut into calls, the last that is new wins.
    #[test]
    fn the_last_that_is_new_wins(items in items(), sizes in proptest::collection::vec(1usize..5, 40)) {
        let (mut keeper, kept) = keeper();
        let mut expected = BTreeMap::new();
        let mut seen = std::collections::HashSet::new();
        for item in &items {
            if seen.insert(item.id()) {
                let (Subject::Prediction(id), Value::Number(value)) = (&item.subject, &item.value) else { panic!() };
                expected.insert((*id, item.name.clone()), *value);
            }
        }
        let (mut rest, mut now_us) = (&items[..], NOW_US);
        for size in sizes {
            let (now, later) = rest.split_at(size.min(rest.len()));
            take(&mut keeper, now.to_vec(), now_us).unwrap();
            (rest, now_us) = (later, now_us + 1);
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(kept.written().len(), seen.len());
        prop_assert_eq!(state(&kept.written()), expected);
    }

    /// Repeats change nothing: neither within one process nor when another one, which remembers nothing, writes them again.
    #[test]
    fn repeats_change_nothing(items in items(), again in proptest::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let (mut once, kept_once) = keeper();
        take(&mut once, items.clone(), NOW_US).unwrap();
        let repeats: Vec<Feedback> =
            again.iter().filter(|_| !items.is_empty()).map(|index| index.get(&items).clone()).collect();
        let count = kept_once.written().len();
        take(&mut once, repeats.clone(), NOW_US + 10).unwrap();
        prop_assert_eq!(kept_once.written().len(), count);

        let (mut restarted, kept_again) = keeper();
        take(&mut restarted, repeats, NOW_US + 1_000_000).unwrap();
        // In the order of files, which is not that of receipt.
        let rows: Vec<Row> = kept_again.written().into_iter().chain(kept_once.written()).collect();
        prop_assert_eq!(state(&rows), state(&kept_once.written()));
    }
}
