//! A user meets one arm: on every connection, over every protocol, in every replica, after a restart and as the share
//! grows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::operator::{Site, said};
use super::quick_with;
use super::traffic::{Ask, Keyed, Served, Traffic, Wire, arms_by, arms_of, ask, dark, images, keys};
use crate::support::infer::Wires;

const KEYS: usize = 300;

const BY_PARAMETER: Keyed = Keyed { model: "", as_parameter: true };
const BY_ROUTE: Keyed = Keyed { model: "checkout", as_parameter: false };

/// Two steps, each left by an approval.
fn spec() -> Value {
    let step = |weight: u64| {
        json!({"weight_bp": weight, "min_bake": "0s", "max_bake": "100ms", "min_samples": 1, "require": "no_harm",
            "approval": {"required": true}})
    };
    quick_with(&json!({
        "assignment": {"salt": "fixed"}, "steps": [step(1000), step(4000)], "on_inconclusive": "approve",
    }))
}

fn of_version(arms: &BTreeMap<String, Served>, version: u64) -> Vec<&String> {
    arms.iter().filter(|(_, served)| served.version == version).map(|(key, _)| key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_meets_one_arm_wherever_it_comes_from() {
    let versions = [(1, "digits_cnn_v1"), (2, "digits_cnn_v2")];
    let (site, replica) = (Site::start(&versions), Site::start(&versions));
    for site in [&site, &replica] {
        site.begin(2, &spec()).await;
        site.reaches("awaiting_approval").await;
    }
    let first = arms_of(&site.server, Wire::Http, keys(KEYS)).await;
    for server in [&site.server, &replica.server] {
        for wire in Wire::BOTH {
            assert_eq!(arms_of(server, wire, keys(KEYS)).await, first, "{wire:?}");
            assert_eq!(arms_by(server, wire, keys(KEYS), BY_PARAMETER).await, first, "{wire:?}");
        }
    }
    explanations_agree(&site, &first).await;

    site.act("approve").await;
    site.sees("the second step", |view| view["step"] == 1 && view["state"] == "awaiting_approval").await;
    let second = arms_of(&site.server, Wire::Grpc, keys(KEYS)).await;
    let (before, after) = (of_version(&first, 2), of_version(&second, 2));
    assert!(before.iter().all(|key| after.contains(key)), "{before:?} {after:?}");
    // The shares themselves are the affair of other tests: here, that there are such keys at all.
    assert!(!before.is_empty() && after.len() > before.len() && after.len() < KEYS, "{} {}", before.len(), after.len());
    explanations_agree(&site, &second).await;
    // The replica is where it was.
    assert_eq!(arms_of(&replica.server, Wire::Grpc, keys(KEYS)).await, first);
    let site = site.restarted().await;
    assert_eq!(arms_of(&site.server, Wire::Http, keys(KEYS)).await, second);
}

/// `explain` says what is served.
async fn explanations_agree(site: &Site, arms: &BTreeMap<String, Served>) {
    for (key, served) in arms.iter().take(12) {
        let output = site.cli(&["rollout", "explain", key, "--json"]).await;
        let explained: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        assert_eq!((&explained["arm"], &explained["version"]), (&json!(served.arm), &json!(served.version)), "{key}");
        assert_eq!(explained["rollout"], "digits-1");
    }
}

/// Answers that a rollout has counted.
fn counted(view: &Value) -> u64 {
    view["arms"].as_array().unwrap().iter().map(|arm| arm["requests"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_chooses_an_arm_or_a_version_gets_it_and_is_left_out_of_the_statistics() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let force = json!([{"header": "x-team", "prefix": "search", "arm": "candidate"}]);
    let spec = quick_with(&json!({"assignment": {"force": force}, "steps": super::long_step(1000)}));
    site.begin(2, &spec).await;
    site.reaches("baking").await;
    let (wires, image) = (Wires::connect(&site.server).await, &dark()[0]);
    let header = |name, value| Ask { headers: vec![(name, value)], ..Ask::default() };
    for wire in Wire::BOTH {
        for (asked, version, arm) in [
            (header("headgate-arm", "candidate"), 2, Some("candidate")),
            (header("headgate-arm", "control"), 1, Some("control")),
            (header("headgate-arm", "stable"), 1, Some("stable")),
            (header("x-team", "search-eu"), 2, Some("candidate")),
            (Ask { version: "2", ..header("headgate-arm", "stable") }, 2, None),
            (Ask { version: "1", ..header("headgate-arm", "candidate") }, 1, None),
            (Ask { model: "digits@stable", ..header("headgate-arm", "candidate") }, 1, None),
        ] {
            for _ in 0..5 {
                let served = ask(&wires, wire, image, &asked).await.unwrap();
                assert_eq!(served.version, version, "{asked:?}");
                assert!(arm.is_none_or(|arm| served.arm == arm), "{asked:?}: {served:?}");
            }
        }
        ask(&wires, wire, image, &Ask::keyed("ann")).await.unwrap();
    }
    // Observations come in order: with both of ann's everything before them has come, too.
    let view = site.sees("both of ann's", |view| counted(view) >= 2).await;
    assert_eq!(counted(&view), 2, "{}", view["arms"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_further_name_is_a_route_of_its_own() {
    let config = crate::support::repository::TempDir::new();
    config.write("headgate.yaml", "routes: {checkout: {model: digits, label: checkout}}");
    let file = config.path().join("headgate.yaml");
    let labels = "labels: {stable: 1, checkout: 1}";
    let versions = [(1, "digits_cnn_v1"), (2, "digits_cnn_v2")];
    let site = Site::with(labels, &versions, &["--config", file.to_str().unwrap()]);
    let spec = site.spec_file(&quick_with(&json!({"steps": super::long_step(5000)})));
    let output = site.cli(&["rollout", "start", "checkout", "--to", "2", "--spec", &spec]).await;
    assert!(output.status.success(), "{}", said(&output));
    let split = arms_by(&site.server, Wire::Http, keys(KEYS), BY_ROUTE).await;
    assert_eq!(arms_by(&site.server, Wire::Grpc, keys(KEYS), BY_ROUTE).await, split);
    assert!(!of_version(&split, 1).is_empty() && !of_version(&split, 2).is_empty(), "{split:?}");
    let own = arms_of(&site.server, Wire::Http, keys(KEYS)).await;
    assert_eq!(of_version(&own, 1).len(), KEYS, "the model's own name is split by nobody");
    let traffic = Traffic::of(&site.server, images(), 2).await;
    let output = site.cli(&["rollout", "promote", "checkout"]).await;
    assert!(output.status.success(), "{}", said(&output));
    let watched = site.cli(&["rollout", "status", "checkout", "--watch"]).await;
    assert!(watched.status.success(), "{}", said(&watched));
    assert_eq!(traffic.ends_well().await.of_version(2), 0);
    let digits = site.server.model("digits");
    assert_eq!((&digits["labels"]["checkout"], &digits["labels"]["stable"]), (&json!(2), &json!(1)), "{digits}");
    let promoted = arms_by(&site.server, Wire::Http, keys(20), BY_ROUTE).await;
    assert_eq!(of_version(&promoted, 2).len(), 20);
}
