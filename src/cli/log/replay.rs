//! `headgate log replay`: logged inputs, sent to a version again.

use std::io::Write;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::UInt64Type;
use bytes::Bytes;
use hyper::{HeaderMap, Method};
use serde::Serialize;

use super::directory::LogArgs;
use super::outputs::{Difference, Tolerance, compare};
use super::show::{not_logged, prediction_id};
use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::predict::input::{Input, InputValue};
use crate::cli::predict::wire::{self, Metadata};
use crate::cli::print_json;
use crate::inference::PredictionId;
use crate::prediction_log::columns::tensors_of;
use crate::prediction_log::read::{LeftOut, lookup, newest, primitives, texts};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The prediction to send again
    #[arg(value_name = "PREDICTION_ID", value_parser = prediction_id, required_unless_present = "last")]
    id: Option<PredictionId>,
    /// Send so many of the newest predictions instead
    #[arg(long, value_name = "COUNT", conflicts_with = "id")]
    last: Option<usize>,
    /// With --last: only predictions of this model
    #[arg(long, value_name = "MODEL", requires = "last")]
    model: Option<String>,
    /// The version that answers now; without it, the one that answered then
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    /// HTTP address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Numbers are the same that differ by at most this, plus --rtol times the logged one
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-4)]
    atol: f64,
    /// See --atol
    #[arg(long, value_name = "NUMBER", default_value_t = 1e-3)]
    rtol: f64,
    #[command(flatten)]
    log: LogArgs,
}

/// What became of one row.
#[derive(Debug, Serialize)]
struct Replayed {
    prediction_id: String,
    model_name: String,
    logged_version: u64,
    version: u64,
    /// Of the prediction that the replay made.
    new_prediction_id: Option<String>,
    /// `same`, `different`, or `refused` with the reason.
    outcome: &'static str,
    reason: Option<String>,
    differences: Vec<Difference>,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write, left_out: &LeftOut) -> Result<(), Failure> {
        let scan = self.log.predictions(self.model.as_deref(), left_out)?;
        let rows = match (self.id, self.last) {
            (Some(id), _) => vec![lookup(&scan, id)?.ok_or_else(|| not_logged(id))?],
            (None, last) => newest(&scan, last.unwrap_or_default())?,
        };
        if rows.is_empty() {
            return Err(Failure::NotFound("the log has no such predictions".to_owned()));
        }
        let client = Client::new(&self.url, "--url", Duration::from_secs(60))?;
        let mut replayed = vec![];
        for row in &rows {
            replayed.push(self.replay(&client, row)?);
        }
        if self.log.admin.json() {
            print_json(out, &replayed)?;
        } else {
            for one in &replayed {
                print(out, one)?;
            }
        }
        // What was found comes before what is wrong with it.
        out.flush()?;
        verdict(&replayed)
    }

    fn replay(&self, client: &Client, row: &RecordBatch) -> Result<Replayed, Failure> {
        let text = |column: &str| {
            let found = texts(row, column);
            found.filter(|array| array.is_valid(0)).map(|array| array.value(0).to_owned()).unwrap_or_default()
        };
        let version = primitives::<UInt64Type>(row, "model_version");
        let logged_version = version.map(|array| array.value(0)).unwrap_or_default();
        let mut replayed = Replayed {
            prediction_id: text("prediction_id"),
            model_name: text("model_name"),
            logged_version,
            version: self.version.unwrap_or(logged_version),
            new_prediction_id: None,
            outcome: "refused",
            reason: None,
            differences: vec![],
        };
        if text("status") != "ok" {
            replayed.reason = Some(format!("the model failed then, so there is nothing to compare: {}", text("error")));
            return Ok(replayed);
        }
        let path = format!("/v2/models/{}/versions/{}", segment(&replayed.model_name), replayed.version);
        let metadata = client.call(Method::GET, &path, HeaderMap::new(), Bytes::new())?;
        let metadata = Metadata::read(&metadata.body)?;
        let tensors = match tensors_of(row, 0, &metadata.signature()) {
            Ok(tensors) => tensors,
            Err(reason) => {
                replayed.reason = Some(reason.to_string());
                return Ok(replayed);
            }
        };
        let inputs: Vec<Input> =
            tensors.into_iter().map(|(name, tensor)| Input { name, value: InputValue::Tensor(tensor) }).collect();
        let (headers, body) = wire::encode(&metadata, &inputs, &[])?;
        let reply = wire::decode(&client.call(Method::POST, &format!("{path}/infer"), headers, body)?)?;
        let tolerance = Tolerance { atol: self.atol, rtol: self.rtol };
        match compare(row, &reply.outputs, tolerance) {
            Ok(differences) => {
                replayed.outcome = if differences.is_empty() { "same" } else { "different" };
                replayed.differences = differences;
            }
            Err(reason) => replayed.reason = Some(reason),
        }
        replayed.new_prediction_id = reply.prediction_id;
        Ok(replayed)
    }
}

fn print(out: &mut dyn Write, one: &Replayed) -> Result<(), Failure> {
    let Replayed { prediction_id, model_name, logged_version, version, outcome, .. } = one;
    let reason = one.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    writeln!(out, "{prediction_id}  {model_name} {logged_version} -> {version}  {outcome}{reason}")?;
    for Difference { column, element, logged, now } in &one.differences {
        writeln!(out, "  {column}[{element}]  logged {logged}  now {now}")?;
    }
    Ok(())
}

fn verdict(replayed: &[Replayed]) -> Result<(), Failure> {
    let count = |outcome: &str| replayed.iter().filter(|one| one.outcome == outcome).count();
    let (different, refused) = (count("different"), count("refused"));
    if different > 0 {
        return Err(Failure::Refused(format!("{different} of {} predictions differ", replayed.len())));
    }
    if refused == replayed.len() {
        return Err(Failure::Refused("no prediction could be sent again".to_owned()));
    }
    Ok(())
}
