//! Reading the checks and the guards.

use std::time::Duration;

use super::read::{MAX_SAMPLES, MAX_TIME};
use super::{Against, Analysis, Check, Event, Guard, Metric, ShadowPhase, Slack};
use crate::error::nearest;
use crate::yaml::{Entry, Section, SettingsError};

/// Most checks and most guards.
const MAX_LISTED: usize = 32;
/// Largest ratio of two rates that can be asked for.
const MAX_RATIO: f64 = 100.0;
/// Longest name of a check, in bytes.
const MAX_CHECK_NAME_BYTES: usize = 64;
/// Longest name of feedback, in bytes.
const MAX_FEEDBACK_NAME_BYTES: usize = 255;
/// A p95 of fewer samples is no more than their largest.
const LEAST_P95_SAMPLES: u64 = 20;
/// Largest limit of a guard in ms: a year.
const MAX_GUARD_MS: f64 = 365.0 * 86_400_000.0;
/// Shares may exceed 1 together by this, which rounding can do.
const SHARE_SLACK: f64 = 1e-9;

impl Default for Analysis {
    fn default() -> Self {
        let check = |event: Event, share| Check { share, ..Check::of(event) };
        Self {
            alpha: 0.05,
            warmup_exclude: Duration::ZERO,
            p95_samples: 500,
            slack: Slack { ratio: 0.5, time: Duration::from_micros(500) },
            checks: vec![
                check(Event::Error, 0.4),
                check(Event::SlowerThanStableP95, 0.3),
                check(Event::InvalidOutput, 0.3),
            ],
        }
    }
}

impl Check {
    /// The defaults of an event, without a share of alpha.
    fn of(event: Event) -> Self {
        let (name, against, harm_ratio, abs_max) = match event {
            Event::Error => ("errors", Against::Stable, 1.5, Some(0.01)),
            Event::SlowerThanStableP95 => ("slow", Against::Control, 2.0, Some(0.05)),
            Event::InvalidOutput => ("invalid", Against::Stable, 1.0, Some(0.01)),
            Event::ShadowDisagreement => ("disagreement", Against::Stable, 1.0, None),
            // Models are wrong far more often than they fail, so that smaller ratios can be asked for: at one answer in
            // ten, half as many mistakes more are found, and ruled out, within some thousands of labels. A tenth more is
            // what a retrained model may differ by without anybody calling it worse.
            Event::Feedback => ("quality", Against::Stable, 1.1, None),
        };
        let name = name.to_owned();
        // Safety is asked of every check: that the candidate is less bad than what would count as harm at the least.
        let safe_ratio = match event {
            Event::SlowerThanStableP95 => 3.0,
            Event::Feedback => 1.5,
            _ => 2.0,
        };
        let (critical, dry_run, share, feedback) = (true, false, 0.0, None);
        Self { name, event, feedback, against, harm_ratio, safe_ratio, abs_max, critical, dry_run, share }
    }
}

/// Reads the section `analysis`; `shadow` is the spec's shadow phase.
pub(super) fn analysis(mut section: Section<'_>, shadow: Option<&ShadowPhase>) -> Result<Analysis, SettingsError> {
    let mut analysis = Analysis::default();
    if let Some(entry) = section.take("alpha") {
        analysis.alpha = entry.positive(0.5)?;
    }
    if let Some(entry) = section.take("warmup_exclude") {
        analysis.warmup_exclude = entry.duration(MAX_TIME)?;
    }
    if let Some(entry) = section.take("p95_samples") {
        analysis.p95_samples = entry.integer(LEAST_P95_SAMPLES, MAX_SAMPLES)?;
    }
    if let Some(entry) = section.take("slack") {
        analysis.slack = slack(entry.section()?, analysis.slack)?;
    }
    if let Some(entry) = section.take("checks") {
        analysis.checks = checks(entry, shadow)?;
    }
    section.finish()?;
    Ok(analysis)
}

