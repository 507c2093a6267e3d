//! Which URLs and options lead where.

use super::*;

#[tokio::test]
async fn every_kind_of_store_gets_the_file_by_its_own_protocol() {
    let mut receiver = receiver(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let url = receiver.url.clone();
    let gcs = json!({
        "url": "gs://log/prod",
        "options": {"base_url": url, "bearer_token": "token"},
    });
    let azure = json!({
        "url": "az://log/prod",
        "options": {"endpoint": url, "account_name": "acc", "account_key": "c2VjcmV0", "allow_http": true},
    });
    for (config, root) in [(s3(&url), "/log/prod"), (config(gcs), "/log/prod"), (config(azure), "/log/prod")] {
        let destination = Destination::open(&config, dir.path()).unwrap();
        destination.put("predictions/model=a/b.parquet", vec![1, 2, 3].into()).await.unwrap();
        let expected = (format!("{root}/predictions/model=a/b.parquet"), vec![1, 2, 3]);
        assert_eq!(put(&mut receiver).await, expected, "{}", config.url);
    }
}

#[tokio::test]
async fn a_folder_gets_whole_files() {
    let (dir, elsewhere, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), memory());
    let bytes = seal(dir.path(), &format!("{HOUR}/5-1.parquet"), "segment");
    let folder = elsewhere.path().join("prod");
    let config = config(json!({"url": format!("file://{}", folder.display())}));
    let (uploads, stop) = start(&config, dir.path(), &store);
    assert!(uploads.finish(PATIENCE).await);
    assert_eq!(fs::read(folder.join(HOUR).join("7-5-1.parquet")).unwrap(), bytes);
    assert_eq!(fs::read_dir(folder.join(HOUR)).unwrap().count(), 1);
    stop.cancel();
}

#[test]
fn stores_are_made_from_their_urls_without_reaching_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let azure = json!({"account_name": "acc"});
    for (url, options) in [
        ("s3://bucket/prefix", json!({"region": "eu-west-1", "AWS_SERVER_SIDE_ENCRYPTION": "AES256"})),
        ("s3a://bucket", json!({})),
        ("gs://bucket/deep/prefix", json!({"timeout": "30s"})),
        ("az://container/prefix", azure.clone()),
        ("abfss://container/prefix", azure.clone()),
        ("https://acc.blob.core.windows.net/container/prefix", json!({})),
    ] {
        let opened = Destination::open(&config(json!({"url": url, "options": options})), dir.path());
        assert!(matches!(opened, Ok(Destination::Objects { .. })), "{url}: {opened:?}");
    }
}

#[test]
fn destinations_that_cannot_be_are_refused_by_their_key() {
    let dir = tempfile::tempdir().unwrap();
    let within = format!("file://{}/predictions", dir.path().display());
    let around = format!("file://{}", dir.path().parent().unwrap().display());
    for (url, options, expected) in [
        ("bucket/prefix", json!({}), "upload.url expects an address such as s3://bucket/prefix"),
        ("https://example.org/put", json!({}), "upload.url expects"),
        ("ftp://bucket", json!({}), "upload.url expects"),
        ("memory:///", json!({}), "upload.url expects"),
        ("s3://bucket", json!({"regoin": "x"}), "'regoin' is no option of S3, did you mean 'region'?"),
        ("gs://bucket", json!({"zebra": 1}), "'zebra' is no option of Google Cloud Storage"),
        ("az://container", json!({"acount_name": "x"}), "did you mean 'account_name'?"),
        ("file:///tmp/x", json!({"region": "x"}), "'region' is no option of a folder"),
        ("s3://bucket", json!({"timeout": "soon"}), "upload: S3 can't be used"),
        (&within, json!({}), "lie one in the other"),
        (&around, json!({}), "lie one in the other"),
    ] {
        let opened = Destination::open(&config(json!({"url": url, "options": options})), dir.path());
        let fault = opened.unwrap_err().to_string();
        assert!(fault.contains(expected), "{url}: {fault}");
    }
}
