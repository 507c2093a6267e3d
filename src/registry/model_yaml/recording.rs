//! The keys of model.yaml that speak of the prediction log: `log`, `features`, `quality` and `lineage`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::texts;
use crate::prediction_log::settings::{
    Durability, Exposure, LogSettings, MAX_SEGMENTS, QualitySettings, Redaction, SampleBy, Task,
};
use crate::registry::model_config::ModelFile;
use crate::servable::Lineage;
use crate::yaml::{Entry, Section, SettingsError};

/// Most names that an input's rows may be split into.
const MAX_FEATURES: usize = 10_000;
/// Most columns that may be redacted.
const MAX_REDACTED: usize = 10_000;
/// Largest `log.max_tensor_bytes`.
const MAX_TENSOR_BYTES: u64 = 32 << 20;
/// Most decimals that `round` keeps, and most places before the point that it clears.
const MAX_DECIMALS: u32 = 15;
/// Most characters that `mask` leaves.
const MAX_KEPT: u64 = 1000;
/// Longest time of the log's keys: a hundred years.
const MAX_TIME: Duration = Duration::from_secs(100 * 366 * 86_400);
/// Longest text of `lineage`, in bytes.
const MAX_LINEAGE_BYTES: usize = 1024;

/// Takes the four keys.
pub(super) fn take(root: &mut Section<'_>, file: &mut ModelFile) -> Result<(), SettingsError> {
    file.log = root.take("log").map(|entry| log(entry.section()?)).transpose()?;
    if let Some(entry) = root.take("features") {
        for (input, names) in entry.section()?.entries() {
            file.features.insert(input.to_owned(), features(names)?);
        }
    }
    file.quality = root.take("quality").map(|entry| quality(entry.section()?)).transpose()?;
    if let Some(entry) = root.take("lineage") {
        file.lineage = lineage(entry.section()?)?;
    }
    Ok(())
}

fn log(mut section: Section<'_>) -> Result<LogSettings, SettingsError> {
    let mut log = LogSettings::default();
    if let Some(entry) = section.take("sample") {
        (log.sample, log.sample_by) = sample(entry)?;
    }
    if let Some(entry) = section.take("redact") {
        let too_many = entry.bad(&format!("at most {MAX_REDACTED} columns"));
        for (column, rule) in entry.section()?.entries() {
            log.redact.insert(column.to_owned(), redaction(rule)?);
        }
        if log.redact.len() > MAX_REDACTED {
            return Err(too_many);
        }
    }
    if let Some(entry) = section.take("durability") {
        let words =
            [("none", Durability::None), ("interval", Durability::Interval), ("required", Durability::Required)];
        log.durability = entry.one_of(&words)?;
    }
    if let Some(entry) = section.take("max_tensor_bytes") {
        log.max_tensor_bytes = entry.integer(0, MAX_TENSOR_BYTES)? as usize;
    }
    log.retain = section.take("retain").map(above_zero).transpose()?;
    section.finish()?;
    Ok(log)
}

/// A share, or a share and what decides it.
fn sample(entry: Entry<'_>) -> Result<(f64, SampleBy), SettingsError> {
    let fault = entry.bad("a number from 0 to 1, or {rate, by}");
    if entry.is_number() {
        return Ok((entry.number_within(0.0, 1.0)?, SampleBy::Key));
    }
    let Ok(mut section) = entry.section() else { return Err(fault) };
    let rate = section.take("rate").map(|entry| entry.number_within(0.0, 1.0)).transpose()?;
    let by = section.take("by").map(Entry::text).transpose()?;
    section.finish()?;
    let by = match by.as_deref() {
        None | Some("key") => SampleBy::Key,
        Some(column) => SampleBy::Column(column.to_owned()),
    };
    Ok((rate.unwrap_or(1.0), by))
}

fn redaction(entry: Entry<'_>) -> Result<Redaction, SettingsError> {
    let fault = entry.bad("drop, hmac, mask, {round: decimals} or {mask: {keep_last: characters}}");
    if entry.is_text() {
        let words = [("drop", Redaction::Drop), ("hmac", Redaction::Hmac), ("mask", Redaction::Mask { keep_last: 0 })];
        return entry.one_of(&words).map_err(|_| fault);
    }
    let Ok(mut section) = entry.section() else { return Err(fault) };
    let (round, mask) = (section.take("round"), section.take("mask"));
    section.finish()?;
    match (round, mask) {
        (Some(decimals), None) => decimals.signed(-i64::from(MAX_DECIMALS), MAX_DECIMALS.into()).map(|n| {
            // The bounds are far within an i32.
            Redaction::Round(n as i32)
        }),
        (None, Some(mask)) => {
            let mut mask = mask.section()?;
            let keep_last = mask.take("keep_last").map(|entry| entry.integer(0, MAX_KEPT)).transpose()?.unwrap_or(0);
            mask.finish()?;
            Ok(Redaction::Mask { keep_last: keep_last as usize })
        }
        _ => Err(fault),
    }
}

