//! What can't be right is refused at once, with the field and the reason, and no request meets it.

use serde_json::{Value, json};

use super::operator::{Site, said};
use super::traffic::{Traffic, images};
use super::{long_step, quick, quick_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unfit_versions_are_refused_before_any_traffic() {
    let versions = [(2, "digits_cnn_v2"), (3, "digits_cnn_v3_broken"), (5, "digits_cnn_v5_nan")];
    let site = Site::start(&versions);
    let traffic = Traffic::start(&site.server, images()).await;
    for (version, reason) in [("3", "output 'probabilities': stable has"), ("5", "not finite")] {
        let spec = site.spec_file(&quick());
        let output = site.cli(&["rollout", "start", "digits", "--to", version, "--spec", &spec]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(reason), "{text}");
        assert_eq!(site.view().await["state"], "rejected");
        traffic.answers(200).await;
    }
    let seen = traffic.ends_well().await;
    assert_eq!(seen.of_version(2), seen.all(), "{seen:?}");
    let audit = site.audit("digits-1").await;
    assert!(audit.iter().any(|entry| entry["reason"].as_str().unwrap().contains("probabilities")), "{audit:?}");
    site.audit_is_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_makes_no_sense_is_refused_with_the_field_and_the_reason() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let falling = json!([{"weight_bp": 3000}, {"weight_bp": 1000}]);
    for (name, to, spec, words) in [
        ("an unknown version", 7, quick(), ["version", "7"]),
        ("weights that don't rise", 2, quick_with(&json!({"steps": falling})), ["steps[1].weight_bp", "3000"]),
        ("an unknown key", 2, quick_with(&json!({"stepz": []})), ["stepz", "'steps'"]),
        (
            "a check without a source",
            2,
            quick_with(&json!({"analysis": {"checks": [{"event": "feedback"}]}})),
            ["analysis.checks[0].event", "feedback needs quality"],
        ),
        (
            "a check that needs copies",
            2,
            quick_with(&json!({"analysis": {"checks": [{"event": "shadow_disagreement"}]}})),
            ["analysis.checks[0]", "shadow"],
        ),
        ("a twin of its own", 1, quick(), ["candidate", "1"]),
        ("another stable version", 2, quick_with(&json!({"stable": 2})), ["stable", "2"]),
    ] {
        let answer = site.ask_start(to, &spec).await;
        let text = answer.error();
        assert!((400..500).contains(&answer.status), "{name}: {}", answer.status);
        assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
    }
    let none: Value = site.get("/admin/v1/rollouts").await;
    assert_eq!(none, json!({"rollouts": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rollout_needs_is_not_taken_away_under_it() {
    let site = Site::start(&[(1, "digits_cnn_v1"), (2, "digits_cnn_v2")]);
    let spec = quick_with(&json!({"steps": long_step(1000)}));
    let id = site.begin(2, &spec).await["id"].as_str().unwrap().to_owned();
    let second = site.ask_start(2, &spec).await;
    assert!(second.status == 409 && second.error().contains(&id), "{}", second.error());
    for args in [&["label", "digits", "stable", "2"][..], &["unload", "digits"]] {
        let output = site.cli(args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(&id), "{args:?}: {}", said(&output));
    }
    assert_eq!(site.server.model("digits")["labels"]["stable"], 1);
    site.act("abort").await;
    assert_eq!(site.ends().await["state"], "aborted");
    assert!(site.cli(&["label", "digits", "stable", "2"]).await.status.success());
}
