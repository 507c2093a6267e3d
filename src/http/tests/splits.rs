//! A split route as its callers and its statistics see it.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::*;
use crate::engine::RunError;
use crate::inference::PredictionId;
use crate::routing::shadow::{self, MAX_WAITING_COPIES};
use crate::routing::{Arm, Observation, Route, Sample, ShadowSample, Trip, TripCause, Weights};
use crate::testing::SplitPlane;

const BODY: &str = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;

fn with_parameters(parameters: &str) -> String {
    BODY.replacen('{', &format!(r#"{{"parameters":{parameters},"#), 1)
}

/// The model of `identity`, with another answer.
fn answering(run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, RunError> + Send + Sync + 'static) -> Arc<dyn Model> {
    FunctionModel::model(identity(DataType::Fp32).signature().clone(), run)
}

fn of_values(values: [f32; 2]) -> Arc<dyn Model> {
    answering(move |inputs| {
        let rows = inputs[0].shape()[0];
        Ok(vec![Tensor::from_elements(DataType::Fp32, vec![rows, 2], &values.repeat(rows)).unwrap()])
    })
}

fn split(candidate: Arc<dyn Model>, candidate_bp: u16) -> (Client, SplitPlane) {
    let served = SplitPlane::new(identity(DataType::Fp32), candidate);
    served.split.dial.set_weights(Weights::of_candidate(candidate_bp));
    (Client::on(served.plane.clone()), served)
}

fn samples(observations: &mut mpsc::Receiver<Observation>) -> Vec<Sample> {
    let each = |observation| match observation {
        Observation::Served(sample) => sample,
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| observations.try_recv().ok()).map(each).collect()
}

#[tokio::test]
async fn a_key_meets_the_same_arm_in_the_header_and_as_a_parameter() {
    let (client, mut served) = split(identity(DataType::Fp32), 3000);
    let mut met = BTreeSet::new();
    for number in 0..40 {
        let (key, expected) = (number.to_string(), served.arm_of(&number.to_string()));
        let (text, whole) = (format!(r#"{{"headgate-key":"{key}"}}"#), format!(r#"{{"headgate-key":{key}}}"#));
        for (headers, body) in [
            (&[("headgate-key", key.as_str())][..], BODY.to_owned()),
            (&[], with_parameters(&text)),
            (&[], with_parameters(&whole)),
        ] {
            let answer = client.post("/v2/models/m/infer", headers, body).await.ok();
            let version = if expected == Arm::Candidate { "2" } else { "1" };
            assert_eq!(
                (answer.header("headgate-arm"), answer.header("headgate-version")),
                (Some(expected.name()), Some(version))
            );
            let id: PredictionId = answer.header("headgate-prediction-id").unwrap().parse().unwrap();
            assert_eq!(id.arm(), expected.number());
            assert_eq!((&answer.json()["model_name"], &answer.json()["model_version"]), (&"m".into(), &version.into()));
        }
        let samples = samples(&mut served.observations);
        assert_eq!(samples.len(), 3);
        assert!(samples.iter().all(|sample| sample.arm == expected && sample.key == samples[0].key && !sample.error));
        met.insert(expected.name());
    }
    assert_eq!(met.len(), 3, "{met:?}");
    let pending = |arm| served.split.backend(arm).servable.stats.pending.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!([Arm::Stable, Arm::Candidate, Arm::Control].map(pending), [0; 3], "also of those that changed lanes");
}

#[tokio::test]
async fn the_other_calls_are_split_by_the_header_too() {
    let (client, served) = split(identity(DataType::Fp32), 10_000);
    for (path, body) in [
        ("/v1/models/m:predict", r#"{"instances":[[1,2]]}"#),
        ("/v2/models/m/generate", r#"{"x":[1,2],"headgate-key":"ann"}"#),
    ] {
        let answer = client.post(path, &[("headgate-key", "ann")], body).await.ok();
        assert_eq!(answer.header("headgate-arm"), Some("candidate"), "{path}");
    }
    assert_eq!(served.split.dial.observations_dropped(), 0);
}

#[tokio::test]
async fn without_a_key_requests_go_at_random_by_the_weights() {
    let (client, mut served) = split(identity(DataType::Fp32), 5000);
    fastrand::seed(7);
    for _ in 0..200 {
        client.post_json("/v2/models/m/infer", BODY).await.ok();
    }
    let samples = samples(&mut served.observations);
    let candidate = samples.iter().filter(|sample| sample.arm == Arm::Candidate).count();
    // Three sigma about one half of 200.
    assert!((79..=121).contains(&candidate), "{candidate}");
    assert!(samples.iter().all(|sample| sample.key.is_none() && sample.weights == Weights::of_candidate(5000)));
}

#[tokio::test]
async fn a_forced_arm_is_met_and_left_out_of_the_statistics() {
    let (client, mut served) = split(identity(DataType::Fp32), 1);
    let forced = [("headgate-arm", "candidate"), ("headgate-key", "ann")];
    let answer = client.post("/v2/models/m/infer", &forced, BODY).await.ok();
    assert_eq!((answer.header("headgate-arm"), answer.header("headgate-version")), (Some("candidate"), Some("2")));
    assert_eq!(samples(&mut served.observations), []);
    // Before its first step and after a rollback nobody is sent there.
    served.split.dial.shut();
    let answer = client.post("/v2/models/m/infer", &forced, BODY).await.ok();
    assert_eq!((answer.header("headgate-arm"), answer.header("headgate-version")), (Some("stable"), Some("1")));
}

#[tokio::test]
async fn who_names_a_version_or_a_label_gets_it_whatever_the_weights() {
    let (client, mut served) = split(identity(DataType::Fp32), 10_000);
    let mut serving = crate::routing::Serving {
        models: served.plane.serving.load().models.clone(),
        routes: served.plane.serving.load().routes.clone(),
    };
    Arc::make_mut(serving.models.get_mut("m").unwrap()).labels.insert("old".into(), 1);
    served.plane.publish(serving);
    for path in ["/v2/models/m/versions/1/infer", "/v2/models/m%40old/infer"] {
        let answer = client.post(path, &[("headgate-arm", "candidate")], BODY).await.ok();
        assert_eq!(
            (answer.header("headgate-arm"), answer.header("headgate-version")),
            (Some("stable"), Some("1")),
            "{path}"
        );
    }
    assert_eq!(samples(&mut served.observations), []);
    let answer = client.get("/v2/models/m").await.ok().json();
    assert_eq!(answer["versions"], serde_json::json!(["1", "2"]), "metadata is the model's own");
}

#[tokio::test]
async fn a_further_name_is_split_alone_and_echoed() {
    let (client, served) = split(identity(DataType::Fp32), 10_000);
    let route = Route { model: "m".into(), label: "stable".into(), split: Some(served.split.clone()) };
    let models = served.plane.serving.load().models.clone();
    served.plane.publish(crate::routing::Serving { models, routes: [("shop".to_owned(), Arc::new(route))].into() });
    let answer = client.post_json("/v2/models/shop/infer", BODY).await.ok();
    assert_eq!((answer.header("headgate-version"), &answer.json()["model_name"]), (Some("2"), &"shop".into()));
    let answer = client.post_json("/v2/models/m/infer", BODY).await.ok();
    assert_eq!((answer.header("headgate-version"), &answer.json()["model_name"]), (Some("1"), &"m".into()));
    for path in ["/v2/models/shop", "/v2/models/shop/config", "/v2/models/shop/ready", "/v1/models/shop"] {
        assert_eq!(client.get(path).await.ok().json()["name"], "shop", "{path}");
    }
    let stats = client.get("/v2/models/shop/stats").await.ok().json();
    assert_eq!((&stats["model_stats"][0]["name"], stats["model_stats"].as_array().unwrap().len()), (&"shop".into(), 2));
    assert_eq!(
        client.post_json("/v2/models/shop/versions/1/infer", BODY).await.ok().header("headgate-version"),
        Some("1")
    );
    client.post_json("/v2/models/shop/versions/9/infer", BODY).await.error(404);
}

#[tokio::test]
async fn a_storm_of_nan_ends_itself_and_its_answers_go_out_as_they_are() {
    let (client, mut served) = split(of_values([f32::NAN, 1.0]), 10_000);
    let mut from_candidate = 0;
    for _ in 0..40 {
        let answer = client.post("/v2/models/m/infer", &[("headgate-key", "ann")], BODY).await.ok();
        from_candidate += usize::from(answer.header("headgate-version") == Some("2"));
    }
    assert_eq!(from_candidate, 16);
    assert_eq!(served.split.dial.tripped(), Some(Trip { cause: TripCause::InvalidOutputs }));
    let samples = samples(&mut served.observations);
    let invalid = samples.iter().filter(|sample| sample.invalid).count();
    assert_eq!((samples.len(), invalid), (40, 16));
    served.split.dial.set_weights(Weights::of_candidate(10_000));
    let answer = client.post("/v2/models/m/infer", &[("headgate-arm", "candidate")], BODY).await.ok();
    assert_eq!(answer.header("headgate-version"), Some("1"), "not even by force, nor by a controller that comes late");
}

/// Under overload most requests are refused, and what few answers there are may all be bad.
#[tokio::test]
async fn refused_requests_do_not_hide_a_storm() {
    let (client, mut served) = split(of_values([f32::NAN, 1.0]), 10_000);
    for _ in 0..16 {
        for _ in 0..9 {
            client.post("/v2/models/m/infer", &[("headgate-timeout-ms", "0")], BODY).await.error(504);
        }
        client.post_json("/v2/models/m/infer", BODY).await.ok();
    }
    assert_eq!(served.split.dial.tripped(), Some(Trip { cause: TripCause::InvalidOutputs }));
    let samples = samples(&mut served.observations);
    let errors = samples.iter().filter(|sample| sample.error).count();
    assert_eq!((samples.len(), errors), (160, 144), "for the statistics they are errors");
}

#[tokio::test]
async fn a_failing_model_counts_as_errors_and_a_failing_client_does_not() {
    let panics = answering(|inputs| match inputs[0].elements::<f32>().next() {
        Some(first) if first < 0.0 => panic!("a model that panics"),
        _ => Err(RunError::Failed("a model that fails".to_owned())),
    });
    let (client, mut served) = split(panics, 10_000);
    for bad in ["{", r#"{"inputs":[]}"#, &BODY.replace("FP32", "FP64")] {
        client.post_json("/v2/models/m/infer", bad).await.error(400);
    }
    assert_eq!(samples(&mut served.observations), []);
    client.post_json("/v2/models/m/infer", BODY).await.error(500);
    client.post_json("/v2/models/m/infer", &BODY.replace("[1,2]}", "[-1,2]}")).await.error(500);
    let samples = samples(&mut served.observations);
    assert_eq!(samples.len(), 2);
    assert!(samples.iter().all(|sample| sample.error && !sample.invalid && sample.arm == Arm::Candidate));
    for _ in 0..14 {
        client.post_json("/v2/models/m/infer", BODY).await.error(500);
    }
    assert_eq!(served.split.dial.tripped(), Some(Trip { cause: TripCause::ModelFailures }));
    client.post_json("/v2/models/m/infer", BODY).await.ok();
}

async fn mirrored(
    served: &mut SplitPlane,
    copies: mpsc::Receiver<shadow::ShadowJob>,
    count: usize,
) -> Vec<ShadowSample> {
    let running = tokio::spawn(shadow::run(copies));
    let mut found = vec![];
    while found.len() < count {
        if let Observation::Mirrored(sample) = served.observations.recv().await.unwrap() {
            found.push(sample);
        }
    }
    running.abort();
    found
}

#[tokio::test]
async fn copies_are_compared_with_what_the_caller_got() {
    for (candidate, same_class, disagrees, max_abs) in [
        (of_values([1.0, 2.0]), true, false, 0.0),
        (of_values([1.0, 2.5]), true, true, 0.5),
        (of_values([3.0, 2.0]), false, true, 2.0),
    ] {
        let (client, mut served) = split(candidate, 0);
        served.split.dial.set_shadow_bp(10_000);
        let copies = std::mem::replace(&mut served.copies, mpsc::channel(1).1);
        for _ in 0..3 {
            let answer = client.post_json("/v2/models/m/infer", BODY).await.ok();
            assert_eq!(answer.header("headgate-version"), Some("1"));
        }
        for sample in mirrored(&mut served, copies, 3).await {
            assert_eq!((sample.same_class, sample.disagrees, sample.failed), (Some(same_class), disagrees, false));
            assert_eq!(sample.max_abs_difference, max_abs);
        }
        let stats = &served.split.shadow.servable.stats;
        assert_eq!((stats.success.read().0, served.split.dial.shadows_dropped()), (0, 0));
        assert_eq!(stats.execution_count.load(std::sync::atomic::Ordering::Relaxed), 3);
    }
}

#[tokio::test]
async fn a_copy_that_fails_is_told_and_the_caller_is_not() {
    let of_other_shape = answering(|_| Ok(vec![Tensor::zeros(DataType::Fp32, vec![1, 3])]));
    for candidate in [answering(|_| Err(RunError::Failed("no".to_owned()))), of_other_shape] {
        let (client, mut served) = split(candidate, 0);
        served.split.dial.set_shadow_bp(10_000);
        let copies = std::mem::replace(&mut served.copies, mpsc::channel(1).1);
        client.post_json("/v2/models/m/infer", BODY).await.ok();
        assert!(mirrored(&mut served, copies, 1).await[0].failed);
    }
}

#[tokio::test]
async fn copies_that_nobody_takes_are_dropped_and_counted() {
    let (client, served) = split(identity(DataType::Fp32), 0);
    served.split.dial.set_shadow_bp(10_000);
    for _ in 0..MAX_WAITING_COPIES + 5 {
        client.post_json("/v2/models/m/infer", BODY).await.ok();
    }
    assert_eq!(served.split.dial.shadows_dropped(), 5);
}

#[tokio::test]
async fn neither_forced_requests_nor_the_candidates_own_are_copied() {
    let (client, mut served) = split(identity(DataType::Fp32), 10_000);
    served.split.dial.set_shadow_bp(10_000);
    client.post_json("/v2/models/m/infer", BODY).await.ok();
    client.post("/v2/models/m/infer", &[("headgate-arm", "stable")], BODY).await.ok();
    assert!(served.copies.try_recv().is_err());
}
