//! `headgate audit`: who changed what, and whether the log of it is sound.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::admin_api::AdminArgs;
use super::client::segment;
use super::failure::Failure;
use super::print_json;
use super::table::Table;
use crate::admin::view::AuditList;
use crate::audit::line::Line;
use crate::audit::{self, AUDIT_FILE, AuditError, Report};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Check every line of a log and that each follows the one before; needs no server
    Verify(VerifyArgs),
    /// List a server's newest entries, newest last
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The log
    #[arg(required_unless_present = "data_dir", conflicts_with = "data_dir")]
    file: Option<PathBuf>,
    /// The data directory that the log is in
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON for programs instead of text for people
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only entries of this model, route or rollout
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Only entries from then on: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = unix_ms)]
    since: Option<u64>,
    /// Only entries before then, written as for --since
    #[arg(long, value_name = "TIME", value_parser = unix_ms)]
    until: Option<u64>,
    /// Most entries to list
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.command {
            AuditCommand::Verify(args) => args.run(out),
            AuditCommand::List(args) => args.run(out),
        }
    }
}

impl VerifyArgs {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let in_directory = self.data_dir.as_ref().map(|directory| directory.join(AUDIT_FILE));
        let path = in_directory.or_else(|| self.file.clone()).unwrap_or_default();
        let report = audit::verify(&path).map_err(|error| match &error {
            AuditError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
                Failure::NotFound(format!("there is no audit log {}", path.display()))
            }
            _ => Failure::Refused(error.to_string()),
        })?;
        if self.json {
            print_json(out, &report)?;
        } else {
            let Report { entries, head, .. } = &report;
            writeln!(out, "{entries} sound entries; head {} {}", head.number, head.hash)?;
        }
        match report.first_fault {
            None => Ok(()),
            Some(fault) => {
                // What was found comes before what is wrong with it.
                out.flush()?;
                Err(Failure::Refused(format!("{} line {}: {}", path.display(), fault.line, fault.what)))
            }
        }
    }
}

impl ListArgs {
    fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.as_deref().map(|target| format!("&target={}", segment(target)));
        let since = self.since.map(|since| format!("&since_ms={since}"));
        let until = self.until.map(|until| format!("&until_ms={until}"));
        let filter: String = [target, since, until].into_iter().flatten().collect();
        let path = format!("/admin/v1/audit?limit={}{filter}", self.limit);
        let list: AuditList = self.admin.ask(Method::GET, &path, Bytes::new())?;
        if self.admin.json() {
            return print_json(out, &list);
        }
        let mut table = Table::new(["NUMBER", "TIME", "ACTOR", "ACTION", "TARGET", "WHY"]);
        list.entries.iter().for_each(|line| table.row(row(line)));
        Ok(write!(out, "{table}")?)
    }
}

fn row(line: &Line) -> [String; 6] {
    let entry = &line.entry;
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(entry.at_ms)).unwrap_or(UNIX_EPOCH);
    [
        line.number.to_string(),
        humantime::format_rfc3339_millis(at).to_string(),
        entry.actor.clone(),
        entry.action.clone(),
        entry.target.clone(),
        why(&entry.reason, &entry.evidence),
    ]
}

/// The reason and the plain figures beside it; what is nested is for `--json`.
fn why(reason: &str, evidence: &Value) -> String {
    let plain = |(name, value): (&String, &Value)| match value {
        Value::Object(_) | Value::Array(_) | Value::Null => None,
        Value::String(text) => Some(format!("{name} {text}")),
        value => Some(format!("{name} {value}")),
    };
    let figures: Vec<String> = evidence.as_object().into_iter().flatten().filter_map(plain).collect();
    let parts = [reason.to_owned(), figures.join(", ")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

/// A moment, or how long ago it was, as Unix time in ms.
fn unix_ms(text: &str) -> Result<u64, String> {
    let at = match (humantime::parse_rfc3339_weak(text), humantime::parse_duration(text)) {
        (Ok(at), _) => at,
        (Err(_), Ok(ago)) => SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH),
        _ => return Err("expected a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h".to_owned()),
    };
    Ok(u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_moments_or_ages() {
        assert_eq!(unix_ms("1970-01-01T00:00:01.5Z"), Ok(1_500));
        assert_eq!(unix_ms("1970-01-01 00:00:02"), Ok(2_000));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!(now.abs_diff(unix_ms("2h").unwrap() + 2 * 3_600_000) < 60_000);
        assert!(unix_ms("soon").unwrap_err().contains("such as 2h"));
    }

    #[test]
    fn the_table_shows_the_reason_and_plain_figures() {
        assert_eq!(why("", &json!({"label": "stable", "version": 2, "deep": {}})), "label stable, version 2");
        assert_eq!(why("enough", &json!({"e_harm": 0.5})), "enough: e_harm 0.5");
        assert_eq!(why("enough", &Value::Null), "enough");
    }
}