fn slack(mut section: Section<'_>, mut slack: Slack) -> Result<Slack, SettingsError> {
    if let Some(entry) = section.take("ratio") {
        slack.ratio = entry.number_within(0.0, MAX_RATIO)?;
    }
    if let Some(entry) = section.take("time") {
        slack.time = entry.duration(MAX_TIME)?;
    }
    section.finish()?;
    Ok(slack)
}

fn checks(entry: Entry<'_>, shadow: Option<&ShadowPhase>) -> Result<Vec<Check>, SettingsError> {
    let too_many = entry.bad(&format!("at most {MAX_LISTED} checks"));
    let path = entry.path().to_owned();
    let listed = entry.list()?;
    if listed.len() > MAX_LISTED {
        return Err(too_many);
    }
    let (mut checks, mut without_share): (Vec<Check>, Vec<usize>) = (vec![], vec![]);
    for (at, entry) in listed.into_iter().enumerate() {
        let path = entry.path().to_owned();
        let (check, has_share) = check(entry.section()?, shadow)?;
        if checks.iter().any(|other| other.name == check.name) {
            let expected = "a name that no other check has";
            return Err(SettingsError::bad_value(format!("{path}.name"), expected, format!("'{}'", check.name)));
        }
        checks.push(check);
        if !has_share {
            without_share.push(at);
        }
    }
    let given: f64 = checks.iter().map(|check| check.share).sum();
    if given > 1.0 + SHARE_SLACK {
        return Err(SettingsError::bad_value(path, "shares that sum to at most 1", given));
    }
    let rest = (1.0 - given) / without_share.len().max(1) as f64;
    if !without_share.is_empty() && rest <= SHARE_SLACK {
        let expected = "shares that leave some of 1 for the checks without one";
        return Err(SettingsError::bad_value(path, expected, given));
    }
    for at in without_share {
        checks[at].share = rest;
    }
    Ok(checks)
}

/// A check, and whether it has a share of its own.
fn check(mut section: Section<'_>, shadow: Option<&ShadowPhase>) -> Result<(Check, bool), SettingsError> {
    let path = section.path().to_owned();
    let Some(entry) = section.take("event") else {
        let words: Vec<&str> = Event::ALL.map(Event::name).into();
        return Err(SettingsError::bad_value(
            format!("{path}.event"),
            format!("one of {}", words.join(", ")),
            "nothing",
        ));
    };
    let mut check = Check::of(event(entry, shadow)?);
    if let Some(entry) = section.take("name") {
        check.name = check_name(entry)?;
    }
    if let Some(entry) = section.take("feedback") {
        check.feedback = Some(feedback_name(entry, check.event)?);
    }
    if check.event == Event::ShadowDisagreement {
        check.abs_max = shadow.map(|shadow| shadow.compare.max_disagree_rate);
        no_ratio(&mut section)?;
    } else {
        ratio(&mut section, &mut check)?;
    }
    if let Some(entry) = section.take("abs_max") {
        check.abs_max = Some(entry.positive(1.0)?);
    }
    if let Some(entry) = section.take("critical") {
        check.critical = entry.boolean()?;
    }
    if let Some(entry) = section.take("dry_run") {
        check.dry_run = entry.boolean()?;
    }
    let share = section.take("share").map(|entry| entry.positive(1.0)).transpose()?;
    section.finish()?;
    check.share = share.unwrap_or(0.0);
    Ok((check, share.is_some()))
}

/// What is counted, where there is a source for it.
fn event(entry: Entry<'_>, shadow: Option<&ShadowPhase>) -> Result<Event, SettingsError> {
    let no_phase = entry.bad("a shadow phase (key shadow) as the source of this event");
    match entry.one_of(&Event::ALL.map(|event| (event.name(), event)))? {
        Event::ShadowDisagreement if shadow.is_none() => Err(no_phase),
        event => Ok(event),
    }
}

