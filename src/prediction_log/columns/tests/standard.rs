//! The columns that every row has.

use arrow::datatypes::{DataType as ArrowType, TimeUnit, TimestampMicrosecondType, UInt16Type, UInt64Type};

use super::*;
use crate::prediction_log::entry::RolloutPart;
use crate::prediction_log::table;
use crate::routing::Weights;

fn shown(batch: &RecordBatch, name: &str) -> Vec<String> {
    let array = column(batch, name);
    (0..array.len()).map(|row| arrow::util::display::array_value_to_string(array, row).unwrap()).collect()
}

#[test]
fn a_row_says_whose_prediction_it_is_and_how_it_came_about() {
    let log = log_of(&iris(), LogSettings::default());
    let batch = rows_of(&log, &[iris_entry(&log)]);
    let first = iris_entry(&log).id;
    assert_eq!(texts_of(&batch, "prediction_id"), [first, first.row(1)].map(|id| Some(id.to_string())));
    for (name, expected) in [
        ("request_id", "request-1"),
        ("n_rows", "2"),
        ("route", "m"),
        ("model_name", "m"),
        ("model_version", "3"),
        ("model_digest", "d1ge57"),
        ("arm", "stable"),
        ("arm_probability", "1.0"),
        ("assigned_by", "none"),
        ("status", "ok"),
        ("total_us", "900"),
        ("queue_us", "100"),
        ("compute_us", "700"),
        ("batch_size", "8"),
        ("sample_probability", "1.0"),
        ("flags", "0"),
        ("gateway", "7"),
        ("incarnation", "1700000000000"),
    ] {
        assert_eq!(shown(&batch, name), [expected, expected], "{name}");
    }
    assert_eq!(
        (shown(&batch, "row_index"), shown(&batch, "seq")),
        (vec!["0".into(), "1".into()], vec!["10".into(), "11".into()])
    );
    for name in ["rollout_id", "weight_bp", "control_bp", "key_hash", "error"] {
        assert_eq!(column(&batch, name).null_count(), 2, "{name}");
    }
    let times = |name: &str| column(&batch, name).as_primitive::<TimestampMicrosecondType>().values().to_vec();
    assert_eq!((times("ts"), times("ts_received")), (vec![1_700_000_000_123_456; 2], vec![1_700_000_000_122_556; 2]));
    assert_eq!(column(&batch, "ts").data_type(), &ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
}

#[test]
fn names_and_types_are_those_that_readers_rely_on() {
    let log = log_of(&iris(), LogSettings::default());
    let names: Vec<&str> = log.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let expected = "prediction_id request_id row_index n_rows ts ts_received route model_name model_version model_digest arm \
                    arm_probability rollout_id weight_bp control_bp key_hash assigned_by status error total_us queue_us \
                    compute_us batch_size sample_probability flags gateway incarnation seq in_X out_probabilities out_label";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    let nullable: Vec<&str> =
        log.schema.fields().iter().filter(|field| field.is_nullable()).map(|field| field.name().as_str()).collect();
    let expected = "rollout_id weight_bp control_bp key_hash error in_X out_probabilities out_label";
    assert_eq!(nullable, expected.split_whitespace().collect::<Vec<_>>());
    let type_of = |name: &str| log.schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(
        [type_of("seq"), type_of("gateway"), type_of("flags"), type_of("route")],
        [ArrowType::UInt64, ArrowType::UInt16, ArrowType::UInt32, ArrowType::Utf8]
    );
    let noted = log.schema.metadata();
    assert_eq!((noted[table::META_MODEL].as_str(), noted[table::META_VERSION].as_str()), ("m", "3"));
    assert_eq!((noted[table::META_SCHEMA_VERSION].as_str(), noted[table::META_TABLE].as_str()), ("1", "predictions"));
    assert_eq!((noted[table::META_DIGEST].as_str(), noted[table::META_RULES].len()), ("d1ge57", 64));
}

#[test]
fn a_row_of_a_rollout_says_which_and_how_it_was_assigned() {
    let log = log_of(&iris(), LogSettings::default());
    let part = |key, forced| {
        let mut entry = iris_entry(&log);
        entry.arm = Arm::Candidate;
        entry.route = Some("flowers".into());
        entry.client_id = "mine".into();
        entry.rollout = Some(RolloutPart { id: "m-1".into(), weights: Weights::of_candidate(700), key, forced });
        entry
    };
    let batch = rows_of(&log, &[part(Some(99), false), part(None, false), part(Some(99), true)]);
    let every_other = |name: &str| shown(&batch, name).into_iter().step_by(2).collect::<Vec<_>>();
    assert_eq!(every_other("assigned_by"), ["key", "random", "forced"]);
    assert_eq!(every_other("request_id"), ["mine"; 3]);
    assert_eq!(every_other("route"), ["flowers"; 3]);
    assert_eq!(every_other("rollout_id"), ["m-1"; 3]);
    assert_eq!(column(&batch, "weight_bp").as_primitive::<UInt16Type>().value(0), 700);
    assert_eq!(column(&batch, "control_bp").as_primitive::<UInt16Type>().value(0), 700);
    assert_eq!(column(&batch, "key_hash").as_primitive::<UInt64Type>().value(0), 99);
    assert!(column(&batch, "key_hash").is_null(2));
}

#[test]
fn a_failure_is_a_row_with_its_text_and_without_outputs() {
    let log = log_of(&iris(), LogSettings::default());
    let mut entry = iris_entry(&log);
    entry.outputs.clear();
    entry.outcome = Outcome::Failed("it broke".into());
    let batch = rows_of(&log, &[entry]);
    assert_eq!(
        (shown(&batch, "status"), shown(&batch, "error")),
        (vec!["error".to_owned(); 2], vec!["it broke".to_owned(); 2])
    );
    assert_eq!((column(&batch, "in_X").null_count(), column(&batch, "out_label").null_count()), (0, 2));
    assert_eq!(flags_of(&batch), [0, 0], "nothing was left out that there was");
}

#[test]
fn a_clients_long_id_is_cut_between_characters() {
    let log = log_of(&iris(), LogSettings::default());
    let mut entry = iris_entry(&log);
    entry.client_id = "é".repeat(1000);
    let batch = rows_of(&log, &[entry]);
    assert_eq!(shown(&batch, "request_id")[0], "é".repeat(512));
}
