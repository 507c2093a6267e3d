//! The model configuration that clients ask for: the answer to the ModelConfig rpc, and the same as JSON.
//!
//! perf_analyzer reads it to learn what it may send, and picks its mode by which scheduler is present.

use prost_reflect::{DynamicMessage, SerializeOptions};

use crate::proto::inference::model_config::SchedulingChoice;
use crate::proto::inference::model_instance_group::Kind;
use crate::proto::inference::model_version_policy::{All, Latest, PolicyChoice, Specific};
use crate::proto::inference::{
    self as wire, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup, ModelOutput, ModelQueuePolicy,
    ModelVersionPolicy, model_queue_policy,
};
use crate::proto::model_config_descriptor;
use crate::registry::model_config::{ModelSettings, TimeoutAction};
use crate::registry::version_policy::VersionPolicy;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::DataType;

/// What a model's platform is called on the wire.
pub const PLATFORM: &str = "tract_onnx";
const BACKEND: &str = "tract";

/// The configuration of a model as it is served with so many workers.
///
/// A batch limit is told (`max_batch_size` above 0, `dims` without the batch dimension) only where one is set, the batch
/// axis is proven, and it leads every tensor; otherwise `dims` are the whole shapes.
pub fn served_config(name: &str, signature: &Signature, settings: &ModelSettings, workers: u32) -> ModelConfig {
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    // A limit in rows means nothing where no rows are known.
    let has_rows = signature.batch_axes().is_some() && specs().all(leads_with_batch);
    let max_batch_size = settings.max_batch_size.filter(|_| has_rows);
    let dims = |spec: &TensorSpec| spec.wire_shape().split_off(usize::from(max_batch_size.is_some()));
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.clone(),
        data_type: wire_type(spec.dtype).into(),
        dims: dims(spec),
        ..ModelInput::default()
    };
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: wire_type(spec.dtype).into(),
        dims: dims(spec),
        ..ModelOutput::default()
    };
    let group = ModelInstanceGroup {
        name: format!("{name}_0"),
        kind: Kind::Cpu.into(),
        count: workers.try_into().unwrap_or(i32::MAX),
        ..ModelInstanceGroup::default()
    };
    ModelConfig {
        name: name.to_owned(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(policy_choice(&settings.version_policy)) }),
        max_batch_size: max_batch_size.unwrap_or(0).try_into().unwrap_or(i32::MAX),
        input: signature.inputs.iter().map(input).collect(),
        output: signature.outputs.iter().map(output).collect(),
        instance_group: vec![group],
        default_model_filename: crate::registry::listing::MODEL_FILE.to_owned(),
        scheduling_choice: dynamic_batching(settings).map(SchedulingChoice::DynamicBatching),
        ..ModelConfig::default()
    }
}

/// The configuration as clients of the HTTP door read it: the fields' own names, default values printed, numbers as
/// numbers and enums by name. Messages that are not set are absent.
pub fn to_json(config: &ModelConfig) -> String {
    let mut message = DynamicMessage::new(model_config_descriptor());
    message.transcode_from(config).expect("a message decodes as its own type");
    let options =
        SerializeOptions::new().stringify_64_bit_integers(false).use_proto_field_name(true).skip_default_fields(false);
    let mut json = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)
        .expect("a message of numbers and text serialises into memory");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// The datatype as the configuration writes it.
pub fn wire_type(dtype: DataType) -> wire::DataType {
    match dtype {
        DataType::Bool => wire::DataType::TypeBool,
        DataType::Int8 => wire::DataType::TypeInt8,
        DataType::Int16 => wire::DataType::TypeInt16,
        DataType::Int32 => wire::DataType::TypeInt32,
        DataType::Int64 => wire::DataType::TypeInt64,
        DataType::Uint8 => wire::DataType::TypeUint8,
        DataType::Uint16 => wire::DataType::TypeUint16,
        DataType::Uint32 => wire::DataType::TypeUint32,
        DataType::Uint64 => wire::DataType::TypeUint64,
        DataType::Fp16 => wire::DataType::TypeFp16,
        DataType::Bf16 => wire::DataType::TypeBf16,
        DataType::Fp32 => wire::DataType::TypeFp32,
        DataType::Fp64 => wire::DataType::TypeFp64,
        DataType::Bytes => wire::DataType::TypeString,
    }
}

