//! `model.yaml`: headgate's own file beside a model's versions.

mod recording;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::padding::PaddingRule;
use crate::inference::name_fault;
use crate::registry::model_config::{
    DynamicBatching, EngineChoice, IdleUnload, LoadMode, MAX_CLASSES, MAX_LABELS, MAX_POLICY_VERSIONS, MAX_WORKERS,
    ModelFile, TimeoutAction,
};
use crate::registry::version_policy::{MAX_VERSION, OnNewVersion, VersionPolicy};
use crate::servable::OutputRange;
use crate::yaml::{self, Entry, Section, SettingsError};

/// Longest list of `preferred_batch_size`.
const MAX_PREFERRED: usize = 64;

/// Reads a model.yaml.
///
/// # Errors
/// The first fault, naming its key, what was expected and what came.
pub fn parse(bytes: &[u8]) -> Result<ModelFile, SettingsError> {
    let document = yaml::parse(bytes)?;
    let mut root = Section::root(&document)?;
    let mut file = ModelFile {
        version_policy: root.take("version_policy").map(version_policy).transpose()?,
        max_batch_size: root.take("max_batch_size").map(|entry| size(entry, 1)).transpose()?,
        ..ModelFile::default()
    };
    if let Some(entry) = root.take("labels") {
        file.labels = labels(entry)?;
    }
    if let Some(entry) = root.take("dynamic_batching") {
        dynamic_batching(entry.section()?, &mut file)?;
    }
    if let Some(entry) = root.take("workers") {
        workers(entry.section()?, &mut file)?;
    }
    if let Some(entry) = root.take("examples") {
        let mut examples = entry.section()?;
        file.atol = examples.take("atol").map(Entry::non_negative).transpose()?;
        file.rtol = examples.take("rtol").map(Entry::non_negative).transpose()?;
        examples.finish()?;
    }
    if let Some(entry) = root.take("class_labels") {
        for (output, names) in entry.section()?.entries() {
            file.class_labels.insert(output.to_owned(), texts(names, MAX_CLASSES)?);
        }
    }
    if let Some(entry) = root.take("outputs") {
        for (output, range) in entry.section()?.entries() {
            file.output_ranges.insert(output.to_owned(), output_range(range)?);
        }
    }
    file.sequence_padding = root.take("sequence_padding").map(sequence_padding).transpose()?;
    modes(&mut root, &mut file)?;
    recording::take(&mut root, &mut file)?;
    if let Some(entry) = root.take("rollout") {
        let spec = entry.value();
        if !spec.is_object() {
            return Err(SettingsError::bad_value("rollout", "a mapping of keys to values", &spec));
        }
        file.rollout = Some(spec);
    }
    root.finish()?;
    Ok(file)
}

fn version_policy(entry: Entry<'_>) -> Result<VersionPolicy, SettingsError> {
    let one = entry.bad("exactly one of latest, all, specific");
    let mut policy = entry.section()?;
    let (latest, all, specific) = (policy.take("latest"), policy.take("all"), policy.take("specific"));
    policy.finish()?;
    match (latest, all, specific) {
        (Some(entry), None, None) => {
            let mut latest = entry.section()?;
            let count = latest.take("num_versions").map(|entry| entry.integer(1, MAX_POLICY_VERSIONS.into()));
            latest.finish()?;
            Ok(VersionPolicy::Latest(count.transpose()?.unwrap_or(1) as u32))
        }
        (None, Some(entry), None) => entry.section()?.finish().map(|()| VersionPolicy::All),
        (None, None, Some(entry)) => {
            let mut specific = entry.section()?;
            let path = specific.path().to_owned();
            let listed = specific.take("versions").map(Entry::list).transpose()?.unwrap_or_default();
            specific.finish()?;
            if listed.is_empty() || listed.len() > MAX_POLICY_VERSIONS as usize {
                let expected = format!("1 to {MAX_POLICY_VERSIONS} version numbers");
                return Err(SettingsError::bad_value(format!("{path}.versions"), expected, listed.len()));
            }
            Ok(VersionPolicy::Specific(listed.into_iter().map(version).collect::<Result<_, _>>()?))
        }
        _ => Err(one),
    }
}

fn version(entry: Entry<'_>) -> Result<u64, SettingsError> {
    entry.integer(1, MAX_VERSION)
}

