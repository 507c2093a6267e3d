//! `config.pbtxt`: Triton's model configuration, protobuf's text format of message `inference.ModelConfig`.
//!
//! The fields that headgate shares are honoured; any other that is set is noted by name, so that nothing a model's
//! author asked for is dropped in silence.

use std::time::Duration;

use prost_reflect::{DynamicMessage, Value};

use crate::error::nearest;
use crate::inference::printable;
use crate::proto::inference::model_instance_group::Kind as InstanceKind;
use crate::proto::inference::model_queue_policy::TimeoutAction as WireTimeoutAction;
use crate::proto::inference::model_version_policy::PolicyChoice;
use crate::proto::inference::{ModelConfig, ModelDynamicBatching, ModelInstanceGroup, model_config::SchedulingChoice};
use crate::proto::model_config_descriptor;
use crate::registry::declared::{Declared, DeclaredTensor};
use crate::registry::listing::MODEL_FILE;
use crate::registry::model_config::{DynamicBatching, MAX_POLICY_VERSIONS, MAX_WORKERS, ModelFile, TimeoutAction};
use crate::registry::version_policy::{MAX_VERSION, VersionPolicy};
use crate::served_config::dtype_of;
use crate::yaml::SettingsError;

/// What is wrong with a config.pbtxt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PbtxtError {
    #[error("not valid protobuf text: {0}")]
    Syntax(String),
    #[error("unknown field '{field}'{}", nearest_text(nearest))]
    UnknownField { field: String, nearest: Option<String> },
    #[error(transparent)]
    Value(#[from] SettingsError),
}

/// What headgate acts on. A name without its parent's other parts here leaves those parts unhonoured.
const HONOURED: [&str; 23] = [
    "name",
    "platform",
    "backend",
    "version_policy",
    "max_batch_size",
    "default_model_filename",
    "input.name",
    "input.data_type",
    "input.dims",
    "output.name",
    "output.data_type",
    "output.dims",
    "output.label_filename",
    "instance_group.name",
    "instance_group.count",
    "instance_group.kind",
    "dynamic_batching.preferred_batch_size",
    "dynamic_batching.max_queue_delay_microseconds",
    "dynamic_batching.default_queue_policy.max_queue_size",
    "dynamic_batching.default_queue_policy.default_timeout_microseconds",
    "dynamic_batching.default_queue_policy.timeout_action",
    // A request's own timeout always counts.
    "dynamic_batching.default_queue_policy.allow_timeout_override",
    // The largest batch is cut as soon as there is one either way; replies keep the order of their requests.
    "dynamic_batching.preserve_ordering",
];

const PLATFORMS: [&str; 3] = ["", "onnxruntime_onnx", "tract_onnx"];
const BACKENDS: [&str; 3] = ["", "onnxruntime", "tract"];

/// Reads the config.pbtxt of the model in folder `model`.
///
/// # Errors
/// What is not protobuf text, an unknown field with the nearest known one, or a value that can't be served.
pub fn parse(model: &str, bytes: &[u8]) -> Result<ModelFile, PbtxtError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PbtxtError::Syntax("the file is not UTF-8".to_owned()))?;
    let message = DynamicMessage::parse_text_format(model_config_descriptor(), &with_list_colons(text))
        .map_err(|fault| syntax_error(&fault.to_string()))?;
    let config: ModelConfig = message.transcode_to().map_err(|fault| PbtxtError::Syntax(fault.to_string()))?;

    check_identity(model, &config)?;
    let mut file = ModelFile { declared: Some(declared(&config)), ..ModelFile::default() };
    unhonoured(&message, "", &mut file.not_honoured);
    file.version_policy =
        config.version_policy.and_then(|policy| policy.policy_choice).map(version_policy).transpose()?;
    file.max_batch_size = match config.max_batch_size {
        0 => None,
        size => Some(u32::try_from(size).map_err(|_| bad("max_batch_size", "at least 0", size))?),
    };
    for output in config.output.into_iter().filter(|output| !output.label_filename.is_empty()) {
        file.label_files.insert(output.name, output.label_filename);
    }
    file.max_workers = workers(&config.instance_group, &mut file.not_honoured)?;
    if let Some(SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice {
        dynamic_batching(batching, &mut file)?;
    }
    Ok(file)
}