/// The datatype that the configuration writes so; `None` for `TYPE_INVALID`, which is also one that was left out.
pub fn dtype_of(wire: wire::DataType) -> Option<DataType> {
    DataType::ALL.into_iter().find(|&dtype| wire_type(dtype) == wire)
}

/// The same configuration once it is known how many rows are worth one run: where no limit is set and the batch axis is
/// proven, that number is told as the limit, although larger requests are taken too. Triton's clients read from it
/// whether there is a batch dimension, and how much to send at once.
pub fn with_measured_cap(config: &ModelConfig, signature: &Signature, cap: usize) -> ModelConfig {
    let mut config = config.clone();
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    if config.max_batch_size > 0 || signature.batch_axes().is_none() || !specs().all(leads_with_batch) {
        return config;
    }
    config.max_batch_size = cap.try_into().unwrap_or(i32::MAX);
    for input in &mut config.input {
        input.dims.remove(0);
    }
    for output in &mut config.output {
        output.dims.remove(0);
    }
    config
}

/// The same configuration with the engine that runs it now: which one is faster may be found after the load.
pub fn with_engine(config: ModelConfig, engine: &str) -> ModelConfig {
    ModelConfig { platform: format!("{engine}_onnx"), backend: engine.to_owned(), ..config }
}

fn leads_with_batch(spec: &TensorSpec) -> bool {
    spec.dims.as_ref().and_then(|dims| dims.first()).is_some_and(|dim| dim.wire() == -1)
}

fn policy_choice(policy: &VersionPolicy) -> PolicyChoice {
    match policy {
        VersionPolicy::Latest(num_versions) => PolicyChoice::Latest(Latest { num_versions: *num_versions }),
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Specific(versions) => {
            let versions = versions.iter().map(|&version| i64::try_from(version).unwrap_or(i64::MAX)).collect();
            PolicyChoice::Specific(Specific { versions })
        }
    }
}