fn labels(entry: Entry<'_>) -> Result<BTreeMap<String, u64>, SettingsError> {
    let labels = entry.section()?;
    let path = labels.path().to_owned();
    let mut out = BTreeMap::new();
    for (label, number) in labels.entries() {
        if let Some(reason) = name_fault(label) {
            return Err(SettingsError::bad_value(number.path(), "the name of a label", reason));
        }
        out.insert(label.to_owned(), version(number)?);
    }
    if out.len() > MAX_LABELS {
        return Err(SettingsError::bad_value(path, format!("at most {MAX_LABELS} labels"), out.len()));
    }
    Ok(out)
}

fn dynamic_batching(mut section: Section<'_>, file: &mut ModelFile) -> Result<(), SettingsError> {
    let mut batching = DynamicBatching::default();
    if let Some(entry) = section.take("preferred_batch_size") {
        let too_many = entry.bad(&format!("at most {MAX_PREFERRED} sizes"));
        let sizes = entry.list()?;
        if sizes.len() > MAX_PREFERRED {
            return Err(too_many);
        }
        batching.preferred_batch_size =
            sizes.into_iter().map(|entry| size(entry, 1)).collect::<Result<_, SettingsError>>()?;
    }
    if let Some(entry) = section.take("max_queue_delay_microseconds") {
        batching.max_queue_delay = Duration::from_micros(entry.integer(0, u64::MAX)?);
    }
    if let Some(entry) = section.take("default_queue_policy") {
        queue_policy(entry.section()?, file)?;
    }
    file.batching = Some(batching);
    section.finish()
}

fn queue_policy(mut section: Section<'_>, file: &mut ModelFile) -> Result<(), SettingsError> {
    file.max_queue_size = section.take("max_queue_size").map(|entry| size(entry, 0)).transpose()?;
    let timeout_us = section.take("default_timeout_microseconds").map(|entry| entry.integer(0, u64::MAX));
    file.default_timeout = timeout_us.transpose()?.map(Duration::from_micros);
    if let Some(entry) = section.take("timeout_action") {
        let action = entry.one_of(&[("REJECT", TimeoutAction::Reject), ("DELAY", TimeoutAction::Delay)])?;
        file.timeout_action = Some(action);
    }
    section.finish()
}

fn workers(mut section: Section<'_>, file: &mut ModelFile) -> Result<(), SettingsError> {
    let least = |entry: Entry<'_>| entry.integer(0, MAX_WORKERS.into()).map(|count| count as u32);
    let count = |entry: Entry<'_>| entry.integer(1, MAX_WORKERS.into()).map(|count| count as u32);
    file.min_workers = section.take("min").map(least).transpose()?;
    file.max_workers = section.take("max").map(count).transpose()?;
    match (file.min_workers, file.max_workers) {
        (Some(min), Some(max)) if min > max => {
            Err(SettingsError::bad_value("workers.min", format!("at most workers.max ({max})"), min))
        }
        _ => section.finish(),
    }
}

fn output_range(entry: Entry<'_>) -> Result<OutputRange, SettingsError> {
    let mut range = entry.section()?;
    let path = format!("{}.min", range.path());
    let (min, max) = (range.take("min"), range.take("max"));
    let (min, max) = (min.map(Entry::number).transpose()?, max.map(Entry::number).transpose()?);
    range.finish()?;
    match (min, max) {
        (Some(least), Some(most)) if least > most => {
            Err(SettingsError::bad_value(path, format!("at most the max ({most})"), least))
        }
        _ => Ok(OutputRange { min, max }),
    }
}

fn sequence_padding(entry: Entry<'_>) -> Result<PaddingRule, SettingsError> {
    let mut padding = entry.section()?;
    let missing = |key: &str, expected: &str| {
        let key = format!("sequence_padding.{key}");
        SettingsError::bad_value(key, expected, "nothing")
    };
    let dimension = padding.take("dimension").ok_or_else(|| missing("dimension", "the name of a dimension"))?.text()?;
    let buckets = padding.take("buckets").ok_or_else(|| missing("buckets", "a list of lengths"))?;
    let too_many = buckets.bad(&format!("1 to {} lengths", PaddingRule::MAX_BUCKETS));
    let listed = buckets.list()?;
    if listed.is_empty() || listed.len() > PaddingRule::MAX_BUCKETS {
        return Err(too_many);
    }
    let mut buckets: Vec<usize> = vec![];
    for entry in listed {
        let path = entry.path().to_owned();
        let bucket = entry.integer(1, PaddingRule::MAX_BUCKET as u64)? as usize;
        if let Some(before) = buckets.last().filter(|&&before| before >= bucket) {
            return Err(SettingsError::bad_value(path, format!("more than the length before ({before})"), bucket));
        }
        buckets.push(bucket);
    }
    let mask = padding.take("mask").map(Entry::text).transpose()?;
    let mut pad = BTreeMap::new();
    if let Some(entry) = padding.take("pad") {
        for (input, value) in entry.section()?.entries() {
            pad.insert(input.to_owned(), value.number()?);
        }
    }
    padding.finish()?;
    Ok(PaddingRule { dimension, buckets, mask, pad })
}

