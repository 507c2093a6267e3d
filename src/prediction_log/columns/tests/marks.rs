//! The flags of a row, and its tensors that are not written.

use super::*;

fn one(values: [f32; 3]) -> (Vec<Tensor>, Vec<Tensor>) {
    let label = counted(DataType::Int64, &[1], |n| n as i64);
    (vec![floats(&[1, 4], &[0.0; 4])], vec![floats(&[1, 3], &values), label])
}

#[test]
fn answers_that_are_not_finite_or_out_of_range_are_marked_row_by_row() {
    let ranges = [("probabilities".to_owned(), (0.0, 1.0))].into();
    let settings = LogSettings { output_ranges: ranges, ..LogSettings::default() };
    let marks = |values| flags_of(&rows(&iris(), settings.clone(), one(values), 1))[0];
    assert_eq!(marks([0.0, 0.5, 1.0]), 0);
    assert_eq!(marks([0.0, 1.5, 1.0]), flags::OUT_OF_RANGE);
    assert_eq!(marks([0.0, f32::NAN, 1.0]), flags::NON_FINITE | flags::OUT_OF_RANGE);
    let tensors = (
        vec![floats(&[2, 4], &[f32::NAN; 8])],
        vec![floats(&[2, 3], &[0.0, 0.0, f32::INFINITY, 0.0, 0.0, 0.0]), counted(DataType::Int64, &[2], |n| n as i64)],
    );
    let batch = rows(&iris(), LogSettings::default(), tensors, 2);
    assert_eq!(flags_of(&batch), [flags::NON_FINITE, 0], "of outputs, not of inputs");
}

#[test]
fn a_row_of_a_tensor_that_is_too_large_is_null() {
    let dims = vec![Dim::Named("N".into()), Dim::Named("S".into())];
    let signature = proven(vec![spec("t", DataType::Bytes, dims), spec("k", DataType::Int8, batched(&[]))], vec![]);
    let settings = LogSettings { max_tensor_bytes: 12, ..LogSettings::default() };
    let inputs = vec![texts(&[2, 2], &["abcd", "efgh", "a", "b"]), counted(DataType::Int8, &[2], |n| n as i8)];
    let batch = rows(&signature, settings, (inputs, vec![]), 2);
    assert_eq!(flags_of(&batch), [flags::TRUNCATED, 0]);
    assert!(column(&batch, "in_t").is_null(0) && column(&batch, "in_t").is_valid(1));
    assert_eq!(column(&batch, "in_k").null_count(), 0, "the rest of the row is there");
}

#[test]
fn on_a_full_disk_rows_are_written_without_their_tensors() {
    let log = log_of(&iris(), LogSettings::default());
    let mut builder = RowsBuilder::new(log.clone());
    builder.push(&iris_entry(&log), &RowContext { payload: false, ..CONTEXT });
    builder.push(&iris_entry(&log), &CONTEXT);
    let batch = builder.finish();
    assert_eq!(flags_of(&batch), [flags::PAYLOAD_DROPPED, flags::PAYLOAD_DROPPED, 0, 0]);
    for name in ["in_X", "out_probabilities", "out_label"] {
        assert_eq!(column(&batch, name).null_count(), 2, "{name}");
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_marked() {
    let signature = proven(vec![spec("t", DataType::Bytes, batched(&[]))], vec![]);
    let tensor = Tensor::from_byte_elements(vec![2], &[&b"ok"[..], &[b'a', 0xff]]).unwrap();
    let batch = rows(&signature, LogSettings::default(), (vec![tensor], vec![]), 2);
    assert_eq!(texts_of(&batch, "in_t"), [Some("ok".to_owned()), Some("a\u{fffd}".to_owned())]);
    assert_eq!(flags_of(&batch), [0, flags::LOSSY_TEXT]);
}

#[test]
fn an_answer_of_another_shape_than_declared_is_left_out_and_marked() {
    let mut tensors = one([0.0; 3]);
    tensors.1[0] = floats(&[1, 2], &[0.0; 2]);
    let batch = rows(&iris(), LogSettings::default(), tensors, 1);
    assert!(column(&batch, "out_probabilities").is_null(0) && column(&batch, "out_label").is_valid(0));
    assert_eq!(flags_of(&batch), [flags::TRUNCATED]);
    let mut tensors = one([0.0; 3]);
    tensors.1[0] = floats(&[2, 3], &[0.0; 6]);
    assert_eq!(flags_of(&rows(&iris(), LogSettings::default(), tensors, 1)), [flags::TRUNCATED], "another batch");
    let mut tensors = one([0.0; 3]);
    tensors.1[1] = counted(DataType::Int32, &[1], |n| n as i32);
    assert_eq!(flags_of(&rows(&iris(), LogSettings::default(), tensors, 1)), [flags::TRUNCATED], "another datatype");
}