fn features(entry: Entry<'_>) -> Result<Vec<String>, SettingsError> {
    let path = entry.path().to_owned();
    let names = texts(entry, MAX_FEATURES)?;
    let mut seen = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        let at_path = || format!("{path}[{at}]");
        if name.is_empty() {
            return Err(SettingsError::bad_value(at_path(), "a name", "an empty text"));
        }
        if let Some(before) = seen.insert(name, at) {
            return Err(SettingsError::bad_value(at_path(), format!("another name than [{before}]"), name));
        }
    }
    if names.is_empty() {
        return Err(SettingsError::bad_value(path, "at least one name", "a list of 0"));
    }
    Ok(names)
}

fn quality(mut section: Section<'_>) -> Result<QualitySettings, SettingsError> {
    let path = section.path().to_owned();
    let words = [("classification", Task::Classification), ("regression", Task::Regression), ("click", Task::Click)];
    let missing = || SettingsError::bad_value(format!("{path}.task"), "classification, regression or click", "nothing");
    let task = section.take("task").ok_or_else(missing)?.one_of(&words)?;
    let output = section.take("output").map(name).transpose()?;
    let plain = QualitySettings::of(task);
    let feedback = section.take("feedback").map(name).transpose()?.unwrap_or(plain.feedback);
    let segments = section.take("segments").map(|entry| texts(entry, MAX_SEGMENTS)).transpose()?.unwrap_or_default();
    let negative_after = section.take("negative_after").map(above_zero).transpose()?;
    let exposure = section.take("exposure").map(name).transpose()?;
    let exposure = exposure.map_or(Exposure::Assumed, |name| Exposure::named(&name));
    if matches!(&exposure, Exposure::Feedback(shown) if *shown == feedback) {
        let expected = "another name than that of quality.feedback, which says what turned out";
        return Err(SettingsError::bad_value(format!("{path}.exposure"), expected, format!("'{feedback}'")));
    }
    let tolerance = section.take("tolerance").map(Entry::non_negative).transpose()?;
    section.finish()?;
    if tolerance.is_some() && task != Task::Regression {
        return Err(SettingsError::bad_value(
            format!("{path}.tolerance"),
            "task: regression beside it",
            "another task",
        ));
    }
    Ok(QualitySettings { task, output, feedback, segments, negative_after, exposure, tolerance })
}

fn lineage(mut section: Section<'_>) -> Result<Lineage, SettingsError> {
    let mut text = |key| section.take(key).map(short_text).transpose();
    let lineage = Lineage { dataset: text("dataset")?, git: text("git")?, run_id: text("run_id")? };
    section.finish()?;
    Ok(lineage)
}

fn short_text(entry: Entry<'_>) -> Result<String, SettingsError> {
    let too_long = entry.bad(&format!("a text of at most {MAX_LINEAGE_BYTES} bytes"));
    entry.text().and_then(|text| if text.len() <= MAX_LINEAGE_BYTES { Ok(text) } else { Err(too_long) })
}

fn name(entry: Entry<'_>) -> Result<String, SettingsError> {
    let empty = entry.bad("a name");
    entry.text().and_then(|text| if text.is_empty() { Err(empty) } else { Ok(text) })
}