/// Keys that choose one of a few words; words that this build can't follow are noted.
fn modes(root: &mut Section<'_>, file: &mut ModelFile) -> Result<(), SettingsError> {
    if let Some(entry) = root.take("on_new_version") {
        let words = [("serve", OnNewVersion::Serve), ("hold", OnNewVersion::Hold), ("rollout", OnNewVersion::Rollout)];
        file.on_new_version = Some(entry.one_of(&words)?);
    }
    if let Some(entry) = root.take("load") {
        file.load = Some(entry.one_of(&[("eager", LoadMode::Eager), ("lazy", LoadMode::Lazy)])?);
    }
    if let Some(entry) = root.take("idle_unload") {
        file.idle_unload = Some(idle_unload(entry)?);
    }
    if let Some(entry) = root.take("engine") {
        let words =
            [("auto", EngineChoice::Auto), ("tract", EngineChoice::Tract), ("onnxruntime", EngineChoice::OnnxRuntime)];
        file.engine = Some(entry.one_of(&words)?);
    }
    Ok(())
}

fn idle_unload(entry: Entry<'_>) -> Result<IdleUnload, SettingsError> {
    let fault = entry.bad("a time such as 10m, or never");
    match entry.text()?.as_str() {
        "never" => Ok(IdleUnload::Never),
        text => match humantime::parse_duration(text) {
            Ok(time) if !time.is_zero() => Ok(IdleUnload::After(time)),
            _ => Err(fault),
        },
    }
}

fn texts(entry: Entry<'_>, most: usize) -> Result<Vec<String>, SettingsError> {
    let too_many = entry.bad(&format!("a list of at most {most}"));
    let items = entry.list()?;
    if items.len() > most {
        return Err(too_many);
    }
    items.into_iter().map(Entry::text).collect()
}