fn check_identity(model: &str, config: &ModelConfig) -> Result<(), SettingsError> {
    if !config.name.is_empty() && config.name != model {
        return Err(bad("name", format!("the folder's name, '{model}'"), quoted(&config.name)));
    }
    if !PLATFORMS.contains(&config.platform.as_str()) {
        return Err(bad("platform", "onnxruntime_onnx or tract_onnx", quoted(&config.platform)));
    }
    if !BACKENDS.contains(&config.backend.as_str()) {
        return Err(bad("backend", "onnxruntime or tract", quoted(&config.backend)));
    }
    if !["", MODEL_FILE].contains(&config.default_model_filename.as_str()) {
        return Err(bad("default_model_filename", format!("'{MODEL_FILE}'"), quoted(&config.default_model_filename)));
    }
    Ok(())
}

fn declared(config: &ModelConfig) -> Declared {
    let tensor = |name: &str, data_type, dims: &[i64]| DeclaredTensor {
        name: name.to_owned(),
        dtype: dtype_of(data_type),
        dims: dims.to_vec(),
    };
    Declared {
        batched: config.max_batch_size > 0,
        inputs: config.input.iter().map(|input| tensor(&input.name, input.data_type(), &input.dims)).collect(),
        outputs: config.output.iter().map(|output| tensor(&output.name, output.data_type(), &output.dims)).collect(),
    }
}

fn version_policy(choice: PolicyChoice) -> Result<VersionPolicy, SettingsError> {
    match choice {
        PolicyChoice::All(_) => Ok(VersionPolicy::All),
        PolicyChoice::Latest(latest) => match latest.num_versions {
            // Left out, as in `latest {}`.
            0 => Ok(VersionPolicy::Latest(1)),
            count if count <= MAX_POLICY_VERSIONS => Ok(VersionPolicy::Latest(count)),
            count => Err(bad("version_policy.latest.num_versions", format!("at most {MAX_POLICY_VERSIONS}"), count)),
        },
        PolicyChoice::Specific(specific) => {
            let key = "version_policy.specific.versions";
            if specific.versions.is_empty() || specific.versions.len() > MAX_POLICY_VERSIONS as usize {
                return Err(bad(key, format!("1 to {MAX_POLICY_VERSIONS} version numbers"), specific.versions.len()));
            }
            let number = |version: i64| match u64::try_from(version) {
                Ok(number @ 1..=MAX_VERSION) => Ok(number),
                _ => Err(bad(key, "numbers above 0", version)),
            };
            specific.versions.into_iter().map(number).collect::<Result<_, _>>().map(VersionPolicy::Specific)
        }
    }
}

/// Workers are the instances of all groups together.
fn workers(groups: &[ModelInstanceGroup], not_honoured: &mut Vec<String>) -> Result<Option<u32>, SettingsError> {
    let mut total: u32 = 0;
    for group in groups {
        if let kind @ (InstanceKind::Gpu | InstanceKind::Model) = group.kind() {
            not_honoured.push(format!("instance_group.kind: {}", kind.as_str_name()));
        }
        let expected = || format!("at most {MAX_WORKERS} in all");
        // 0 stands for a count left out, which is one instance.
        let count = u32::try_from(group.count).map_err(|_| bad("instance_group.count", expected(), group.count))?;
        total = total.saturating_add(count.max(1));
        if total > MAX_WORKERS {
            return Err(bad("instance_group.count", expected(), total));
        }
    }
    Ok((total > 0).then_some(total))
}

