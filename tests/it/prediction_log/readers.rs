//! The files are read as a data scientist would: by DuckDB, Polars and pandas, with the manual's own snippets.

use std::path::Path;
use std::process::{Command, Stdio};

use headgate::prediction_log::query::object;
use headgate::prediction_log::read::Scan;
use headgate::prediction_log::table::Table;
use serde_json::{Map, Value, json};

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::python::python;
use crate::support::repository::TempDir;
use crate::support::zoo;

/// Models whose rows have every kind of column: an image, plain numbers, whole numbers, truth values, texts, named
/// features, lists of unknown length; the name that they are served by, and the file of the zoo.
const MODELS: [(&str, &str); 5] = [
    ("digits", "digits_cnn_v1"),
    ("iris", "iris_logreg"),
    ("mixed", "multi_io_mixed"),
    ("types", "dtype_zoo"),
    ("codelang", "codelang_v1"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_polars_and_pandas_read_the_same_rows_of_the_same_types() {
    let Some(python) = python("readers", "the readers of the log") else { return };
    let repository = TempDir::new();
    for (name, file) in MODELS {
        repository.add_with_manifest(file, name, 1);
    }
    repository.write("iris/model.yaml", "features: {X: [sepal_length, sepal_width, petal_length, petal_width]}");
    let above = TempDir::new();
    let data = above.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let config = repository.path().join(".headgate.yaml");
    std::fs::write(&config, json!({"prediction_log": {"sync_interval": "20ms"}}).to_string()).unwrap();
    let flags = ["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let mut server = crate::support::server::Server::start(repository.path(), &flags);
    let wires = Wires::connect(&server).await;
    for (name, file) in MODELS {
        for tag in zoo::tags(file) {
            let inputs = zoo::inputs(file, &tag);
            wires.infer(Encoding::Raw, &Call { model: name, version: "", inputs: &inputs }).await.unwrap();
        }
    }
    // What it has written is sealed when it ends.
    server.signal("TERM");
    assert!(server.ends().await.success(), "{}", server.log());
    let expected = above.path().join("expected.json");
    std::fs::write(&expected, expected_of(&data).to_string()).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python)
        .arg(tests.join("tests/readers/read_all.py"))
        .arg(tests.join("docs/prediction-log.md"))
        .arg(&expected)
        .current_dir(above.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// For each model its columns' types and its rows, as this program reads them.
fn expected_of(data: &Path) -> Value {
    let mut expected = Map::new();
    for (name, _) in MODELS {
        let scan = Scan { model: Some(name.to_owned()), ..Scan::all(data, Table::Predictions) };
        let (mut types, mut rows) = (Map::new(), vec![]);
        for batch in scan.batches().unwrap() {
            let batch = batch.unwrap();
            for field in batch.schema().fields() {
                types.insert(field.name().clone(), field.data_type().to_string().into());
            }
            rows.extend((0..batch.num_rows()).map(|row| Value::Object(object(&batch, row))));
        }
        assert!(!rows.is_empty(), "{name} has no rows");
        expected.insert(name.to_owned(), json!({"types": types, "rows": rows}));
    }
    expected.into()
}
