//! Reading who is sent to which arm.

use super::AssignmentSpec;
use crate::inference::MAX_NAME_BYTES;
use crate::routing::{Arm, ForceRule, KEY_HEADER, Match, Unit};
use crate::yaml::{Entry, Section, SettingsError};

/// The header that asks for an arm.
const ARM: &str = "headgate-arm";
/// Most units and most rules.
const MAX_LISTED: usize = 64;
/// Longest value that a header is compared with, and longest salt, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// The arms that a request can be sent to.
const ARMS: [(&str, Arm); 3] = [("stable", Arm::Stable), ("candidate", Arm::Candidate), ("control", Arm::Control)];

impl Default for AssignmentSpec {
    fn default() -> Self {
        let units = vec![Unit::Header(KEY_HEADER.to_owned()), Unit::Param(KEY_HEADER.to_owned()), Unit::Request];
        Self { units, salt: None, force: own_rules() }
    }
}

/// `headgate-arm: <arm>` forces that arm.
fn own_rules() -> Vec<ForceRule> {
    let rule =
        |(word, arm): (&str, Arm)| ForceRule { header: ARM.to_owned(), matches: Match::Exact(word.to_owned()), arm };
    ARMS.into_iter().map(rule).collect()
}

pub(super) fn assignment(mut section: Section<'_>) -> Result<AssignmentSpec, SettingsError> {
    let mut assignment = AssignmentSpec::default();
    if let Some(entry) = section.take("unit") {
        assignment.units = units(entry)?;
    }
    if let Some(entry) = section.take("salt") {
        let salt = value(entry)?;
        assignment.salt = (salt != "auto").then_some(salt);
    }
    if let Some(entry) = section.take("force") {
        let mut rules = bounded_list(entry, "rules")?.into_iter().map(force).collect::<Result<Vec<_>, _>>()?;
        // What was printed holds them already.
        let missing: Vec<ForceRule> = own_rules().into_iter().filter(|rule| !rules.contains(rule)).collect();
        rules.extend(missing);
        assignment.force = rules;
    }
    section.finish()?;
    Ok(assignment)
}

fn bounded_list<'a>(entry: Entry<'a>, what: &str) -> Result<Vec<Entry<'a>>, SettingsError> {
    let fault = entry.bad(&format!("at most {MAX_LISTED} {what}"));
    let listed = entry.list()?;
    if listed.len() > MAX_LISTED { Err(fault) } else { Ok(listed) }
}

fn units(entry: Entry<'_>) -> Result<Vec<Unit>, SettingsError> {
    let mut units = vec![];
    for entry in bounded_list(entry, "units")? {
        if units.last() == Some(&Unit::Request) {
            return Err(entry.bad("nothing after {request: true}, which every request has"));
        }
        units.push(unit(entry)?);
    }
    if units.last() != Some(&Unit::Request) {
        units.push(Unit::Request);
    }
    Ok(units)
}

fn unit(entry: Entry<'_>) -> Result<Unit, SettingsError> {
    let fault = entry.bad("exactly one of header, param, request: true");
    let mut section = entry.section()?;
    let (header, param, request) = (section.take("header"), section.take("param"), section.take("request"));
    section.finish()?;
    match (header, param, request) {
        (Some(header), None, None) => Ok(Unit::Header(header_name(header)?)),
        (None, Some(param), None) => Ok(Unit::Param(value(param)?)),
        (None, None, Some(request)) if request.boolean()? => Ok(Unit::Request),
        _ => Err(fault),
    }
}

fn force(entry: Entry<'_>) -> Result<ForceRule, SettingsError> {
    let one = entry.bad("exactly one of exact, prefix, present: true");
    let whole = entry.bad("header, arm and one of exact, prefix, present");
    let mut section = entry.section()?;
    let (header, arm) = (section.take("header"), section.take("arm"));
    let (exact, prefix, present) = (section.take("exact"), section.take("prefix"), section.take("present"));
    section.finish()?;
    let (Some(header), Some(arm)) = (header, arm) else { return Err(whole) };
    let matches = match (exact, prefix, present) {
        (Some(exact), None, None) => Match::Exact(value(exact)?),
        (None, Some(prefix), None) => Match::Prefix(value(prefix)?),
        (None, None, Some(present)) if present.boolean()? => Match::Present,
        _ => return Err(one),
    };
    Ok(ForceRule { header: header_name(header)?, matches, arm: arm.one_of(&ARMS)? })
}

/// A header's name in lower case, as both protocols carry it.
fn header_name(entry: Entry<'_>) -> Result<String, SettingsError> {
    let fault = entry.bad("the name of a header: letters, digits, '-', '_' and '.'");
    let name = entry.text()?.to_ascii_lowercase();
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_fit) {
        return Err(fault);
    }
    Ok(name)
}

fn value(entry: Entry<'_>) -> Result<String, SettingsError> {
    let fault = entry.bad(&format!("text of 1 to {MAX_VALUE_BYTES} bytes"));
    let text = entry.text()?;
    if text.is_empty() || text.len() > MAX_VALUE_BYTES { Err(fault) } else { Ok(text) }
}
