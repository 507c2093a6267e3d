//! The same events in any order come to the same figures.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Seen(u64),
    Told { n: u64, by_request: bool, name: &'static str, value: u8, event_s: i64, received_s: i64, weight: u8 },
    Tick(i64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let name = prop_oneof![Just("click"), Just("click"), Just("shown"), Just("noise")];
    let told = (0u64..6, any::<bool>(), name, 0u8..3, 0i64..40, 0i64..8, 1u8..3);
    prop_oneof![
        1 => (0u64..6).prop_map(Event::Seen),
        4 => told.prop_map(|(n, by_request, name, value, event_s, received_s, weight)| {
            Event::Told { n, by_request, name, value, event_s, received_s, weight }
        }),
        1 => (0i64..60).prop_map(Event::Tick),
    ]
}

fn apply(join: &mut Join, plan: &Arc<Plan>, event: &Event) {
    match event {
        Event::Seen(n) => see(join, plan, *n, scored(0.1 + 0.1 * *n as f64), None),
        Event::Told { n, by_request, name, value, event_s, received_s, weight } => {
            let row = Subject::Request { id: format!("request-{n}"), row: 0 };
            let subject = if *by_request { row } else { about(*n) };
            let told = told(name, f64::from(*value), *event_s, *received_s);
            join.tell(&subject, Told { weight: Weight::of(Some(f64::from(*weight))), ..told });
        }
        Event::Tick(s) => join.tick(s * SECOND),
    }
}

fn outcome(plan: &Arc<Plan>, events: &[Event]) -> QualityReport {
    let mut join = join();
    events.iter().for_each(|event| apply(&mut join, plan, event));
    // In the end all is known that ever will be.
    (0..6).for_each(|n| apply(&mut join, plan, &Event::Seen(n)));
    join.tick(8 * 24 * 3600 * SECOND);
    report(&join)
}

fn any_plan() -> impl Strategy<Value = Arc<Plan>> {
    prop_oneof![
        Just(clicks(Exposure::Assumed)),
        Just(clicks(Exposure::Feedback("shown".into()))),
        Just(plan(QualitySettings { feedback: "click".into(), ..settings(Task::Classification) })),
        Just(plan(QualitySettings { feedback: "click".into(), ..settings(Task::Regression) })),
    ]
}

proptest! {
    #[test]
    fn early_late_repeated_and_revised_feedback_comes_to_the_same(
        plan in any_plan(),
        events in prop::collection::vec(any_event(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut shuffled = events.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let in_order = outcome(&plan, &events);
        prop_assert_eq!(&in_order, &outcome(&plan, &shuffled));
        let twice: Vec<Event> = shuffled.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
        prop_assert_eq!(in_order, outcome(&plan, &twice));
    }

    /// Against the plainest join there is: for each prediction the value that was received last.
    #[test]
    fn the_figures_are_those_of_a_join_after_the_fact(events in prop::collection::vec(any_event(), 1..60)) {
        let plan = plan(QualitySettings { feedback: "click".into(), ..settings(Task::Regression) });
        let got = outcome(&plan, &events).figures;
        let mut errors = vec![];
        for n in 0..6u64 {
            let labels = events.iter().filter_map(|event| match event {
                Event::Told { n: of, name: "click", value, received_s, weight, .. } if *of == n => {
                    Some((*received_s, *value, *weight))
                }
                _ => None,
            });
            if let Some((_, value, weight)) = labels.max() {
                errors.push(((0.1 + 0.1 * n as f64 - f64::from(value)).abs(), f64::from(weight)));
            }
        }
        prop_assert_eq!((got.predicted, got.labelled), (6, errors.len() as u64));
        let sum = errors.iter().map(|(error, weight)| error * weight).sum::<f64>();
        let mean = sum / errors.iter().map(|(_, weight)| weight).sum::<f64>();
        prop_assert!(errors.is_empty() || (got.mae.unwrap() - mean).abs() < 1e-12, "{:?} {}", got.mae, mean);
    }
}
