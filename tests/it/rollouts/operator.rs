//! The operator's side: a server with the model `digits` and a data directory, the admin API, and the command line.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::repository::TempDir;
use crate::support::server::Server;

/// A repository with `digits`, the server's data, and the server.
pub struct Site {
    pub repository: TempDir,
    pub data: TempDir,
    pub server: Server,
    flags: Vec<String>,
}

impl Site {
    /// Versions of `digits` by their models in the zoo; the first is labelled `stable`.
    pub fn start(versions: &[(u64, &str)]) -> Self {
        Self::with(&format!("labels: {{stable: {}}}", versions[0].0), versions, &[])
    }

    /// The same with a `model.yaml` of one's own and more flags.
    pub fn with(model_yaml: &str, versions: &[(u64, &str)], flags: &[&str]) -> Self {
        Self::with_data(TempDir::new(), model_yaml, versions, flags)
    }

    /// The same with a data directory of one's own.
    pub fn with_data(data: TempDir, model_yaml: &str, versions: &[(u64, &str)], flags: &[&str]) -> Self {
        let repository = TempDir::new();
        repository.write("digits/model.yaml", model_yaml);
        for (version, model) in versions {
            repository.add_with_manifest(model, "digits", *version);
        }
        let own = ["--data-dir", data.path().to_str().unwrap(), "--poll-interval", "50ms"];
        let flags: Vec<String> = own.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        let server = serve(&repository, &flags);
        Self { repository, data, server, flags }
    }

    /// `kill -9`, and the server again.
    pub fn torn_away(self) -> Self {
        let Self { repository, data, server, flags } = self;
        server.kill();
        let server = serve(&repository, &flags);
        Self { repository, data, server, flags }
    }

    /// SIGTERM, and the server again.
    pub async fn restarted(self) -> Self {
        let Self { repository, data, mut server, flags } = self;
        server.signal("TERM");
        assert!(server.ends().await.success(), "{}", server.log());
        let server = serve(&repository, &flags);
        Self { repository, data, server, flags }
    }

    /// What is asked of the admin API by POST.
    async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = http::Request::post("/").header("content-type", "application/json");
        let request = request.header("headgate-actor", "olga");
        self.server.admin_http().send(request, path, body.to_string()).await.unwrap()
    }

    /// The answer to a start of `digits`.
    pub async fn ask_start(&self, to: u64, spec: &Value) -> Answer {
        self.post("/admin/v1/rollouts", &json!({"route": "digits", "to": to, "spec": spec})).await
    }

    /// Starts a rollout of `digits` that is not refused, and gives its view.
    pub async fn begin(&self, to: u64, spec: &Value) -> Value {
        let answer = self.ask_start(to, spec).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// An action on the latest rollout of `digits`.
    pub async fn ask(&self, action: &str) -> Answer {
        self.post(&format!("/admin/v1/rollouts/digits/{action}"), &json!({"reason": "a test"})).await
    }

    /// One that is not refused.
    pub async fn act(&self, action: &str) -> Value {
        let answer = self.ask(action).await;
        assert_eq!(answer.status, 200, "{action}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// What the admin API answers to a GET.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.server.admin_http().get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// The latest rollout of `digits`.
    pub async fn view(&self) -> Value {
        self.get("/admin/v1/rollouts/digits").await
    }

    /// Its transitions.
    pub async fn transitions(&self) -> Vec<Value> {
        self.get("/admin/v1/rollouts/digits/history").await["transitions"].as_array().unwrap().clone()
    }

    /// Waits until the view of the latest rollout is as wanted, and gives it.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let answer = self.server.admin_http().get("/admin/v1/rollouts/digits").await;
            let view = answer.json();
            if answer.status == 200 && wanted(&view) { Ok(view) } else { Err(shortened(&view)) }
        })
        .await
    }

    /// Waits until it is in a state, and gives its view.
    pub async fn reaches(&self, state: &str) -> Value {
        self.sees(state, |view| view["state"] == state).await
    }

    /// Waits until it has ended, and gives its view.
    pub async fn ends(&self) -> Value {
        self.sees("an end", |view| view["ended"] == true).await
    }

    /// Entries of the audit log about a target, oldest first.
    pub async fn audit(&self, target: &str) -> Vec<Value> {
        self.get(&format!("/admin/v1/audit?limit=1000&target={target}")).await["entries"].as_array().unwrap().clone()
    }

    /// Checks the chain of the audit log.
    pub async fn audit_is_sound(&self) {
        let output = headgate(&["audit", "verify", "--data-dir", self.data.path().to_str().unwrap()]).await;
        assert!(output.status.success(), "{}", said(&output));
    }

    /// A command against this server's admin API.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let admin = format!("http://{}", self.server.admin);
        headgate(&[args, &["--admin", &admin]].concat()).await
    }

    /// Writes a spec to a file, for the command line.
    pub fn spec_file(&self, spec: &Value) -> String {
        self.data.write("spec.yaml", spec.to_string());
        self.data.path().join("spec.yaml").to_str().unwrap().to_owned()
    }
}

fn serve(repository: &TempDir, flags: &[String]) -> Server {
    Server::start(repository.path(), &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs the command.
pub async fn headgate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    command.args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Both streams of a command that has ended.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What matters of a view in a test's complaint.
fn shortened(view: &Value) -> String {
    let keys = ["error", "state", "waiting_for", "step", "weights", "arms", "checks", "shadow", "last_transition"];
    keys.iter().filter(|key| !view[**key].is_null()).map(|key| format!("{key}: {}\n", view[*key])).collect()
}