fn above_zero(entry: Entry<'_>) -> Result<Duration, SettingsError> {
    let zero = entry.bad("a time above 0, such as 30m or 30d");
    entry.duration(MAX_TIME).and_then(|time| if time.is_zero() { Err(zero) } else { Ok(time) })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_log_says_what_is_sampled_redacted_and_kept() {
        let file = parse(
            b"
log:
  sample: {rate: 0.1, by: in_user}
  redact: {in_name: drop, in_user: hmac, in_age: {round: -1}, in_card: {mask: {keep_last: 4}}, in_pin: mask}
  durability: required
  max_tensor_bytes: 1024
  retain: 30d
",
        )
        .unwrap();
        let redact = [
            ("in_name", Redaction::Drop),
            ("in_user", Redaction::Hmac),
            ("in_age", Redaction::Round(-1)),
            ("in_card", Redaction::Mask { keep_last: 4 }),
            ("in_pin", Redaction::Mask { keep_last: 0 }),
        ];
        let expected = LogSettings {
            sample: 0.1,
            sample_by: SampleBy::Column("in_user".into()),
            redact: redact.map(|(column, rule)| (column.to_owned(), rule)).into(),
            durability: Durability::Required,
            max_tensor_bytes: 1024,
            retain: Some(Duration::from_secs(30 * 86_400)),
            ..LogSettings::default()
        };
        assert_eq!(file.log, Some(expected));
        assert_eq!(file.not_honoured, Vec::<String>::new());
    }

    #[test]
    fn a_share_alone_goes_by_the_key() {
        let sample = |text: &str| {
            let log = parse(format!("log: {{sample: {text}}}").as_bytes()).unwrap().log.unwrap();
            (log.sample, log.sample_by)
        };
        assert_eq!(sample("0.25"), (0.25, SampleBy::Key));
        assert_eq!(sample("1"), (1.0, SampleBy::Key));
        assert_eq!(sample("{rate: 0.5, by: key}"), (0.5, SampleBy::Key));
        assert_eq!(sample("{by: in_user}"), (1.0, SampleBy::Column("in_user".into())));
    }

    #[test]
    fn features_ranges_and_the_log_are_one_setting() {
        let settings = parse(b"features: {X: [a, b]}\noutputs: {p: {min: 0, max: 1}, q: {min: 2}}").unwrap().settings();
        assert_eq!(settings.log.features["X"], ["a", "b"]);
        assert_eq!(settings.log.output_ranges["p"], (0.0, 1.0));
        assert_eq!(settings.log.output_ranges["q"], (2.0, f64::INFINITY));
        assert_eq!(settings.log.sample, 1.0);
    }

    #[test]
    fn quality_has_defaults_for_all_but_its_task() {
        let quality = |text: &str| parse(format!("quality: {text}").as_bytes()).unwrap().quality.unwrap();
        assert_eq!(quality("{task: classification}"), QualitySettings::of(Task::Classification));
        let clicks = QualitySettings {
            task: Task::Click,
            output: Some("score".into()),
            feedback: "click".into(),
            segments: vec!["in_country".into()],
            negative_after: Some(Duration::from_secs(1800)),
            exposure: Exposure::Feedback("shown".into()),
            tolerance: None,
        };
        let text = "{task: click, output: score, feedback: click, segments: [in_country], negative_after: 30m, \
                     exposure: shown}";
        assert_eq!(quality(text), clicks);
        assert_eq!(quality("{task: regression, tolerance: 0.5}").tolerance, Some(0.5));
    }

    #[test]
    fn lineage_is_text() {
        let file = parse(b"lineage: {dataset: 'sha256:00', git: abc, run_id: 7}").unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(file.lineage, Lineage { dataset: text("sha256:00"), git: text("abc"), run_id: text("7") });
    }

    #[test]
    fn faults_name_key_expected_and_got() {
        let fault = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        let rules = "drop, hmac, mask, {round: decimals} or {mask: {keep_last: characters}}";
        for (text, expected) in [
            ("log: {sample: 2}", "log.sample: expected a number from 0 to 1, got 2".to_owned()),
            ("log: {sample: all}", "log.sample: expected a number from 0 to 1, or {rate, by}, got 'all'".to_owned()),
            ("log: {sample: {rate: -1}}", "log.sample.rate: expected a number from 0 to 1, got -1".to_owned()),
            ("log: {sample: {rat: 1}}", "unknown key 'log.sample.rat', did you mean 'log.sample.rate'?".to_owned()),
            ("log: {redact: {a: hash}}", format!("log.redact.a: expected {rules}, got 'hash'")),
            ("log: {redact: {a: 3}}", format!("log.redact.a: expected {rules}, got 3")),
            ("log: {redact: {a: {}}}", format!("log.redact.a: expected {rules}, got a mapping")),
            ("log: {redact: {a: {round: 1, mask: {}}}}", format!("log.redact.a: expected {rules}, got a mapping")),
            (
                "log: {redact: {a: {round: 16}}}",
                "log.redact.a.round: expected a whole number from -15 to 15, got 16".to_owned(),
            ),
            (
                "log: {redact: {a: {mask: {keep: 1}}}}",
                "unknown key 'log.redact.a.mask.keep', did you mean 'log.redact.a.mask.keep_last'?".to_owned(),
            ),
            (
                "log: {durability: always}",
                "log.durability: expected one of none, interval, required, got 'always'".to_owned(),
            ),
            ("log: {retain: 0s}", "log.retain: expected a time above 0, such as 30m or 30d, got '0s'".to_owned()),
            (
                "log: {max_tensor_bytes: -1}",
                "log.max_tensor_bytes: expected a whole number from 0 to 33554432, got -1".to_owned(),
            ),
            ("features: {X: [a, a]}", "features.X[1]: expected another name than [0], got a".to_owned()),
            ("features: {X: []}", "features.X: expected at least one name, got a list of 0".to_owned()),
            ("quality: {}", "quality.task: expected classification, regression or click, got nothing".to_owned()),
            (
                "quality: {task: clicks}",
                "quality.task: expected one of classification, regression, click, got 'clicks'".to_owned(),
            ),
            (
                "quality: {task: click, segments: [a, b, c, d]}",
                "quality.segments: expected a list of at most 3, got a list of 4".to_owned(),
            ),
            (
                "quality: {task: click, tolerance: 1}",
                "quality.tolerance: expected task: regression beside it, got another task".to_owned(),
            ),
            (
                "quality: {task: click, feedback: click, exposure: click}",
                "quality.exposure: expected another name than that of quality.feedback, which says what turned out, got 'click'"
                    .to_owned(),
            ),
            ("lineage: {data: x}", "unknown key 'lineage.data', did you mean 'lineage.dataset'?".to_owned()),
        ] {
            assert_eq!(fault(text), expected, "{text}");
        }
    }
}
