//! One thing at a time.

use super::*;

#[test]
fn a_label_counts_once_and_a_revised_one_takes_its_place() {
    let (mut join, plan) = (join(), plan(settings(Task::Classification)));
    see(&mut join, &plan, 1, of_class(3), None);
    see(&mut join, &plan, 2, of_class(4), None);
    join.tell(&about(1), told("label", 3.0, 5, 5));
    join.tell(&about(1), told("label", 3.0, 5, 5));
    let figures = report(&join).figures;
    assert_eq!((figures.predicted, figures.labelled, figures.accuracy), (2, 1, Some(1.0)));
    assert_eq!(figures.labelled_ratio, Some(0.5));
    join.tell(&about(1), told("label", 4.0, 5, 9));
    assert_eq!(report(&join).figures.accuracy, Some(0.0));
    join.tell(&about(1), told("label", 3.0, 5, 7));
    assert_eq!(report(&join).figures.accuracy, Some(0.0), "it came in before the one that counts");
    assert_eq!(report(&join).figures.labelled, 1);
}

#[test]
fn feedback_may_come_first_and_name_the_request() {
    let (mut join, plan) = (join(), plan(settings(Task::Regression)));
    join.tell(&about(1), told("label", 2.0, 0, 0));
    let row = Subject::Request { id: "request-2".into(), row: 0 };
    join.tell(&row, told("label", 2.0, 0, 0));
    join.tell(&Subject::Request { id: "request-2".into(), row: 1 }, told("label", 2.0, 0, 0));
    assert_eq!(join.fill().early, 3);
    see(&mut join, &plan, 1, scored(1.0), None);
    see(&mut join, &plan, 2, scored(4.0), None);
    let figures = report(&join).figures;
    assert_eq!((figures.labelled, figures.mae, figures.rmse), (2, Some(1.5), Some(2.5f64.sqrt())));
    assert_eq!(join.fill().early, 1, "another row");
}

#[test]
fn a_label_counts_by_its_weight_and_a_revision_brings_its_own() {
    let (mut join, plan) = (join(), plan(settings(Task::Regression)));
    let of_weight = |value, weight, received_s| Told {
        weight: Weight::of(Some(weight)),
        ..told("label", value, received_s, received_s)
    };
    see(&mut join, &plan, 1, scored(0.0), None);
    see(&mut join, &plan, 2, scored(0.0), None);
    join.tell(&about(1), of_weight(1.0, 3.0, 5));
    join.tell(&about(2), told("label", 5.0, 5, 5));
    let figures = report(&join).figures;
    assert_eq!((figures.labelled, figures.label_weight, figures.mae), (2, 4.0, Some(2.0)));
    assert_eq!(figures.labelled_ratio, Some(1.0), "a share of predictions");
    join.tell(&about(1), of_weight(1.0, 0.0, 6));
    let figures = report(&join).figures;
    assert_eq!((figures.labelled, figures.label_weight, figures.mae), (2, 1.0, Some(5.0)));
}

#[test]
fn how_long_labels_take_is_told_of_predictions_that_are_old_enough() {
    const HOUR: i64 = 3600;
    let shares = |join: &Join| report(join).label_delay.into_iter().map(|of| of.share).collect::<Vec<_>>();
    let (mut join, plan) = (join(), plan(settings(Task::Regression)));
    (1..=4).for_each(|n| see(&mut join, &plan, n, scored(0.0), None));
    join.tell(&about(1), told("label", 1.0, 60, 60));
    join.tell(&about(1), told("label", 2.0, 60, 5 * HOUR));
    assert_eq!(shares(&join), [None; 3]);
    join.tick(2 * HOUR * SECOND);
    assert_eq!(shares(&join), [Some(0.25), None, None], "a revision is no second label");
    join.tell(&about(2), told("label", 1.0, 5 * HOUR, 5 * HOUR));
    join.tick(8 * 24 * HOUR * SECOND);
    assert_eq!(shares(&join), [Some(0.25), Some(0.5), Some(0.5)]);
}

#[test]
fn a_label_that_time_decides_has_come_when_that_is_over() {
    let (mut join, plan) = (join(), clicks(Exposure::Feedback("shown".into())));
    (1..=2).for_each(|n| see(&mut join, &plan, n, scored(0.5), None));
    join.tell(&about(1), told("shown", 1.0, 3, 3));
    join.tick(8 * 24 * 3600 * SECOND);
    let delays = report(&join).label_delay;
    assert!(delays.iter().all(|of| (of.predictions, of.share) == (2, Some(0.5))), "{delays:?}");
}

