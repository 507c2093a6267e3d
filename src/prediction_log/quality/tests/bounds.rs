//! What is kept has an end.

use super::*;

#[test]
fn the_oldest_predictions_make_room_and_the_figures_keep_them() {
    let bounds = Bounds { max_predictions: 3, ..Bounds::default() };
    let (mut join, plan) = (Join::new(bounds), plan(settings(Task::Classification)));
    for n in 1..=5 {
        see(&mut join, &plan, n, of_class(1), None);
        join.tell(&about(n), told("label", 1.0, 9, 9));
    }
    join.tell(&about(1), told("label", 0.0, 10, 10));
    let figures = report(&join).figures;
    assert_eq!((figures.predicted, figures.labelled, figures.accuracy), (5, 5, Some(1.0)));
    let fill = join.fill();
    assert_eq!((fill.predictions, fill.forgotten, fill.early), (3, 2, 1));
}

#[test]
fn memory_is_a_bound_too() {
    let bounds = Bounds { max_bytes: 100_000, ..Bounds::default() };
    let (mut join, plan) = (Join::new(bounds), plan(settings(Task::Classification)));
    (0..10_000).for_each(|n| see(&mut join, &plan, n, of_class(1), None));
    let held = join.fill().predictions;
    assert!((100..1_000).contains(&held), "{held}");
    assert_eq!(held as u64 + join.fill().forgotten, 10_000);
}

#[test]
fn early_feedback_makes_room_for_younger() {
    let bounds = Bounds { max_early: 2, ..Bounds::default() };
    let (mut join, plan) = (Join::new(bounds), plan(settings(Task::Classification)));
    (1..=3).for_each(|n| join.tell(&about(n), told("label", 1.0, 0, 0)));
    assert_eq!((join.fill().early, join.fill().dropped), (2, 1));
    (1..=3).for_each(|n| see(&mut join, &plan, n, of_class(1), None));
    assert_eq!((report(&join).figures.labelled, join.fill().early), (2, 0));
    (0..100).for_each(|n| join.tell(&about(9), told("label", f64::from(n), 0, 0)));
    assert_eq!(join.fill().early, 2);
}

#[test]
fn labels_that_become_known_later_do_not_pile_up_behind_predictions_that_are_gone() {
    let bounds = Bounds { max_predictions: 10, ..Bounds::default() };
    let (mut join, plan) = (Join::new(bounds), clicks(Exposure::Assumed));
    (1..=1000).for_each(|n| {
        join.see(Sight {
            plan: &plan,
            model: "m",
            version: 1,
            arm: Arm::Stable,
            id: id(n),
            row: 0,
            request: "",
            ended_us: SECOND,
            rollout: None,
            rows: 1,
            instances: vec![scored(0.5)],
        });
    });
    assert!(join.waiting() <= 21, "{}", join.waiting());
    join.tick(100 * SECOND);
    assert_eq!(report(&join).figures.labelled, 10);
}

#[test]
fn the_version_that_was_not_asked_for_longest_makes_room() {
    let bounds = Bounds { max_groups: 2, ..Bounds::default() };
    let (mut join, plan) = (Join::new(bounds), plan(settings(Task::Classification)));
    for (n, version) in [(1, 1), (2, 2), (3, 1), (4, 3)] {
        join.see(Sight {
            plan: &plan,
            model: "m",
            version,
            arm: Arm::Stable,
            id: id(n),
            row: 0,
            request: "",
            ended_us: n as i64 * SECOND,
            rollout: None,
            rows: 1,
            instances: vec![of_class(1)],
        });
    }
    let versions: Vec<u64> = join.groups().map(|group| group.version).collect();
    assert_eq!(versions, [1, 3]);
    join.tell(&about(2), told("label", 1.0, 9, 9));
    assert!(join.groups().all(|group| group.report().figures.labelled == 0));
}
