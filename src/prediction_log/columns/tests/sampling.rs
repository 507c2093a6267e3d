//! Which rows are written.

use super::*;
use crate::prediction_log::sampling_policy::hash_of;
use crate::prediction_log::settings::SampleBy;

fn by_user(dtype: DataType, sample: f64) -> Arc<VersionLog> {
    let signature = proven(vec![spec("user", dtype, batched(&[]))], vec![]);
    let sample_by = SampleBy::Column("in_user".into());
    log_of(&signature, LogSettings { sample, sample_by, ..LogSettings::default() })
}

fn within_three_sigma(kept: usize, of: usize, probability: f64) {
    let (mean, variance) = (of as f64 * probability, of as f64 * probability * (1.0 - probability));
    assert!((kept as f64 - mean).abs() < 3.0 * variance.sqrt(), "{kept} of {of} at {probability}");
}

#[test]
fn a_key_is_in_with_all_of_its_rows_or_with_none() {
    let log = log_of(&iris(), LogSettings { sample: 0.3, ..LogSettings::default() });
    let mut builder = RowsBuilder::new(log.clone());
    let mut kept = 0;
    for key in 0..3000 {
        let mut entry = iris_entry(&log);
        entry.sample_hash = hash_of(format!("user-{key}").as_bytes());
        let pushed = builder.push(&entry, &CONTEXT);
        assert!([(2, 0), (0, 2)].contains(&(pushed.written, pushed.sampled_out)), "{pushed:?}");
        assert_eq!(builder.push(&entry, &CONTEXT), pushed, "and so it is the next time");
        kept += pushed.written / 2;
    }
    within_three_sigma(kept, 3000, 0.3);
    let batch = builder.finish();
    assert_eq!(batch.num_rows(), kept * 4);
    assert!(floats_of(column(&batch, "sample_probability")).iter().all(|&probability| probability == 0.3));
}

#[test]
fn rows_are_sampled_by_a_columns_value() {
    let log = by_user(DataType::Int64, 0.4);
    let users = counted(DataType::Int64, &[2000], |n| n as i64 % 1000);
    let batch = rows_of(&log, &[entry(&log, vec![users], vec![], 2000)]);
    let written: Vec<i64> = column(&batch, "in_user").as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
    within_three_sigma(written.len() / 2, 1000, 0.4);
    let (first, second) = written.split_at(written.len() / 2);
    assert_eq!(first, second, "the same users both times");
    let seqs = column(&batch, "seq").as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
    assert_eq!(seqs, (10..10 + written.len() as u64).collect::<Vec<_>>(), "rows that are left out take no number");
}

#[test]
fn texts_and_features_can_be_sampled_by_too() {
    let log = by_user(DataType::Bytes, 0.5);
    let names: Vec<String> = (0..400).map(|n| format!("user {}", n % 200)).collect();
    let users = Tensor::from_byte_elements(vec![400], &names).unwrap();
    let written = texts_of(&rows_of(&log, &[entry(&log, vec![users], vec![], 400)]), "in_user");
    within_three_sigma(written.len() / 2, 200, 0.5);
    assert_eq!(written[..written.len() / 2], written[written.len() / 2..]);

    let sample_by = SampleBy::Column("in_user".into());
    let log = log_of(&iris(), LogSettings { sample: 0.5, sample_by, ..features("X", &["a", "user", "b", "c"]) });
    let values = counted(DataType::Fp32, &[400, 4], |n| if n % 4 == 1 { (n / 4 % 200) as f32 } else { n as f32 });
    let batch = rows_of(&log, &[entry(&log, vec![values], vec![], 400)]);
    let written = floats_of(column(&batch, "in_user"));
    within_three_sigma(written.len() / 2, 200, 0.5);
    assert_eq!(written[..written.len() / 2], written[written.len() / 2..], "other features don't count");
}

#[test]
fn failures_and_the_arms_of_a_rollout_are_always_written() {
    let log = log_of(&iris(), LogSettings { sample: 0.0, ..LogSettings::default() });
    let mut builder = RowsBuilder::new(log.clone());
    assert_eq!(builder.push(&iris_entry(&log), &CONTEXT), Pushed { sampled_out: 2, ..Pushed::default() });
    for arm in [Arm::Candidate, Arm::Control, Arm::Shadow] {
        let entry = Entry { arm, ..iris_entry(&log) };
        assert_eq!(builder.push(&entry, &CONTEXT).written, 2, "{arm:?}");
    }
    let failed = Entry { outcome: Outcome::Failed("it broke".into()), outputs: vec![], ..iris_entry(&log) };
    assert_eq!(builder.push(&failed, &CONTEXT).written, 2);
    assert_eq!(floats_of(column(&builder.finish(), "sample_probability")), [1.0; 8]);
    let log = by_user(DataType::Int64, 0.0);
    let users = vec![counted(DataType::Int64, &[3], |n| n as i64)];
    let failed = Entry { outcome: Outcome::Failed("it broke".into()), ..entry(&log, users, vec![], 3) };
    assert_eq!(rows_of(&log, &[failed]).num_rows(), 3, "by a column as well");
}

#[test]
fn an_entry_of_many_rows_can_be_written_in_parts() {
    let log = by_user(DataType::Int64, 0.4);
    let entry = entry(&log, vec![counted(DataType::Int64, &[100], |n| n as i64)], vec![], 100);
    let mut builder = RowsBuilder::new(log.clone());
    let first = builder.push_rows(&entry, 0..64, &CONTEXT);
    let context = RowContext { first_seq: CONTEXT.first_seq + first.written as u64, ..CONTEXT };
    let second = builder.push_rows(&entry, 64..100, &context);
    assert_eq!((first.written + first.sampled_out, second.written + second.sampled_out), (64, 36));
    assert_eq!(builder.finish(), rows_of(&log, &[entry]));
}