#[test]
fn what_another_name_or_another_kind_says_is_no_label() {
    let (mut join, plan) = (join(), plan(settings(Task::Regression)));
    see(&mut join, &plan, 1, scored(1.0), None);
    join.tell(&about(1), told("thumbs", 1.0, 2, 2));
    let word = Told { value: Value::Label("high".into()), ..told("label", 0.0, 2, 2) };
    join.tell(&about(1), word);
    assert_eq!((report(&join).figures.labelled, join.fill().unreadable), (0, 1));
}

#[test]
fn an_answer_that_cannot_be_read_is_counted_as_that() {
    let (mut join, plan) = (join(), plan(settings(Task::Regression)));
    see(&mut join, &plan, 1, Instance { prediction: None, segments: vec![] }, None);
    join.tell(&about(1), told("label", 1.0, 2, 2));
    let report = report(&join);
    assert_eq!((report.figures.predicted, report.unreadable, report.figures.labelled), (1, 1, 0));
}

#[test]
fn without_a_click_a_label_is_unknown_until_its_time_and_then_negative() {
    let (mut join, plan) = (join(), clicks(Exposure::Assumed));
    for n in 1..=4 {
        see(&mut join, &plan, n, scored(0.5), None);
    }
    join.tell(&about(1), told("click", 1.0, 2, 2));
    join.tick(10 * SECOND);
    assert_eq!(report(&join).figures.click_rate, None, "a quick click counts no sooner than its absence would");
    join.tick(14 * SECOND + 1);
    let figures = report(&join).figures;
    assert_eq!((figures.labelled, figures.click_rate), (3, Some(1.0 / 3.0)), "the last second is not over");
    join.tick(15 * SECOND);
    assert_eq!(report(&join).figures.click_rate, Some(0.25));
    join.tell(&about(2), told("click", 1.0, 60, 60));
    let figures = report(&join).figures;
    assert_eq!((figures.labelled, figures.click_rate), (4, Some(0.5)), "late, and not too late");
}

#[test]
fn what_was_not_shown_stays_unknown() {
    let (mut join, plan) = (join(), clicks(Exposure::Feedback("shown".into())));
    for n in 1..=3 {
        see(&mut join, &plan, n, scored(0.5), None);
    }
    join.tell(&about(1), told("shown", 1.0, 20, 20));
    join.tell(&about(1), told("shown", 1.0, 22, 22));
    join.tell(&about(2), told("click", 1.0, 25, 25));
    let figures = report(&join).figures;
    assert_eq!((figures.predicted, figures.exposed, figures.labelled), (3, 2, 0), "who clicks has seen it");
    join.tick(29 * SECOND);
    assert_eq!(report(&join).figures.labelled, 0);
    join.tick(1000 * SECOND);
    let figures = report(&join).figures;
    assert_eq!((figures.labelled, figures.labelled_ratio, figures.click_rate), (2, Some(1.0), Some(0.5)));
}

#[test]
fn each_version_and_arm_and_segment_has_figures_of_its_own() {
    let plan = plan(QualitySettings { segments: vec!["in_region".into()], ..settings(Task::Classification) });
    let mut join = join();
    for n in 0..120u64 {
        let value = if n < 60 { "eu".to_owned() } else { format!("v{n}") };
        let instance = Instance { segments: vec![value], ..of_class(1) };
        see(&mut join, &plan, n, instance, None);
        join.tell(&about(n), told("label", if n < 30 { 0.0 } else { 1.0 }, 200, 200));
    }
    let report = report(&join);
    assert_eq!(report.figures.accuracy, Some(0.75));
    let eu = &report.segments[0];
    assert_eq!((eu.column.as_str(), eu.value.as_str(), eu.figures.accuracy), ("in_region", "eu", Some(0.5)));
    let other = report.segments.last().unwrap();
    assert_eq!((other.value.as_str(), other.figures.predicted, report.segments.len()), ("other", 11, 51));
    assert_eq!(report.segments.iter().map(|of| of.figures.labelled).sum::<u64>(), 120);
}

#[test]
fn other_settings_begin_anew() {
    let (mut join, first) = (join(), plan(settings(Task::Classification)));
    see(&mut join, &first, 1, of_class(1), None);
    let second = plan(QualitySettings { feedback: "truth".into(), ..settings(Task::Classification) });
    see(&mut join, &second, 2, of_class(1), None);
    join.tell(&about(1), told("label", 1.0, 3, 3));
    join.tell(&about(2), told("truth", 1.0, 3, 3));
    let report = report(&join);
    assert_eq!((report.feedback.as_str(), report.figures.predicted, report.figures.labelled), ("truth", 1, 1));
    let same = plan(QualitySettings { feedback: "truth".into(), ..settings(Task::Classification) });
    see(&mut join, &same, 3, of_class(1), None);
    assert_eq!(super::report(&join).figures.predicted, 2, "equal settings are the same");
}
