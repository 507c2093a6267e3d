//! A data directory that was full for a while: what a person decided meanwhile is written once there is room, and nothing
//! needs a restart.

use serde_json::json;

use super::operator::Site;
use super::traffic::{Wire, arms_of, keys};
use super::{long_step, quick_with};
use crate::support::repository::TempDir;
use crate::support::small_disk::Small;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_abort_on_a_full_disk_is_written_once_there_is_room() {
    let data = TempDir::new();
    let Some(_small) = Small::mount(data.path()) else {
        println!("skipped: a full disk (mounting a tmpfs is not allowed here)");
        return;
    };
    let versions = [(1, "digits_cnn_v1"), (2, "digits_cnn_v2")];
    let site = Site::with_data(data, "labels: {stable: 1}", &versions, &[]);
    site.begin(2, &quick_with(&json!({"steps": long_step(5000)}))).await;
    site.reaches("baking").await;

    let filler = site.data.path().join("filler");
    _ = std::fs::write(&filler, vec![7; 16 << 20]);
    // The more keys the rollout remembers the more room its figures need.
    arms_of(&site.server, Wire::Http, keys(3000)).await;
    site.server.logs(&["writing a rollout's figures", "the data directory failed"]).await;
    let refused = site.ask("abort").await;
    assert_eq!(refused.status, 500);
    assert!(refused.error().contains("the candidate's share is taken away"), "{}", refused.error());
    let all_stable = async |site: &Site| {
        arms_of(&site.server, Wire::Http, keys(50)).await.values().all(|served| served.version == 1)
    };
    assert!(all_stable(&site).await);

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(site.ends().await["state"], "aborted");
    let steps: Vec<String> =
        site.transitions().await.iter().map(|step| step["to"].as_str().unwrap().to_owned()).collect();
    assert_eq!(steps[steps.len() - 2..], ["rolling_back", "aborted"], "{steps:?}");
    let labelled = site.cli(&["label", "digits", "prod", "1"]).await;
    assert!(labelled.status.success(), "{labelled:?}");

    let site = site.restarted().await;
    assert_eq!(site.view().await["state"], "aborted");
    assert!(all_stable(&site).await);
    assert!(site.server.model("digits")["labels"]["prod"] == 1, "{}", site.server.model("digits"));
}
