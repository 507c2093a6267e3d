//! A disk that is full costs rows and nothing else.

use headgate::prediction_log::table::Table;
use serde_json::json;

use super::site::{Site, read};
use crate::support::client::Http;
use crate::support::eventually;
use crate::support::repository::TempDir;
use crate::support::small_disk::Small;

/// Rows of a request, together some 60 KiB, so that the disk is soon full.
const ROWS: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictions_go_on_and_the_log_recovers_when_space_returns() {
    let data = TempDir::new();
    let Some(small) = Small::mount(data.path()) else {
        println!("skipped: a full disk (mounting a tmpfs is not allowed here)");
        return;
    };
    let repository = TempDir::new();
    repository.add_with_manifest("multi_io_addsub", "addsub", 1);
    // The limits are out of the way, so that it is the disk that says no.
    let settings = json!({"sync_interval": "20ms", "disk_share": 1.0, "segment_age": "1h"});
    let site = Site::start_in(repository, data, &settings);
    let filler = site.data.path().join("filler");
    let http = Http::new(site.server.http);
    let ask = async || {
        // Nothing that compresses well.
        let values: Vec<String> = (0..ROWS * 16).map(|_| format!("{:.4}", fastrand::f32())).collect();
        let tensor = |name: &str| {
            let data = values.join(",");
            format!(r#"{{"name":"{name}","shape":[{ROWS},16],"datatype":"FP32","data":[{data}]}}"#)
        };
        let body = format!(r#"{{"inputs":[{},{}]}}"#, tensor("a"), tensor("b"));
        http.send(http::Request::post("/"), "/v2/models/addsub/infer", body).await.unwrap()
    };
    let metric = |outcome: &str| {
        let series = format!(r#"headgate_log_rows_total{{model="addsub",outcome="{outcome}"}}"#);
        site.server.metric(&series)
    };
    let mut asked = 1u32;
    assert_eq!(ask().await.status, 200, "{}", site.server.log());
    site.predictions(ROWS).await;

    // The rest of the disk is taken.
    _ = std::fs::write(&filler, vec![7; 16 << 20]);
    eventually("drops", async || {
        let answer = ask().await;
        asked += 1;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        if metric("dropped_disk") > 0.0 { Ok(()) } else { Err("no row was dropped".to_owned()) }
    })
    .await;

    std::fs::remove_file(&filler).unwrap();
    let written = metric("written");
    eventually("rows again", async || {
        assert_eq!(ask().await.status, 200);
        asked += 1;
        if metric("written") > written { Ok(()) } else { Err("nothing is written".to_owned()) }
    })
    .await;
    let counted = eventually("every row counted", async || {
        let counts = (metric("written"), metric("dropped_disk"), metric("dropped_ring"));
        if counts.0 + counts.1 + counts.2 == f64::from(asked * ROWS as u32) {
            Ok(counts)
        } else {
            Err(format!("{counts:?} of {asked}"))
        }
    })
    .await;
    let Site { data, server, .. } = site;
    let mut server = server;
    server.signal("TERM");
    assert!(server.ends().await.success(), "{}", server.log());
    let rows = read(data.path(), Table::Predictions);
    assert_eq!(rows.len() as f64, counted.0, "what is counted as written is there");
    let last: u64 = rows.iter().map(|row| row["seq"].parse::<u64>().unwrap()).max().unwrap();
    let gaps = last + 1 - rows.len() as u64;
    assert_eq!(gaps as f64, counted.1 + counted.2, "gaps in the sequence are the drops");
    drop(small);
}
