//! The load generator's arithmetic: when requests are due, and what is counted of them.

#[path = "../../benches/load/outcome.rs"]
mod outcome;
#[path = "../../benches/load/schedule.rs"]
mod schedule;

use std::time::Duration;

use serde_json::{Value, json};

use outcome::{Kind, Tally};
use schedule::{Arrivals, Schedule};

const MS: Duration = Duration::from_millis(1);

#[test]
fn even_gaps_do_not_drift() {
    let mut schedule = Schedule::new(Arrivals::Even, 3000.0, || 0.5);
    assert_eq!(schedule.next(), Some(Duration::ZERO));
    // The millionth after the first.
    let late = schedule.nth(999_999).unwrap();
    assert!((late.as_secs_f64() - 1e6 / 3000.0).abs() < 1e-6, "{late:?}");
}

#[test]
fn poisson_gaps_have_the_mean_and_the_spread_of_the_exponential_distribution() {
    let mut random = fastrand::Rng::with_seed(7);
    let times: Vec<f64> =
        Schedule::new(Arrivals::Poisson, 500.0, || random.f64()).take(200_000).map(|time| time.as_secs_f64()).collect();
    assert!(times.is_sorted());
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    assert!((mean * 500.0 - 1.0).abs() < 0.01, "{mean}");
    // Mean and standard deviation are equal.
    assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
}

#[test]
fn each_end_is_counted_as_what_it_is() {
    let mut tally = Tally::new(None);
    for ms in 1..=100 {
        tally.record(Duration::ZERO, MS * ms, Kind::Answered);
    }
    tally.record(Duration::ZERO, MS * 3, Kind::Refused);
    tally.record(Duration::ZERO, MS, Kind::Failed("500: no"));
    tally.record(Duration::ZERO, MS, Kind::Failed("500: no"));
    tally.overflow = 4;
    let result = tally.result(2.0);
    assert_eq!(tally.ended(), 103);
    assert_eq!([&result["ok"], &result["refused"], &result["failed"], &result["overflow"]], [100, 1, 2, 4]);
    // Only answers are throughput, and only their times are latencies.
    assert_eq!(result["rps"], 50.0);
    assert_eq!(result["errors"]["500: no"], 2);
    let near = |value: &Value, ms: f64| (value.as_f64().unwrap() / 1000.0 - ms).abs() < 0.1;
    assert!(near(&result["latency_us"]["p50"], 50.0), "{result}");
    assert!(near(&result["latency_us"]["p99"], 99.0), "{result}");
    assert!(near(&result["refused_latency_us"]["max"], 3.0), "{result}");
}

#[test]
fn windows_hold_what_was_meant_for_them() {
    let mut tally = Tally::new(Some(MS * 100));
    tally.record(MS * 20, MS * 5, Kind::Answered);
    tally.record(MS * 99, MS * 700, Kind::Answered);
    tally.record(MS * 250, MS, Kind::Refused);
    let windows = tally.result(1.0)["windows"].clone();
    assert_eq!(windows.as_array().unwrap().len(), 3);
    assert_eq!((&windows[0]["ok"], &windows[0]["max_us"]), (&json!(2), &json!(700_000)));
    assert_eq!((&windows[1]["ok"], &windows[1]["p50_us"]), (&json!(0), &Value::Null));
    assert_eq!(windows[2]["refused"], 1);
}

#[test]
fn threads_add_up_and_texts_are_bounded() {
    let (mut one, mut two) = (Tally::new(None), Tally::new(None));
    one.record(Duration::ZERO, MS, Kind::Answered);
    two.record(Duration::ZERO, MS * 9, Kind::Answered);
    for number in 0..30 {
        two.record(Duration::ZERO, MS, Kind::Failed(&number.to_string()));
    }
    one.add(&two);
    let result = one.result(1.0);
    assert_eq!((&result["ok"], &result["failed"]), (&json!(2), &json!(30)));
    assert_eq!(result["errors"]["other"], 10);
}
