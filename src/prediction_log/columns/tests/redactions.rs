//! What is written of columns that are redacted.

use arrow::datatypes::Int32Type;

use super::*;
use crate::prediction_log::redaction::hmac_text;
use crate::prediction_log::settings::Redaction;

fn redacted(rules: &[(&str, Redaction)]) -> RecordBatch {
    let signature = proven(
        vec![
            spec("age", DataType::Int32, batched(&[])),
            spec("name", DataType::Bytes, batched(&[])),
            spec("x", DataType::Fp32, batched(&[2])),
            spec("tags", DataType::Bytes, batched(&[2])),
        ],
        vec![spec("y", DataType::Fp16, batched(&[]))],
    );
    let redact = rules.iter().map(|(column, rule)| ((*column).to_owned(), *rule)).collect();
    let inputs = vec![
        Tensor::from_elements(DataType::Int32, vec![2], &[41i32, -17]).unwrap(),
        texts(&[2], &["Ada Lovelace", "Zoë"]),
        floats(&[2, 2], &[1.234, -1.266, 1e30, 0.004]),
        texts(&[2, 2], &["ab", "cde", "", "ë"]),
    ];
    let y = counted(DataType::Fp16, &[2], |n| half::f16::from_f32(n as f32 + 0.126));
    rows(&signature, LogSettings { redact, ..LogSettings::default() }, (inputs, vec![y]), 2)
}

#[test]
fn a_dropped_column_keeps_its_type_and_holds_nothing() {
    let names = ["in_age", "in_name", "in_x", "in_tags", "out_y"];
    let (plain, batch) = (redacted(&[]), redacted(&names.map(|name| (name, Redaction::Drop))));
    for name in names {
        assert_eq!(column(&batch, name).null_count(), 2, "{name}");
        assert_eq!(column(&batch, name).data_type(), column(&plain, name).data_type(), "{name}");
    }
    assert_eq!((flags_of(&plain), flags_of(&batch)), (vec![0; 2], vec![flags::REDACTED; 2]));
}

#[test]
fn a_hashed_column_is_the_hash_of_its_text_or_of_its_bytes() {
    let names = ["in_age", "in_name", "in_x", "out_y"];
    let batch = redacted(&names.map(|name| (name, Redaction::Hmac)));
    let hash = |value: &[u8]| Some(hmac_text(CONTEXT.hmac_key, value));
    assert_eq!(texts_of(&batch, "in_age"), [hash(b"41"), hash(b"-17")]);
    assert_eq!(texts_of(&batch, "in_name"), [hash(b"Ada Lovelace"), hash("Zoë".as_bytes())]);
    let first: Vec<u8> = [1.234f32, -1.266].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(texts_of(&batch, "in_x")[0], hash(&first));
    assert!(texts_of(&batch, "out_y")[1].as_ref().is_some_and(|text| text.len() == 64));
}

#[test]
fn numbers_are_rounded_one_by_one() {
    let rules = [("in_age", Redaction::Round(-1)), ("in_x", Redaction::Round(2)), ("out_y", Redaction::Round(1))];
    let batch = redacted(&rules);
    assert_eq!(column(&batch, "in_age").as_primitive::<Int32Type>().values().to_vec(), [40, -20]);
    let list = column(&batch, "in_x").as_fixed_size_list();
    assert_eq!(floats_of(&list.value(0)), [1.23, -1.27]);
    assert_eq!(floats_of(&list.value(1)), [1e30, 0.0]);
    assert_eq!(floats_of(column(&batch, "out_y")), [0.1, 1.1], "rounded after it was widened");
}

#[test]
fn texts_and_whole_numbers_are_masked_but_for_their_ends() {
    let rules = ["in_age", "in_name", "in_tags"].map(|name| (name, Redaction::Mask { keep_last: 1 }));
    let batch = redacted(&rules);
    let some = |texts: &[&str]| texts.iter().map(|&text| Some(text.to_owned())).collect::<Vec<_>>();
    assert_eq!(texts_of(&batch, "in_age"), some(&["*1", "**7"]));
    assert_eq!(texts_of(&batch, "in_name"), some(&["***********e", "**ë"]));
    let tags = column(&batch, "in_tags").as_fixed_size_list().values().clone();
    assert_eq!(tags.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["*b", "**e", "", "ë"]);
}

#[test]
fn ids_of_requests_can_be_hidden() {
    let id = |rule| texts_of(&redacted(&[("request_id", rule)]), "request_id")[0].clone().unwrap();
    assert_eq!(id(Redaction::Drop), "");
    assert_eq!(id(Redaction::Hmac), hmac_text(CONTEXT.hmac_key, b"request-1"));
    assert_eq!(id(Redaction::Mask { keep_last: 2 }), "*******-1");
}

#[test]
fn what_is_redacted_is_in_no_buffer_of_the_batch() {
    let rules = [
        ("in_name", Redaction::Hmac),
        ("in_tags", Redaction::Drop),
        ("in_age", Redaction::Drop),
        ("request_id", Redaction::Drop),
    ];
    let batch = redacted(&rules);
    let mut file = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut file, batch.schema_ref()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    for secret in ["Lovelace", "cde", "request-1"] {
        let found = file.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in what goes to the disk");
    }
}
