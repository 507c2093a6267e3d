//! What `run.py` measures with: a load generator, the floor that servers are compared with, and the engine alone.
//!
//! Every subcommand prints its result as one line of JSON. `ask` sends each request once and compares the answers with
//! what is due; `closed` and `open` put a server under load; `floor` is a server that does nothing but answer; `engine`
//! runs a model in a loop in this process.

mod answer;
mod closed;
mod connection;
mod engine;
mod floor;
mod grpc;
mod http1;
mod open;
mod outcome;
mod processor;
mod schedule;
mod target;
mod workload;

use clap::Parser;

// The server's own allocator, so that the floor differs in nothing but the work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load generator, floor and engine loop of the benchmark; benches/load/run.py drives it
#[derive(Debug, Parser)]
#[command(name = "load")]
enum Command {
    /// Send each request once and compare the answers
    Ask(target::AskArgs),
    /// N connections, each with one request at a time
    Closed(closed::Args),
    /// Requests at given times, whatever the answers do
    Open(open::Args),
    /// A server that answers the same bytes to everything
    Floor(floor::Args),
    /// A model in a loop, without a server
    Engine(engine::Args),
}

fn main() {
    // `cargo bench` runs every bench target; this one needs a server.
    if std::env::args().any(|arg| arg == "--bench") {
        println!("the load benchmark is run by benches/load/run.py");
        return;
    }
    let outcome = match Command::parse() {
        Command::Ask(args) => target::ask(&args),
        Command::Closed(args) => closed::run(&args),
        Command::Open(args) => open::run(&args),
        Command::Floor(args) => floor::run(&args),
        Command::Engine(args) => engine::run(&args),
    };
    match outcome {
        Ok(result) => println!("{result}"),
        Err(reason) => {
            eprintln!("load: {reason}");
            std::process::exit(1);
        }
    }
}