fn dynamic_batching(wire: ModelDynamicBatching, file: &mut ModelFile) -> Result<(), SettingsError> {
    let size = |size: i32| match u32::try_from(size) {
        Ok(size @ 1..) => Ok(size),
        _ => Err(bad("dynamic_batching.preferred_batch_size", "numbers above 0", size)),
    };
    file.batching = Some(DynamicBatching {
        preferred_batch_size: wire.preferred_batch_size.into_iter().map(size).collect::<Result<_, _>>()?,
        max_queue_delay: Duration::from_micros(wire.max_queue_delay_microseconds),
    });
    if let Some(policy) = wire.default_queue_policy {
        file.max_queue_size = Some(policy.max_queue_size);
        file.default_timeout = Some(Duration::from_micros(policy.default_timeout_microseconds));
        file.timeout_action = Some(match policy.timeout_action() {
            WireTimeoutAction::Reject => TimeoutAction::Reject,
            WireTimeoutAction::Delay => TimeoutAction::Delay,
        });
    }
    Ok(())
}

/// Collects the names of set fields that are not in `HONOURED`, each once.
fn unhonoured(message: &DynamicMessage, prefix: &str, out: &mut Vec<String>) {
    for (field, value) in message.fields() {
        let path = format!("{prefix}{}", field.name());
        if HONOURED.contains(&path.as_str()) {
            continue;
        }
        let inside = format!("{path}.");
        if HONOURED.iter().any(|honoured| honoured.starts_with(&inside)) {
            match value {
                Value::Message(message) => unhonoured(message, &inside, out),
                Value::List(items) => {
                    items.iter().filter_map(Value::as_message).for_each(|message| unhonoured(message, &inside, out));
                }
                _ => {}
            }
        } else if !out.contains(&path) {
            out.push(path);
        }
    }
}

/// Puts the colon into `input [ … ]`, which protobuf lets one leave out before a list of messages, as almost every
/// config.pbtxt does, and which our parser insists on.
fn with_list_colons(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    // Whether what came last, white space and comments aside, was the name of a field.
    let mut after_name = false;
    while let Some(c) = chars.next() {
        match c {
            '#' => {
                out.push(c);
                out.extend(std::iter::from_fn(|| chars.next_if(|&c| c != '\n')));
                continue;
            }
            '"' | '\'' => {
                out.push(c);
                while let Some(inside) = chars.next() {
                    out.push(inside);
                    match inside {
                        '\\' => out.extend(chars.next()),
                        _ if inside == c => break,
                        _ => {}
                    }
                }
                after_name = false;
                continue;
            }
            '[' if after_name => out.push(':'),
            _ => {}
        }
        out.push(c);
        if !c.is_whitespace() {
            after_name = c.is_ascii_alphanumeric() || c == '_';
        }
    }
    out
}

/// The parser tells its errors apart by text alone; an unknown field is worth a better answer.
fn syntax_error(text: &str) -> PbtxtError {
    let unknown = text.strip_prefix("field '").and_then(|rest| rest.split_once("' not found for message '"));
    let Some((field, message)) = unknown else { return PbtxtError::Syntax(text.to_owned()) };
    let known = model_config_descriptor()
        .parent_pool()
        .get_message_by_name(message.trim_end_matches('\''))
        .map(|message| message.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>())
        .unwrap_or_default();
    PbtxtError::UnknownField { field: printable(field), nearest: nearest(field, known.iter().map(String::as_str)) }
}

fn bad(key: &str, expected: impl Into<String>, got: impl std::fmt::Display) -> SettingsError {
    SettingsError::bad_value(key, expected, got)
}

