//! Labels decide a rollout where nothing else can tell the versions apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::site::Site;
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::repository::TempDir;
use crate::support::zoo;

const CLIENTS: usize = 4;

/// Dimmed images, of which version 1 gets almost half wrong and version 2 hardly any, and what they show.
fn labelled() -> Vec<(String, u32)> {
    let case = zoo::case("digits_cnn_v2", "b32");
    let (_, images) = zoo::inputs("digits_cnn_v2", "b32").remove(0);
    let images: Vec<f32> = images.elements::<f32>().collect();
    let probabilities: Vec<f32> = case.outputs["probabilities"].elements::<f32>().collect();
    let best = |row: &[f32]| (0..10).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
    let body = |image: &[f32]| {
        let data: Vec<String> = image.iter().map(|pixel| (pixel * 0.5).to_string()).collect();
        format!(r#"{{"inputs":[{{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":[{}]}}]}}"#, data.join(","))
    };
    images.chunks(64).zip(probabilities.chunks(10)).map(|(image, row)| (body(image), best(row))).collect()
}

/// Clients that ask and, a while later, tell what was right.
struct Labelling {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Labelling {
    fn start(site: &Site) -> Self {
        let (stop, cases) = (Arc::new(AtomicBool::new(false)), Arc::new(labelled()));
        let client = |number: usize| {
            let (http, stop, cases) = (Http::new(site.server.http), stop.clone(), cases.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    let mut truths: Vec<Value> = vec![];
                    for (position, (body, truth)) in cases.iter().enumerate() {
                        let request =
                            http::Request::post("/").header("headgate-key", format!("{number}-{round}-{position}"));
                        let answer = http.send(request, "/v2/models/digits/infer", body.clone()).await.unwrap();
                        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
                        let id = answer.header("headgate-prediction-id");
                        truths.push(json!({"prediction_id": id, "name": "digit", "value": truth}));
                    }
                    let told = http.post_json("/v2/feedback", &json!(truths)).await;
                    assert_eq!(told.status, 200, "{}", String::from_utf8_lossy(&told.body));
                    if stop.load(SeqCst) {
                        return;
                    }
                }
            })
        };
        Self { clients: (0..CLIENTS).map(client).collect(), stop }
    }

    async fn ends_well(self) {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

async fn rollout(from: u64, to: u64) -> (Site, Value) {
    let repository = TempDir::new();
    let model_yaml = json!({
        "labels": {"stable": from},
        "version_policy": {"all": {}},
        "quality": {"task": "classification", "output": "probabilities", "feedback": "digit"},
    });
    repository.write("digits/model.yaml", model_yaml.to_string());
    repository.add_with_manifest("digits_cnn_v1", "digits", 1);
    repository.add_with_manifest("digits_cnn_v2", "digits", 2);
    let site = Site::start(repository, &json!({"sync_interval": "50ms"}));
    let labelling = Labelling::start(&site);
    let step = |bp: u64| json!({"weight_bp": bp, "min_bake": "100ms", "max_bake": "60s", "min_samples": 50, "require": "safe"});
    let spec = json!({"steps": [step(3000), step(10000)], "analysis": {"checks": [{"event": "feedback"}]}, "promote": {"watch": "1s"}});
    let body = json!({"route": "digits", "to": to, "spec": spec}).to_string();
    let request = http::Request::post("/").header("content-type", "application/json");
    let started = site.server.admin_http().send(request, "/admin/v1/rollouts", body).await.unwrap();
    assert_eq!(started.status, 200, "{}", String::from_utf8_lossy(&started.body));
    let end = eventually("the rollout's end", async || {
        let view = site.server.admin_http().get("/admin/v1/rollouts/digits").await.json();
        if view["ended"] == true {
            Ok(view)
        } else {
            Err(format!("{} {} {}", view["state"], view["waiting_for"], view["checks"]))
        }
    })
    .await;
    labelling.ends_well().await;
    (site, end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_that_is_valid_but_worse_is_rolled_back_by_feedback() {
    let (site, end) = rollout(2, 1).await;
    assert_eq!(end["state"], "rolled_back", "{end}");
    assert_eq!(end["checks"][0]["event"], "feedback", "{end}");
    assert_eq!(site.server.model("digits")["labels"]["stable"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_better_version_is_promoted_by_feedback_and_its_quality_is_shown() {
    let (site, end) = rollout(1, 2).await;
    assert_eq!(end["state"], "completed", "{end}");
    assert_eq!(site.server.model("digits")["labels"]["stable"], 2);
    let accuracy = |version: u64| {
        let quality = site.server.admin_http();
        async move {
            let report = quality.get("/admin/v1/log/quality?model=digits").await.json();
            let of_version = report["quality"].as_array().unwrap().iter().filter(|one| one["version"] == version);
            let best =
                of_version.max_by_key(|one| one["labelled"].as_u64()).unwrap_or_else(|| panic!("{report}")).clone();
            (
                best["accuracy"].as_f64().unwrap(),
                best["labelled"].as_u64().unwrap(),
                best["predicted"].as_u64().unwrap(),
            )
        }
    };
    let (worse, better) = (accuracy(1).await, accuracy(2).await);
    println!("accuracy, labelled, predicted: version 1 {worse:?}, version 2 {better:?}");
    assert!(worse.0 < 0.7 && better.0 > 0.9);
    assert!(worse.1 > 0 && worse.1 <= worse.2, "{worse:?}");
}
