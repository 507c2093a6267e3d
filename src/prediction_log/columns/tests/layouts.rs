//! Which columns a tensor gets, and what its rows are in them.

use arrow::datatypes::{DataType as ArrowType, Int64Type};
use half::{bf16, f16};

use super::*;

fn type_of(batch: &RecordBatch, name: &str) -> ArrowType {
    column(batch, name).data_type().clone()
}

#[test]
fn a_row_of_one_element_is_a_plain_column_of_every_datatype() {
    let raw: [(DataType, ArrowType, Vec<u8>); 14] = [
        (DataType::Bool, ArrowType::Boolean, vec![1]),
        (DataType::Int8, ArrowType::Int8, (-7i8).to_le_bytes().into()),
        (DataType::Int16, ArrowType::Int16, (-7i16).to_le_bytes().into()),
        (DataType::Int32, ArrowType::Int32, (-7i32).to_le_bytes().into()),
        (DataType::Int64, ArrowType::Int64, (-7i64).to_le_bytes().into()),
        (DataType::Uint8, ArrowType::UInt8, 7u8.to_le_bytes().into()),
        (DataType::Uint16, ArrowType::UInt16, 7u16.to_le_bytes().into()),
        (DataType::Uint32, ArrowType::UInt32, 7u32.to_le_bytes().into()),
        (DataType::Uint64, ArrowType::UInt64, u64::MAX.to_le_bytes().into()),
        (DataType::Fp16, ArrowType::Float32, f16::from_f32(1.5).to_le_bytes().into()),
        (DataType::Bf16, ArrowType::Float32, bf16::from_f32(1.5).to_le_bytes().into()),
        (DataType::Fp32, ArrowType::Float32, 1.5f32.to_le_bytes().into()),
        (DataType::Fp64, ArrowType::Float64, 1.5f64.to_le_bytes().into()),
        (DataType::Bytes, ArrowType::Utf8, [&[2, 0, 0, 0][..], b"hi"].concat()),
    ];
    let shown =
        ["true", "-7", "-7", "-7", "-7", "7", "7", "7", "18446744073709551615", "1.5", "1.5", "1.5", "1.5", "hi"];
    assert_eq!(raw.each_ref().map(|(dtype, ..)| *dtype), DataType::ALL);
    for ((dtype, arrow_type, bytes), shown) in raw.into_iter().zip(shown) {
        for dims in [batched(&[]), batched(&[1])] {
            let shape = vec![1; dims.len()];
            let tensor = Tensor::from_raw(dtype, shape, bytes.clone().into()).unwrap();
            let batch =
                rows(&proven(vec![spec("x", dtype, dims)], vec![]), LogSettings::default(), (vec![tensor], vec![]), 1);
            assert_eq!(type_of(&batch, "in_x"), arrow_type, "{dtype}");
            let value = arrow::util::display::array_value_to_string(column(&batch, "in_x"), 0).unwrap();
            assert_eq!(value, shown, "{dtype}");
        }
    }
}