fn size(entry: Entry<'_>, least: u64) -> Result<u32, SettingsError> {
    entry.integer(least, i32::MAX as u64).map(|size| size as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_key_is_known() {
        let file = parse(
            b"
version_policy: {latest: {num_versions: 2}}
labels: {stable: 2}
on_new_version: hold
max_batch_size: 16
dynamic_batching:
  preferred_batch_size: [4, 8]
  max_queue_delay_microseconds: 100
  default_queue_policy: {max_queue_size: 7, default_timeout_microseconds: 5000, timeout_action: REJECT}
workers: {min: 1, max: 2}
load: lazy
idle_unload: 10m
engine: auto
examples: {atol: 1.0e-4, rtol: 1.0e-3}
class_labels: {probabilities: [zero, one]}
sequence_padding: {dimension: S, buckets: [16, 32], mask: attention_mask, pad: {input_ids: -1}}
features: {X: [sepal_length, sepal_width]}
outputs: {probabilities: {min: 0, max: 1}}
lineage: {dataset: 'sha256:00', git: abc, run_id: r}
log: {sample: 1.0, redact: {}, durability: interval}
quality: {task: classification, output: probabilities, feedback: label}
rollout: {}
",
        )
        .unwrap();
        assert_eq!(file.version_policy, Some(VersionPolicy::Latest(2)));
        assert_eq!(file.labels["stable"], 2);
        assert_eq!(file.on_new_version, Some(OnNewVersion::Hold));
        assert_eq!((file.max_batch_size, file.max_queue_size), (Some(16), Some(7)));
        assert_eq!(file.default_timeout, Some(Duration::from_millis(5)));
        assert_eq!((file.min_workers, file.max_workers), (Some(1), Some(2)));
        assert_eq!(file.load, Some(LoadMode::Lazy));
        assert_eq!(file.idle_unload, Some(IdleUnload::After(Duration::from_secs(600))));
        assert_eq!((file.atol, file.rtol), (Some(1e-4), Some(1e-3)));
        assert_eq!(file.class_labels["probabilities"], ["zero", "one"]);
        let padding = PaddingRule {
            dimension: "S".into(),
            buckets: vec![16, 32],
            mask: Some("attention_mask".into()),
            pad: [("input_ids".to_owned(), -1.0)].into(),
        };
        assert_eq!(file.sequence_padding, Some(padding));
        assert_eq!(file.not_honoured, Vec::<String>::new());
        assert!(file.log.is_some() && file.quality.is_some());
        assert_eq!(file.output_ranges["probabilities"], OutputRange { min: Some(0.0), max: Some(1.0) });
    }

    #[test]
    fn policies() {
        let policy = |text: &str| parse(format!("version_policy: {text}").as_bytes()).map(|file| file.version_policy);
        assert_eq!(policy("{all: {}}").unwrap(), Some(VersionPolicy::All));
        assert_eq!(policy("{latest: {}}").unwrap(), Some(VersionPolicy::Latest(1)));
        assert_eq!(policy("{specific: {versions: [2, 5]}}").unwrap(), Some(VersionPolicy::Specific([2, 5].into())));
        let fault = |text| policy(text).unwrap_err().to_string();
        assert_eq!(
            fault("{latest: {num_versions: 1}, all: {}}"),
            "version_policy: expected exactly one of latest, all, specific, got a mapping"
        );
        assert_eq!(
            fault("{latest: {num_versions: 0}}"),
            "version_policy.latest.num_versions: expected a whole number from 1 to 1000, got 0"
        );
        assert_eq!(
            fault("{specific: {versions: []}}"),
            "version_policy.specific.versions: expected 1 to 1000 version numbers, got 0"
        );
        assert_eq!(
            fault("{lattest: {}}"),
            "unknown key 'version_policy.lattest', did you mean 'version_policy.latest'?"
        );
    }

    #[test]
    fn faults_name_key_expected_and_got() {
        let fault = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        for (text, expected) in [
            ("max_batchsize: 4", "unknown key 'max_batchsize', did you mean 'max_batch_size'?"),
            ("max_batch_size: 0", "max_batch_size: expected a whole number from 1 to 2147483647, got 0"),
            ("on_new_version: server", "on_new_version: expected one of serve, hold, rollout, got 'server'"),
            ("workers: {min: 3, max: 2}", "workers.min: expected at most workers.max (2), got 3"),
            (
                "labels: {a/b: 1}",
                "labels.a/b: expected the name of a label, got it holds '/', '\\', '@' or a control character",
            ),
            (
                "labels: {stable: one}",
                "labels.stable: expected a whole number from 1 to 9223372036854775807, got 'one'",
            ),
            ("examples: {atol: -1}", "examples.atol: expected a number of at least 0, got -1"),
            (
                "sequence_padding: {buckets: [8]}",
                "sequence_padding.dimension: expected the name of a dimension, got nothing",
            ),
            ("sequence_padding: {dimension: S}", "sequence_padding.buckets: expected a list of lengths, got nothing"),
            (
                "sequence_padding: {dimension: S, buckets: []}",
                "sequence_padding.buckets: expected 1 to 64 lengths, got a list of 0",
            ),
            (
                "sequence_padding: {dimension: S, buckets: [0, 8]}",
                "sequence_padding.buckets[0]: expected a whole number from 1 to 4096, got 0",
            ),
            (
                "sequence_padding: {dimension: S, buckets: [8, 8]}",
                "sequence_padding.buckets[1]: expected more than the length before (8), got 8",
            ),
            (
                "sequence_padding: {dimension: S, buckets: [8], pad: {ids: none}}",
                "sequence_padding.pad.ids: expected a number, got 'none'",
            ),
            (
                "sequence_padding: {dimension: S, buckets: [8], masks: m}",
                "unknown key 'sequence_padding.masks', did you mean 'sequence_padding.mask'?",
            ),
            ("idle_unload: soon", "idle_unload: expected a time such as 10m, or never, got 'soon'"),
            ("idle_unload: 0s", "idle_unload: expected a time such as 10m, or never, got '0s'"),
            ("log: {sampel: 1}", "unknown key 'log.sampel', did you mean 'log.sample'?"),
            ("outputs: {p: {min: 1, max: 0}}", "outputs.p.min: expected at most the max (0), got 1"),
            ("outputs: {p: {min: low}}", "outputs.p.min: expected a number, got 'low'"),
            ("outputs: {p: {mim: 1}}", "unknown key 'outputs.p.mim', did you mean 'outputs.p.min'?"),
        ] {
            assert_eq!(fault(text), expected);
        }
    }

    #[test]
    fn an_engine_is_pinned_and_every_word_is_followed() {
        let file = parse(b"idle_unload: never\nengine: onnxruntime\non_new_version: rollout").unwrap();
        assert_eq!(file.engine, Some(EngineChoice::OnnxRuntime));
        assert_eq!(file.not_honoured, Vec::<String>::new());
        assert_eq!(file.idle_unload, Some(IdleUnload::Never));
    }
}
