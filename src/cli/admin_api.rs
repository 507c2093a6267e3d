//! What the commands ask of a server's admin API.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Client, segment};
use super::failure::Failure;
use super::models::print_models;
use super::print_json;
use crate::admin::ACTOR_HEADER;
use crate::admin::view::{ModelList, ModelView};

/// Flags of every command that asks the admin API.
#[derive(Debug, clap::Args)]
pub struct AdminArgs {
    /// Admin address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8002")]
    admin: String,
    /// Print JSON for programs instead of a table for people
    #[arg(long)]
    json: bool,
    /// Longest time to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// The path of a model, its name escaped.
pub fn model_path(model: &str) -> String {
    format!("/admin/v1/models/{}", segment(model))
}

impl AdminArgs {
    /// Prints every model.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn print_list(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let list: ModelList = self.ask(Method::GET, "/admin/v1/models", Bytes::new())?;
        if self.json { print_json(out, &list) } else { print_models(out, &list.models) }
    }

    /// Sends a request whose answer is a model, and prints that.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn print_model(&self, out: &mut dyn Write, method: Method, path: &str, body: Bytes) -> Result<(), Failure> {
        let model: ModelView = self.ask(method, path, body)?;
        if self.json { print_json(out, &model) } else { print_models(out, &[model]) }
    }

    /// Prints what a server answered: JSON if that was asked for, else the text.
    ///
    /// # Errors
    /// `Output`.
    pub fn print(
        &self,
        out: &mut dyn Write,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json { print_json(out, value) } else { Ok(write!(out, "{}", text())?) }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// As [`Client::call`]; `Refused` where the answer is not what a headgate server says.
    pub fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Failure> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        // Who typed the command, for the server's log; a name that is no header value is left out.
        if let Some(actor) = std::env::var("USER").ok().and_then(|user| HeaderValue::from_str(&user).ok()) {
            headers.insert(ACTOR_HEADER, actor);
        }
        let answer = Client::new(&self.admin, "--admin", self.timeout)?.call(method, path, headers, body)?;
        serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::Refused(format!("{} is not the admin address of a headgate server", self.admin)))
    }
}