#[test]
fn a_batch_is_a_row_for_each_instance() {
    let log = log_of(&iris(), LogSettings::default());
    let batch = rows_of(&log, &[iris_entry(&log)]);
    assert_eq!(batch.num_rows(), 2);
    let second = column(&batch, "in_X").as_fixed_size_list().value(1);
    assert_eq!(floats_of(&second), [6.0, 2.9, 4.5, 1.5]);
    assert_eq!(floats_of(&column(&batch, "out_probabilities").as_fixed_size_list().value(0)), [0.9, 0.1, 0.0]);
    assert_eq!(column(&batch, "out_label").as_primitive::<Int64Type>().values().to_vec(), [0, 1]);
    let field = batch.schema().field_with_name("in_X").unwrap().clone();
    assert_eq!(field.metadata()["ARROW:extension:name"], "arrow.fixed_shape_tensor");
    assert_eq!(field.metadata()["ARROW:extension:metadata"], r#"{"shape":[4]}"#);
}

#[test]
fn rows_of_several_known_dimensions_are_lists_of_their_product_with_their_shape_noted() {
    let signature = proven(vec![spec("image", DataType::Uint8, batched(&[1, 2, 3]))], vec![]);
    let image = counted(DataType::Uint8, &[2, 1, 2, 3], |n| n as u8);
    let batch = rows(&signature, LogSettings::default(), (vec![image], vec![]), 2);
    let list = column(&batch, "in_image").as_fixed_size_list();
    assert_eq!((list.value_length(), list.len()), (6, 2));
    let field = batch.schema().field_with_name("in_image").unwrap().clone();
    assert_eq!(field.metadata()["ARROW:extension:metadata"], r#"{"shape":[1,2,3]}"#);
}

#[test]
fn features_are_columns_of_their_own() {
    let settings = features("X", &["sepal length", "sepal_width", "petal_length", "petal_width"]);
    let log = log_of(&iris(), settings);
    let batch = rows_of(&log, &[iris_entry(&log)]);
    assert_eq!(floats_of(column(&batch, "in_sepal_length")), [5.1, 6.0]);
    assert_eq!(floats_of(column(&batch, "in_petal_width")), [0.2, 1.5]);
    assert!(batch.column_by_name("in_X").is_none());
    let names: Vec<(&str, usize)> = log.columns().iter().map(|column| (column.name.as_str(), column.element)).collect();
    let expected = [
        ("in_sepal_length", 0),
        ("in_sepal_width", 1),
        ("in_petal_length", 2),
        ("in_petal_width", 3),
        ("out_probabilities", 0),
        ("out_label", 0),
    ];
    assert_eq!(names, expected);
}

#[test]
fn one_dimension_of_unknown_size_is_a_list() {
    let dims = vec![Dim::Named("N".into()), Dim::Named("S".into())];
    let signature = proven(vec![spec("ids", DataType::Int64, dims)], vec![]);
    let log = log_of(&signature, LogSettings::default());
    let one = |length: usize| entry(&log, vec![counted(DataType::Int64, &[1, length], |n| n as i64)], vec![], 1);
    let batch = rows_of(&log, &[one(3), one(0), one(2)]);
    let lengths: Vec<usize> = (0..3).map(|row| column(&batch, "in_ids").as_list::<i32>().value(row).len()).collect();
    assert_eq!(lengths, [3, 0, 2]);
}

#[test]
fn several_dimensions_of_unknown_size_are_a_shape_and_data() {
    let dims = vec![Dim::Named("N".into()), Dim::Named("S".into()), Dim::Fixed(2)];
    let no_rank = TensorSpec { name: "any".into(), dtype: DataType::Fp32, dims: None, classes: vec![] };
    let signature = Signature {
        inputs: vec![spec("x", DataType::Fp32, dims), no_rank],
        outputs: vec![],
        batching: Batching::Proven(BatchAxes { inputs: vec![Some(0), None], outputs: vec![] }),
    };
    let tensors = vec![counted(DataType::Fp32, &[2, 3, 2], |n| n as f32), floats(&[2, 1], &[8.0, 9.0])];
    let batch = rows(&signature, LogSettings::default(), (tensors, vec![]), 2);
    let part = |name: &str, part: &str, row: usize| {
        column(&batch, name).as_struct().column_by_name(part).unwrap().as_list::<i32>().value(row)
    };
    assert_eq!(part("in_x", "shape", 1).as_primitive::<Int64Type>().values().to_vec(), [3, 2]);
    assert_eq!(floats_of(&part("in_x", "data", 1)), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    assert_eq!(part("in_any", "shape", 1).as_primitive::<Int64Type>().values().to_vec(), [2, 1]);
    assert_eq!(floats_of(&part("in_any", "data", 0)), [8.0, 9.0], "both rows share it");
}

#[test]
fn rows_along_the_second_axis_are_gathered() {
    let signature = Signature {
        inputs: vec![spec("x", DataType::Fp32, vec![Dim::Fixed(2), Dim::Named("N".into())])],
        outputs: vec![spec("t", DataType::Bytes, vec![Dim::Fixed(2), Dim::Named("N".into())])],
        batching: Batching::Proven(BatchAxes { inputs: vec![Some(1)], outputs: vec![Some(1)] }),
    };
    let tensors =
        (vec![counted(DataType::Fp32, &[2, 3], |n| n as f32)], vec![texts(&[2, 3], &["a", "b", "c", "d", "e", "f"])]);
    let batch = rows(&signature, LogSettings::default(), tensors, 3);
    assert_eq!(floats_of(&column(&batch, "in_x").as_fixed_size_list().value(2)), [2.0, 5.0]);
    let last = column(&batch, "out_t").as_fixed_size_list().value(2);
    assert_eq!(last.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["c", "f"]);
}

#[test]
fn without_a_proven_axis_a_request_is_one_row() {
    let mut signature = iris();
    signature.batching = Batching::Unproven("rows mix".into());
    let log = log_of(&signature, LogSettings::default());
    let mut entry = iris_entry(&log);
    entry.rows = 1;
    let batch = rows_of(&log, &[entry]);
    assert_eq!(batch.num_rows(), 1);
    let data = column(&batch, "in_X").as_struct().column_by_name("data").unwrap().as_list::<i32>().value(0);
    assert_eq!(data.len(), 8);
}

#[test]
fn a_shape_that_is_always_too_large_takes_no_room() {
    let signature = proven(vec![spec("x", DataType::Fp32, batched(&[1000]))], vec![]);
    let settings = LogSettings { max_tensor_bytes: 100, ..LogSettings::default() };
    let log = log_of(&signature, settings);
    let mut builder = RowsBuilder::new(log.clone());
    let entry = entry(&log, vec![counted(DataType::Fp32, &[1, 1000], |n| n as f32)], vec![], 1);
    let pushed = builder.push(&entry, &CONTEXT);
    assert_eq!(pushed, Pushed { written: 1, sampled_out: 0, truncated: 1 });
    assert!(builder.bytes() < 1000, "{}", builder.bytes());
    let batch = builder.finish();
    assert!(column(&batch, "in_x").is_null(0));
    assert_eq!(flags_of(&batch), [flags::TRUNCATED]);
}

#[test]
fn names_that_collide_are_told_apart_across_inputs_outputs_and_features() {
    let inputs = vec![
        spec("a.b", DataType::Fp32, batched(&[])),
        spec("A_B", DataType::Fp32, batched(&[])),
        spec("x", DataType::Fp32, batched(&[2])),
    ];
    let signature = proven(inputs, vec![spec("a.b", DataType::Fp32, batched(&[]))]);
    let log = log_of(&signature, features("x", &["a b", "c"]));
    let names: Vec<&str> = log.columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["in_a_b", "in_A_B_2", "in_a_b_3", "in_c", "out_a_b"]);
}

#[test]
fn a_builder_begins_anew_after_a_batch() {
    let log = log_of(&iris(), LogSettings::default());
    let mut builder = RowsBuilder::new(log.clone());
    builder.push(&iris_entry(&log), &CONTEXT);
    assert_eq!(builder.rows(), 2);
    let first = builder.finish();
    assert_eq!(builder.rows(), 0);
    assert_eq!(builder.finish().num_rows(), 0);
    builder.push(&iris_entry(&log), &CONTEXT);
    assert!(builder.bytes() > 400);
    assert_eq!(builder.finish(), first);
}
