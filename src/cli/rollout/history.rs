//! `headgate rollout history`: what a rollout did and why, and who served a route when.

use std::io::Write;

use bytes::Bytes;
use hyper::Method;

use super::api::{named_or_only, only_one, rollout_path, route_path, show};
use super::moment;
use super::render::text::{date, percent};
use super::render::weights;
use crate::cli::admin_api::AdminArgs;
use crate::cli::failure::Failure;
use crate::cli::table::Table;
use crate::rollout::view::{History, RouteHistory, RouteRow};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the rollout, or the route that it splits; may be left out while one rollout is under way
    #[arg(value_name = "ROLLOUT_OR_ROUTE")]
    rollout: Option<String>,
    /// Say which version served the route at this moment, at which weights: RFC 3339, or Unix time in s or ms
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    at: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match self.at {
            Some(at_ms) => self.print_moment(out, at_ms),
            None => self.print_transitions(out),
        }
    }

    fn print_transitions(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let rollout = named_or_only(&self.admin, self.rollout.as_deref())?;
        let path = format!("{}/history", rollout_path(&rollout));
        let history: History = self.admin.ask(Method::GET, &path, Bytes::new())?;
        let mut table = Table::new(["TIME", "FROM", "TO", "BY", "WEIGHTS", "CAUSE"]);
        for transition in &history.transitions {
            table.row([
                date(transition.at_ms),
                transition.from.clone(),
                transition.to.clone(),
                transition.actor.clone(),
                weights(&transition.weights),
                transition.cause.clone(),
            ]);
        }
        self.admin.print(out, &history, || table.to_string())
    }

    fn print_moment(&self, out: &mut dyn Write, at_ms: u64) -> Result<(), Failure> {
        let history = match &self.rollout {
            None => self.route_history(&only_one(&self.admin)?.route, at_ms)?,
            Some(name) => match self.route_history(name, at_ms) {
                // A rollout's name says which route is meant, too.
                Err(Failure::NotFound(text)) => {
                    let route = show(&self.admin, name).map_err(|_| Failure::NotFound(text))?.route;
                    self.route_history(&route, at_ms)?
                }
                outcome => outcome?,
            },
        };
        let Some(row) = history.served.first() else {
            let text = format!("nothing is known of what served {} at {}", history.route, date(at_ms));
            return Err(Failure::NotFound(text));
        };
        self.admin.print(out, &history, || moment_text(&history.route, at_ms, row))
    }

    fn route_history(&self, route: &str, at_ms: u64) -> Result<RouteHistory, Failure> {
        let path = format!("{}/history?at_ms={at_ms}", route_path(route));
        self.admin.ask(Method::GET, &path, Bytes::new())
    }
}

/// `digits at 2026-03-01T12:00:00Z: stable version 1 80 %, candidate version 2 10 %, …`.
fn moment_text(route: &str, at_ms: u64, row: &RouteRow) -> String {
    let version =
        |version: Option<u64>| version.map_or("no version".to_owned(), |version| format!("version {version}"));
    let shares = [
        ("stable", row.stable, row.weights.stable),
        ("candidate", row.candidate, row.weights.candidate),
        ("control", row.stable, row.weights.control),
        ("shadow", row.candidate, row.weights.shadow),
    ];
    let shares = shares.into_iter().filter(|(_, _, share)| *share > 0);
    let shares: Vec<String> =
        shares.map(|(arm, served, share)| format!("{arm} {} {}", version(served), percent(share))).collect();
    let shares = if shares.is_empty() { version(row.stable) } else { shares.join(", ") };
    let rollout = row.rollout.as_ref().map_or(String::new(), |rollout| format!(" by {rollout}"));
    format!("{route} at {}: {shares}; since {}{rollout}\n", date(at_ms), date(row.at_ms))
}
