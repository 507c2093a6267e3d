//! `headgate predict`: one prediction from a running server, over the Open Inference Protocol.

pub mod input;
pub mod values;
pub mod wire;

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use serde::Serialize;
use serde_json::Value;

use self::input::{Input, InputArg};
use self::wire::{Metadata, Output, Reply};
use super::client::{Client, segment};
use super::failure::Failure;
use super::print_json;
use crate::tensor::shape_text;

/// Lines of an output that are printed for people.
const MAX_LINES: usize = 20;
/// Values of a line that are printed for people.
const MAX_COLUMNS: usize = 16;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model, as NAME or NAME@LABEL
    model: String,
    /// Input as NAME=@FILE.npy, NAME=@FILE.json or NAME=JSON, such as x=[[1,2,3]]; once for each input
    #[arg(long = "input", value_name = "NAME=VALUE", required = true)]
    inputs: Vec<InputArg>,
    /// Version to ask, instead of the one that answers the bare name
    #[arg(long, value_name = "NUMBER")]
    version: Option<u64>,
    /// Output to ask for, once for each; all if none is named
    #[arg(long = "output", value_name = "NAME")]
    outputs: Vec<String>,
    /// HTTP address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Accepted as by every client command; a prediction does not ask the admin listener
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Print JSON for programs; NaN and infinities, which JSON lacks, as strings
    #[arg(long)]
    json: bool,
    /// Longest time to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// The answer as `--json` prints it.
#[derive(Serialize)]
struct Printed<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_id: Option<&'a str>,
    outputs: Vec<PrintedOutput<'a>>,
}

#[derive(Serialize)]
struct PrintedOutput<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    data: Vec<Value>,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let client = Client::new(&self.url, "--url", self.timeout)?;
        let version = self.version.map(|version| format!("/versions/{version}")).unwrap_or_default();
        let path = format!("/v2/models/{}{version}", segment(&self.model));
        let inputs = self.inputs.iter().map(InputArg::read).collect::<Result<Vec<Input>, _>>()?;

        let answer = client.call(Method::GET, &path, HeaderMap::new(), Bytes::new())?;
        let metadata = Metadata::read(&answer.body)?;
        let (headers, body) = wire::encode(&metadata, &inputs, &self.outputs)?;
        let answer = client.call(Method::POST, &format!("{path}/infer"), headers, body)?;
        let reply = wire::decode(&answer)?;
        if self.json { print_json(out, &printed(&reply)) } else { print_text(out, &reply) }
    }
}

fn printed(reply: &Reply) -> Printed<'_> {
    Printed {
        model_name: &reply.model_name,
        model_version: &reply.model_version,
        prediction_id: reply.prediction_id.as_deref(),
        outputs: reply.outputs.iter().map(printed_output).collect(),
    }
}

fn printed_output(Output { name, tensor }: &Output) -> PrintedOutput<'_> {
    PrintedOutput { name, datatype: tensor.dtype().name(), shape: tensor.shape(), data: values::json(tensor) }
}

fn print_text(out: &mut dyn Write, reply: &Reply) -> Result<(), Failure> {
    writeln!(out, "model {}, version {}", reply.model_name, reply.model_version)?;
    for Output { name, tensor } in &reply.outputs {
        writeln!(out, "{name}  {} {}", tensor.dtype(), shape_text(tensor.shape()))?;
        let values = values::text(tensor);
        let width = tensor.shape().last().copied().unwrap_or(1).max(1);
        for line in values.chunks(width).take(MAX_LINES) {
            let more = if line.len() > MAX_COLUMNS { " …" } else { "" };
            writeln!(out, "  {}{more}", line[..line.len().min(MAX_COLUMNS)].join(" "))?;
        }
        let lines = values.len().div_ceil(width);
        if lines > MAX_LINES {
            writeln!(out, "  … {} lines more; --json prints all", lines - MAX_LINES)?;
        }
    }
    Ok(())
}
