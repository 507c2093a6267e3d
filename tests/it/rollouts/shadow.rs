//! Copies of requests: compared with what callers got, never seen by a caller, and the first to go under load.

use serde_json::json;

use super::operator::Site;
use super::quick_with;
use super::traffic::{Traffic, images};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_are_compared_and_no_caller_meets_the_candidate() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (3, "digits_cnn_int8_dyn")]);
    let compare = json!({"atol": 0.2, "rtol": 0.1, "max_disagree_rate": 0.2});
    let shadow = json!({"percent": 50, "min_samples": 1_000_000, "max_duration": "20m", "compare": compare});
    site.begin(3, &quick_with(&json!({"shadow": shadow}))).await;
    site.reaches("shadowing").await;
    let traffic = Traffic::start(&site.server, images()).await;
    let compared = |view: &serde_json::Value| view["shadow"]["compared"].as_u64().unwrap() >= 300;
    let view = site.sees("300 comparisons", compared).await;
    let seen = traffic.ends_well().await;
    assert_eq!(seen.of_version(2), seen.all(), "{seen:?}");
    let shadow = &view["shadow"];
    let number = |key: &str| shadow[key].as_f64().unwrap_or_else(|| panic!("{key}: {shadow}"));
    // Weights of eight bits differ, and by little.
    assert!(number("max_abs_difference") > 0.0 && number("max_abs_difference") < 0.5, "{shadow}");
    assert!(number("same_class") >= 0.9 * number("compared"), "{shadow}");
    assert!(number("failed") == 0.0 && number("shadow_p50_ms") > 0.0 && number("primary_p50_ms") > 0.0, "{shadow}");
    // Half of the traffic and no more.
    assert!(number("compared") + number("dropped") < 0.6 * seen.all() as f64, "{shadow} of {}", seen.all());
    site.act("abort").await;
    assert_eq!(site.ends().await["state"], "aborted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_that_disagrees_is_rolled_back_by_its_copies() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (1, "digits_cnn_v1")]);
    let compare = json!({"atol": 1e-3, "rtol": 1e-2, "max_disagree_rate": 0.02});
    let shadow = json!({"percent": 100, "min_samples": 1000, "compare": compare});
    let traffic = Traffic::start(&site.server, images()).await;
    site.begin(1, &quick_with(&json!({"shadow": shadow}))).await;
    let end = site.ends().await;
    let seen = traffic.ends_well().await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    let cause = end["last_transition"]["cause"].as_str().unwrap();
    assert!(cause.contains("copies were answered otherwise"), "{cause}");
    assert_eq!(seen.of_version(2), seen.all(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_shadow_loses_copies_and_costs_callers_nothing() {
    let site = Site::start(&[(2, "digits_cnn_v2"), (4, "digits_cnn_v4_slow")]);
    let shadow = json!({"percent": 100, "min_samples": 1_000_000, "max_duration": "20m",
        "compare": {"atol": 2.0, "rtol": 0.0}});
    site.begin(4, &quick_with(&json!({"shadow": shadow}))).await;
    site.reaches("shadowing").await;
    let traffic = Traffic::start(&site.server, images()).await;
    traffic.answers(1500).await;
    let view = site.sees("dropped copies", |view| view["shadow"]["dropped"].as_u64().unwrap() > 0).await;
    let seen = traffic.ends_well().await;
    assert_eq!(seen.of_version(2), seen.all(), "{seen:?}");
    let stable = &view["arms"][0];
    assert!(stable["errors"] == 0, "{stable}");
    println!("slow shadow: {} answers, {}", seen.all(), view["shadow"]);
}
