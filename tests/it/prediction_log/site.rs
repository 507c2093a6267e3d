//! A server that writes its predictions down, and what it wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use headgate::prediction_log::read::Scan;
use headgate::prediction_log::table::Table;
use serde_json::{Value, json};

use crate::support::client::{Answer, Http};
use crate::support::eventually;
use crate::support::repository::TempDir;
use crate::support::server::Server;

/// A row by the names of its columns, its values as text; null is empty.
pub type Row = BTreeMap<String, String>;

/// A repository, the server's data, and the server.
pub struct Site {
    pub repository: TempDir,
    pub data: TempDir,
    pub server: Server,
}

impl Site {
    /// A server over a repository that is made already. `settings` are those of the section `prediction_log`.
    pub fn start(repository: TempDir, settings: &Value) -> Self {
        Self::start_in(repository, TempDir::new(), settings)
    }

    pub fn start_in(repository: TempDir, data: TempDir, settings: &Value) -> Self {
        Self::start_with(repository, data, &json!({"prediction_log": settings}), &[])
    }

    /// With a whole settings file, and variables of the environment of this process; those after it have none. However
    /// full the machine's disk is, rows are written whole unless the settings speak of that.
    pub fn start_with(repository: TempDir, data: TempDir, file: &Value, variables: &[(&str, PathBuf)]) -> Self {
        let mut file = file.clone();
        if let Some(Value::Object(section)) = file.get_mut("prediction_log") {
            section.entry("disk_share").or_insert(json!(1.0));
        }
        repository.write(".headgate.yaml", file.to_string());
        let server = serve(&repository, &data, variables);
        Self { repository, data, server }
    }

    /// `kill -9`, and the server again.
    pub fn torn_away(self) -> Self {
        let Self { repository, data, server } = self;
        server.kill();
        let server = serve(&repository, &data, &[]);
        Self { repository, data, server }
    }

    /// SIGTERM, and what lies there then.
    pub async fn ended(self) -> (TempDir, TempDir) {
        let Self { repository, data, mut server } = self;
        server.signal("TERM");
        assert!(server.ends().await.success(), "{}", server.log());
        (repository, data)
    }

    pub async fn restarted(self) -> Self {
        let (repository, data) = self.ended().await;
        let server = serve(&repository, &data, &[]);
        Self { repository, data, server }
    }

    /// The answer of a model to one row of its input `X`, which must be one.
    pub async fn infer(&self, model: &str, row: &[f32]) -> Answer {
        let input = json!({"name": "X", "shape": [1, row.len()], "datatype": "FP32", "data": row});
        let http = Http::new(self.server.http);
        let answer = http.post_json(&format!("/v2/models/{model}/infer"), &json!({"inputs": [input]})).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer
    }

    /// Realised quality of a model, of its only version and arm.
    pub async fn quality(&self, model: &str) -> Value {
        let mut report = self.server.admin_http().get(&format!("/admin/v1/log/quality?model={model}")).await.json();
        report["quality"].as_array_mut().and_then(Vec::pop).unwrap_or_default()
    }

    /// Waits until so many rows of a table can be read, and gives them.
    pub async fn rows(&self, table: Table, count: usize) -> Vec<Row> {
        eventually("rows in the log", async || {
            let rows = read(self.data.path(), table);
            if rows.len() >= count { Ok(rows) } else { Err(format!("{} of {count} rows", rows.len())) }
        })
        .await
    }

    pub async fn predictions(&self, count: usize) -> Vec<Row> {
        self.rows(Table::Predictions, count).await
    }

    /// How many rows of a model have had an outcome, such as `written`.
    pub fn counted(&self, model: &str, outcome: &str) -> u64 {
        let series = format!(r#"headgate_log_rows_total{{model="{model}",outcome="{outcome}"}}"#);
        self.server.metric(&series) as u64
    }

    /// Sends feedback that must be taken.
    pub async fn feedback(&self, items: &Value) -> Value {
        let answer = self.try_feedback(items).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    pub async fn try_feedback(&self, items: &Value) -> Answer {
        let http = Http::new(self.server.http);
        http.post_json("/v2/feedback", items).await
    }
}

fn serve(repository: &TempDir, data: &TempDir, variables: &[(&str, PathBuf)]) -> Server {
    let config = repository.path().join(".headgate.yaml");
    let flags =
        ["--config", config.to_str().unwrap(), "--data-dir", data.path().to_str().unwrap(), "--poll-interval", "50ms"];
    Server::start_with(repository.path(), &flags, variables)
}

/// Every row of a table that can be read now.
pub fn read(data_dir: &Path, table: Table) -> Vec<Row> {
    let batches = Scan::all(data_dir, table).batches().unwrap();
    batches.flat_map(|batch| texts(&batch.unwrap())).collect()
}

fn texts(batch: &RecordBatch) -> Vec<Row> {
    let options = FormatOptions::default();
    let arrays: Vec<ArrayRef> = batch.columns().iter().map(without_zone).collect();
    let names = batch.schema_ref().fields().iter().map(|field| field.name().clone());
    let formatter = |array| ArrayFormatter::try_new(array, &options).unwrap();
    let columns: Vec<(String, ArrayFormatter<'_>)> =
        names.zip(arrays.iter().map(|array| formatter(array.as_ref()))).collect();
    let row = |at: usize| columns.iter().map(|(name, column)| (name.clone(), column.value(at).to_string())).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// A time as it is in UTC: names of zones are for a feature of Arrow that nothing here needs.
fn without_zone(array: &ArrayRef) -> ArrayRef {
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => Arc::new(times.clone().with_timezone_opt::<Arc<str>>(None)),
        None => array.clone(),
    }
}
