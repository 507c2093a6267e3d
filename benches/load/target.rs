//! Which server is asked what, as closed and open loops share it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::answer::Checker;
use crate::connection::{Connection, Outcome, Question};
use crate::workload::{Case, Protocol, encode};

/// Where requests go and what they are.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Address of the server
    #[arg(long)]
    pub address: SocketAddr,
    /// How to speak to it
    #[arg(long, value_enum)]
    pub protocol: Protocol,
    /// MODEL=FILE.npz: a model and a recorded run of it; several are asked in turn
    #[arg(long, required = true)]
    pub case: Vec<Case>,
    /// HTTP path in place of /v2/models/MODEL/infer
    #[arg(long)]
    path: Option<String>,
    /// Check only that there is an answer, not its values
    #[arg(long)]
    unchecked: bool,
    /// How far a value may be from what is due, relative to the larger of 1 and that
    #[arg(long, default_value_t = 1e-3)]
    tolerance: f64,
    /// Processes of the server, whose processor time is measured
    #[arg(long, value_delimiter = ',')]
    pub server_pid: Vec<u32>,
}

impl Target {
    /// The requests, those of several models in turn.
    pub fn questions(&self) -> Result<Vec<Question>, String> {
        let mut of_models = vec![];
        for case in &self.case {
            let mut questions = vec![];
            for row in case.rows()? {
                let bytes = encode(self.protocol, &case.model, self.path.as_deref(), &row.inputs)?;
                let due = (!self.unchecked).then_some(row.outputs);
                let checker = Checker::new(self.protocol, due, self.tolerance);
                questions.push(Question { bytes, checker: RefCell::new(checker) });
            }
            of_models.push(questions.into_iter());
        }
        let mut turns = vec![];
        loop {
            let before = turns.len();
            turns.extend(of_models.iter_mut().filter_map(Iterator::next));
            if turns.len() == before {
                return Ok(turns);
            }
        }
    }
}

/// A runtime on this thread alone: the generator must cost little where it shares the cores with the server.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

#[derive(Debug, clap::Args)]
pub struct AskArgs {
    #[command(flatten)]
    target: Target,
    /// File for the body of the first answer
    #[arg(long)]
    save: Option<PathBuf>,
    /// File for the first request as it is sent
    #[arg(long)]
    save_request: Option<PathBuf>,
}

/// Sends every request once. An answer that is not the one due is an error.
pub fn ask(args: &AskArgs) -> Result<Value, String> {
    let questions = args.target.questions()?;
    let write = |file: &Option<PathBuf>, bytes: &[u8]| match file {
        None => Ok(()),
        Some(file) => std::fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display())),
    };
    write(&args.save_request, &questions[0].bytes)?;
    runtime()?.block_on(async {
        let mut connection = Connection::open(args.target.address, args.target.protocol).await?;
        let mut bytes = 0;
        for (at, question) in questions.iter().enumerate() {
            match connection.ask(question).await {
                Outcome::Answered => {}
                Outcome::Refused => return Err(format!("request {at} was refused")),
                Outcome::Failed(reason) => return Err(format!("request {at}: {reason}")),
            }
            if at == 0 {
                bytes = connection.body().bytes.len();
                write(&args.save, connection.body().bytes)?;
            }
        }
        let request_bytes = questions[0].bytes.len();
        Ok(json!({ "asked": questions.len(), "request_bytes": request_bytes, "answer_bytes": bytes }))
    })
}