fn dynamic_batching(settings: &ModelSettings) -> Option<ModelDynamicBatching> {
    let batching = settings.batching.as_ref()?;
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let action = match settings.queue.timeout_action {
        TimeoutAction::Reject => model_queue_policy::TimeoutAction::Reject,
        TimeoutAction::Delay => model_queue_policy::TimeoutAction::Delay,
    };
    let sizes = batching.preferred_batch_size.iter().map(|&size| size.try_into().unwrap_or(i32::MAX));
    Some(ModelDynamicBatching {
        preferred_batch_size: sizes.collect(),
        max_queue_delay_microseconds: micros(batching.max_queue_delay),
        default_queue_policy: Some(ModelQueuePolicy {
            timeout_action: action.into(),
            default_timeout_microseconds: settings.queue.default_timeout.map_or(0, micros),
            allow_timeout_override: true,
            max_queue_size: settings.queue.max_size.unwrap_or(0),
        }),
        ..ModelDynamicBatching::default()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::registry::model_config::DynamicBatching;
    use crate::signature::{BatchAxes, Batching, Dim};

    fn signature(leading: Dim) -> Signature {
        let spec = |name: &str, dtype, dims| TensorSpec { name: name.into(), dtype, dims: Some(dims), classes: vec![] };
        Signature {
            inputs: vec![spec("x", DataType::Fp32, vec![leading, Dim::Fixed(3)])],
            outputs: vec![spec("y", DataType::Bytes, vec![Dim::Unknown])],
            batching: Batching::Unproven(String::new()),
        }
    }

    fn proven(signature: Signature) -> Signature {
        let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] };
        Signature { batching: Batching::Proven(axes), ..signature }
    }

    fn json_of(signature: &Signature, settings: &ModelSettings) -> Value {
        serde_json::from_str(&to_json(&served_config("m", signature, settings, 2))).unwrap()
    }

    #[test]
    fn the_json_that_perf_analyzer_reads() {
        let json = json_of(&signature(Dim::Unknown), &ModelSettings::default());
        let expected = json!({
            "name": "m",
            "platform": "tract_onnx",
            "backend": "tract",
            "runtime": "",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": 0,
            "input": [{
                "name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NONE", "dims": [-1, 3],
                "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false, "is_non_linear_format_io": false,
            }],
            "output": [{
                "name": "y", "data_type": "TYPE_STRING", "dims": [-1], "label_filename": "",
                "is_shape_tensor": false, "is_non_linear_format_io": false,
            }],
            "batch_input": [],
            "batch_output": [],
            "instance_group": [{
                "name": "m_0", "kind": "KIND_CPU", "count": 2, "gpus": [], "secondary_devices": [], "profile": [],
                "passive": false, "host_policy": "",
            }],
            "default_model_filename": "model.onnx",
            "cc_model_filenames": {},
            "metric_tags": {},
            "parameters": {},
            "model_warmup": [],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_batch_limit_takes_the_batch_dimension_off() {
        let settings = ModelSettings { max_batch_size: Some(8), ..ModelSettings::default() };
        let json = json_of(&proven(signature(Dim::Named("N".into()))), &settings);
        assert_eq!(
            (&json["max_batch_size"], &json["input"][0]["dims"], &json["output"][0]["dims"]),
            (&json!(8), &json!([3]), &json!([]))
        );
        let json = json_of(&proven(signature(Dim::Fixed(4))), &settings);
        assert_eq!((&json["max_batch_size"], &json["input"][0]["dims"]), (&json!(0), &json!([4, 3])));
    }

    #[test]
    fn the_measured_cap_is_told_where_no_limit_is_set() {
        let unproven = signature(Dim::Named("N".into()));
        let proven = proven(unproven.clone());
        let told = |signature: &Signature, settings: &ModelSettings| {
            let config = with_measured_cap(&served_config("m", signature, settings, 1), signature, 16);
            (config.max_batch_size, config.input[0].dims.clone(), config.output[0].dims.clone())
        };
        assert_eq!(told(&proven, &ModelSettings::default()), (16, vec![3], vec![]));
        assert_eq!(told(&unproven, &ModelSettings::default()), (0, vec![-1, 3], vec![-1]));
        let limited = ModelSettings { max_batch_size: Some(4), ..ModelSettings::default() };
        assert_eq!(told(&proven, &limited), (4, vec![3], vec![]), "what is set counts");
    }

    #[test]
    fn configured_batching_is_told_with_numbers_as_numbers() {
        let batching = DynamicBatching { preferred_batch_size: vec![4], max_queue_delay: Duration::from_micros(100) };
        let settings = ModelSettings { batching: Some(batching), ..ModelSettings::default() };
        let json = json_of(&signature(Dim::Unknown), &settings);
        assert_eq!(
            json["dynamic_batching"],
            json!({
                "preferred_batch_size": [4], "max_queue_delay_microseconds": 100, "preserve_ordering": false,
                "priority_levels": 0, "default_priority_level": 0,
                "default_queue_policy": {
                    "timeout_action": "REJECT", "default_timeout_microseconds": 0, "allow_timeout_override": true,
                    "max_queue_size": 0,
                },
                "priority_queue_policy": {},
            })
        );
    }

    #[test]
    fn every_datatype_has_a_name_on_the_wire() {
        for dtype in DataType::ALL {
            assert_eq!(dtype_of(wire_type(dtype)), Some(dtype));
        }
        assert_eq!(dtype_of(wire::DataType::TypeInvalid), None);
    }
}