fn quoted(text: &str) -> String {
    format!("'{}'", printable(text))
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    #[test]
    fn the_fields_that_are_shared() {
        let file = parse(
            "digits",
            br#"
            name: "digits"
            platform: "onnxruntime_onnx"
            max_batch_size: 8
            input [ { name: "image", data_type: TYPE_FP32, dims: [ 8, 8 ] } ]
            output [
              { name: "label" data_type: TYPE_INT64 dims: [ 1 ] },
              { name: "p" data_type: TYPE_STRING dims: [ 10 ] label_filename: "classes.txt" }
            ]
            version_policy: { specific: { versions: [1, 3] } }
            instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_AUTO } ]
            dynamic_batching {
              default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 2000 allow_timeout_override: true }
            }
            "#,
        )
        .unwrap();
        assert_eq!(file.max_batch_size, Some(8));
        assert_eq!(file.version_policy, Some(VersionPolicy::Specific([1, 3].into())));
        assert_eq!((file.max_workers, file.max_queue_size), (Some(3), Some(64)));
        assert_eq!(file.default_timeout, Some(Duration::from_millis(2)));
        assert_eq!(file.label_files["p"], "classes.txt");
        let declared = file.declared.unwrap();
        assert!(declared.batched);
        let image = DeclaredTensor { name: "image".into(), dtype: Some(DataType::Fp32), dims: vec![8, 8] };
        assert_eq!(declared.inputs, [image]);
        assert_eq!(declared.outputs[1].dtype, Some(DataType::Bytes));
        assert_eq!(file.not_honoured, Vec::<String>::new());
    }

    #[test]
    fn lists_of_messages_need_no_colon() {
        for (text, expected) in [
            ("a [ {} ]", "a :[ {} ]"),
            ("a: [1] b\n[{}]", "a: [1] b\n:[{}]"),
            ("a # b [\n [{}]", "a # b [\n :[{}]"),
            (r#"a: "b [ \" c [" d [{}]"#, r#"a: "b [ \" c [" d :[{}]"#),
            (r"a: 'b\", r"a: 'b\"),
        ] {
            assert_eq!(with_list_colons(text), expected);
        }
    }

    #[test]
    fn what_is_not_honoured_is_named() {
        let file = parse(
            "m",
            br#"
            optimization { execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt" } ] } }
            parameters { key: "intra_op_thread_count" value { string_value: "2" } }
            model_warmup [ { name: "w" batch_size: 1 } ]
            input [ { name: "a" reshape { shape: [1] } }, { name: "b" reshape { shape: [1] } optional: true } ]
            instance_group [ { kind: KIND_GPU gpus: [0] } ]
            dynamic_batching { preferred_batch_size: [4] priority_levels: 3 }
            "#,
        )
        .unwrap();
        let mut names = file.not_honoured;
        names.sort();
        assert_eq!(
            names,
            [
                "dynamic_batching.priority_levels",
                "input.optional",
                "input.reshape",
                "instance_group.gpus",
                "instance_group.kind: KIND_GPU",
                "model_warmup",
                "optimization",
                "parameters",
            ]
        );
        let file = parse("m", b"input { name: 'a' dims: 3 dims: 4 }; version_policy: { all { } } # all").unwrap();
        assert_eq!(
            (file.version_policy, &file.declared.unwrap().inputs[0].dims),
            (Some(VersionPolicy::All), &vec![3, 4])
        );
        let file = parse("m", b"sequence_batching { direct {} }").unwrap();
        assert_eq!(file.not_honoured, ["sequence_batching"]);
    }

    #[test]
    fn faults_say_what_was_expected() {
        let fault = |text: &str| parse("m", text.as_bytes()).unwrap_err().to_string();
        for (text, expected) in [
            (r#"name: "n""#, "name: expected the folder's name, 'm', got 'n'"),
            (
                r#"platform: "pytorch_libtorch""#,
                "platform: expected onnxruntime_onnx or tract_onnx, got 'pytorch_libtorch'",
            ),
            (r#"backend: "python""#, "backend: expected onnxruntime or tract, got 'python'"),
            (r#"default_model_filename: "m.onnx""#, "default_model_filename: expected 'model.onnx', got 'm.onnx'"),
            ("max_batchsize: 3", "unknown field 'max_batchsize', did you mean 'max_batch_size'?"),
            (
                "dynamic_batching { max_queue_delay_ms: 3 }",
                "unknown field 'max_queue_delay_ms', did you mean 'max_queue_delay_microseconds'?",
            ),
            ("max_batch_size: -1", "max_batch_size: expected at least 0, got -1"),
            ("instance_group [ { count: 2000 } ]", "instance_group.count: expected at most 1024 in all, got 2000"),
            (
                "version_policy { specific { versions: [0] } }",
                "version_policy.specific.versions: expected numbers above 0, got 0",
            ),
        ] {
            assert_eq!(fault(text), expected);
        }
        assert!(fault("max_batch_size 3 {").starts_with("not valid protobuf text: "));
        assert!(fault(&"[".repeat(100_000)).starts_with("not valid protobuf text: "));
    }
}