/// The name of the feedback that a check goes by.
fn feedback_name(entry: Entry<'_>, event: Event) -> Result<String, SettingsError> {
    if event != Event::Feedback {
        return Err(entry.bad(&format!("nothing here: only the event feedback has it, {} has not", event.name())));
    }
    let fault = entry.bad(&format!("the name of a feedback, 1 to {MAX_FEEDBACK_NAME_BYTES} bytes"));
    let name = entry.text()?;
    if name.is_empty() || name.len() > MAX_FEEDBACK_NAME_BYTES { Err(fault) } else { Ok(name) }
}

fn check_name(entry: Entry<'_>) -> Result<String, SettingsError> {
    let fault = entry.bad(&format!("a name of 1 to {MAX_CHECK_NAME_BYTES} letters, digits, '-' and '_'"));
    let name = entry.text()?;
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > MAX_CHECK_NAME_BYTES || !name.chars().all(is_fit) {
        Err(fault)
    } else {
        Ok(name)
    }
}

fn ratio(section: &mut Section<'_>, check: &mut Check) -> Result<(), SettingsError> {
    if let Some(entry) = section.take("against") {
        check.against = entry.one_of(&[("stable", Against::Stable), ("control", Against::Control)])?;
    }
    if let Some(entry) = section.take("harm_ratio") {
        check.harm_ratio = entry.positive(MAX_RATIO)?;
    }
    if let Some(entry) = section.take("safe_ratio") {
        let fault = entry.bad(&format!("a ratio above 1 and at most {MAX_RATIO}"));
        check.safe_ratio = entry.number().ok().filter(|ratio| *ratio > 1.0 && *ratio <= MAX_RATIO).ok_or(fault)?;
    }
    Ok(())
}

/// Pairs of answers have no comparator.
fn no_ratio(section: &mut Section<'_>) -> Result<(), SettingsError> {
    for key in ["against", "harm_ratio", "safe_ratio"] {
        if let Some(entry) = section.take(key) {
            return Err(entry.bad("nothing here: shadow_disagreement is a rate of its own, limited by abs_max"));
        }
    }
    Ok(())
}

pub(super) fn guards(entry: Entry<'_>) -> Result<Vec<Guard>, SettingsError> {
    let too_many = entry.bad(&format!("at most {MAX_LISTED} guards"));
    let listed = entry.list()?;
    if listed.len() > MAX_LISTED {
        return Err(too_many);
    }
    let mut guards: Vec<Guard> = vec![];
    for entry in listed {
        let path = entry.path().to_owned();
        let guard = guard(entry.section()?)?;
        if guards.iter().any(|other| other.metric == guard.metric) {
            let expected = "a metric that no other guard has";
            return Err(SettingsError::bad_value(format!("{path}.metric"), expected, guard.metric.name()));
        }
        guards.push(guard);
    }
    Ok(guards)
}

fn guard(mut section: Section<'_>) -> Result<Guard, SettingsError> {
    let path = section.path().to_owned();
    let missing = |key: &str, expected: &str| SettingsError::bad_value(format!("{path}.{key}"), expected, "nothing");
    let metric = metric(section.take("metric").ok_or_else(|| missing("metric", "the name of a metric"))?)?;
    let max = section.take("max").ok_or_else(|| missing("max", "a limit"))?;
    let max = max.positive(if metric.is_rate() { 1.0 } else { MAX_GUARD_MS })?;
    section.finish()?;
    Ok(Guard { metric, max })
}

fn metric(entry: Entry<'_>) -> Result<Metric, SettingsError> {
    let path = entry.path().to_owned();
    let known = Metric::ALL.map(Metric::name);
    let unknown = entry.bad(&format!("one of {}", known.join(", ")));
    let name = entry.text()?;
    if let Some(metric) = Metric::ALL.into_iter().find(|metric| metric.name() == name) {
        return Ok(metric);
    }
    Err(nearest(&name, known).map_or(unknown, |near| {
        let got = crate::inference::printable(&name);
        SettingsError::bad_value(path, format!("a known metric (did you mean '{near}'?)"), format!("'{got}'"))
    }))
}
