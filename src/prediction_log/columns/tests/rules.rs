//! Settings that fit a model, and those that don't.

use super::*;
use crate::prediction_log::settings::{Redaction, SampleBy};

fn redact(rules: &[(&str, Redaction)]) -> LogSettings {
    let redact = rules.iter().map(|(column, rule)| ((*column).to_owned(), *rule)).collect();
    LogSettings { redact, ..LogSettings::default() }
}

fn fault(signature: &Signature, settings: LogSettings) -> String {
    let made = VersionLog::new(("m", 1, "d"), signature, settings.clone(), Arc::default()).unwrap_err();
    assert_eq!(check(signature, &settings), Err(made.clone()), "a load is refused for the same reason");
    made.to_string()
}

#[test]
fn a_rule_for_an_unknown_column_is_refused_with_the_nearest() {
    assert_eq!(
        fault(&iris(), redact(&[("in_x", Redaction::Drop)])),
        "log.redact names column 'in_x', which the model's rows don't have (did you mean 'in_X'?): they have in_X, \
         out_probabilities, out_label, request_id, key_hash, error"
    );
    let by = LogSettings { sample_by: SampleBy::Column("user".into()), ..LogSettings::default() };
    assert_eq!(
        fault(&iris(), by),
        "log.sample.by names column 'user', which the model's rows don't have: they have in_X, out_probabilities, out_label"
    );
    let split =
        LogSettings { redact: redact(&[("in_X", Redaction::Drop)]).redact, ..features("X", &["a", "b", "c", "d"]) };
    assert!(fault(&iris(), split).starts_with("log.redact names column 'in_X'"), "it is split into others");
}

#[test]
fn features_name_an_input_and_each_of_its_elements() {
    assert_eq!(
        fault(&iris(), features("XX", &["a"])),
        "features names input 'XX', which the model does not have (did you mean 'X'?)"
    );
    assert_eq!(
        fault(&iris(), features("X", &["a", "b"])),
        "features.X has 2 names, and a row of that input has 4 elements"
    );
    let varies = proven(vec![spec("X", DataType::Fp32, vec![Dim::Named("N".into()), Dim::Unknown])], vec![]);
    assert_eq!(
        fault(&varies, features("X", &["a", "b"])),
        "features.X has 2 names, and a row of that input has a varying number of elements"
    );
}

#[test]
fn a_redaction_that_makes_no_sense_is_refused() {
    let signature = proven(
        vec![
            spec("f", DataType::Fp32, batched(&[2])),
            spec("i", DataType::Int64, batched(&[])),
            spec("b", DataType::Bool, batched(&[])),
            spec("t", DataType::Bytes, batched(&[])),
        ],
        vec![],
    );
    let mask = Redaction::Mask { keep_last: 1 };
    for (column, rule, expected) in [
        (
            "in_t",
            Redaction::Round(2),
            "log.redact.in_t: round is for numbers with a fraction, and the column holds BYTES",
        ),
        ("in_b", Redaction::Round(-1), "log.redact.in_b: round is for numbers, and the column holds BOOL"),
        (
            "in_i",
            Redaction::Round(0),
            "log.redact.in_i: round is for numbers with a fraction, and the column holds INT64",
        ),
        ("in_f", mask, "log.redact.in_f: mask is for texts and whole numbers, and the column holds FP32"),
        ("in_b", mask, "log.redact.in_b: mask is for texts and whole numbers, and the column holds BOOL"),
        ("request_id", Redaction::Round(1), "log.redact.request_id: round is for numbers, and the column holds text"),
        (
            "key_hash",
            Redaction::Hmac,
            "log.redact.key_hash: hmac is for columns of tensors and request_id, and the column holds what can only be dropped",
        ),
    ] {
        assert_eq!(fault(&signature, redact(&[(column, rule)])), expected);
    }
    let fine = [("in_f", Redaction::Round(2)), ("in_i", mask), ("in_b", Redaction::Hmac), ("in_t", mask)];
    assert_eq!(check(&signature, &redact(&fine)), Ok(()));
    assert_eq!(check(&signature, &redact(&[("in_i", Redaction::Round(-2))])), Ok(()));
}

#[test]
fn the_digest_tells_rules_apart() {
    let digest = |settings: LogSettings| log_of(&iris(), settings).schema.metadata()[META_RULES].clone();
    let digests = [
        digest(LogSettings::default()),
        digest(LogSettings { sample: 0.5, ..LogSettings::default() }),
        digest(redact(&[("in_X", Redaction::Drop)])),
        digest(redact(&[("in_X", Redaction::Round(1))])),
        digest(redact(&[("in_X", Redaction::Round(2))])),
    ];
    assert_eq!(std::collections::HashSet::from(digests.clone()).len(), digests.len());
    assert_eq!(digests[0], digest(LogSettings { retain: Some(Duration::from_secs(1)), ..LogSettings::default() }));
}
