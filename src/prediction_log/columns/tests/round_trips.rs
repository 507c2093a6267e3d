//! From tensors to rows and back.

use proptest::prelude::*;

use super::*;
use crate::prediction_log::settings::Redaction;

/// The same through the bytes of a file, as a reader gets it.
fn read_back(batch: &RecordBatch) -> RecordBatch {
    let mut file = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut file, batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    arrow::ipc::reader::StreamReader::try_new(file.as_slice(), None).unwrap().next().unwrap().unwrap()
}

/// The same through a sealed file.
fn read_sealed(batch: &RecordBatch) -> RecordBatch {
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let file = bytes::Bytes::from(file);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    reader.build().unwrap().next().unwrap().unwrap()
}

/// What a request of one row of this tensor would bring.
fn row_tensor(tensor: &Tensor, axis: Option<usize>, row: usize) -> Tensor {
    let Some(axis) = axis else { return tensor.clone() };
    let mut starts = Starts::default();
    let slices = Slices::of(tensor, Cut::Axis(axis), tensor.shape()[axis], &mut starts).unwrap();
    let mut shape = tensor.shape().to_vec();
    shape[axis] = 1;
    Tensor::from_raw(tensor.dtype(), shape, slices.row(row).into_owned().into()).unwrap()
}

/// A tensor of these dimensions with elements that differ.
fn tensor(dtype: DataType, shape: &[usize], seed: u8) -> Tensor {
    let count: usize = shape.iter().product();
    match dtype.size() {
        // Bytes of no text's, but of letters; no NaN, which is not equal to itself.
        None => {
            let texts: Vec<String> = (0..count).map(|n| "ab c\u{e9}".repeat((n + usize::from(seed)) % 4)).collect();
            Tensor::from_byte_elements(shape.to_vec(), &texts).unwrap()
        }
        Some(_) if dtype == DataType::Bool => {
            let bytes: Vec<u8> = (0..count).map(|n| ((n + usize::from(seed)) % 3 == 0).into()).collect();
            Tensor::from_raw(dtype, shape.to_vec(), bytes.into()).unwrap()
        }
        Some(size) => {
            let bytes: Vec<u8> =
                (0..count * size).map(|n| (n as u8).wrapping_mul(7).wrapping_add(seed) & 0x3f).collect();
            Tensor::from_raw(dtype, shape.to_vec(), bytes.into()).unwrap()
        }
    }
}

/// An input: its datatype, its row's sizes and which of them are declared, where its rows lie, and whether it is shared.
fn input() -> impl Strategy<Value = (DataType, Vec<(usize, bool)>, usize, bool)> {
    let sizes = prop::collection::vec((0usize..4, any::<bool>()), 0..4);
    (prop::sample::select(DataType::ALL.to_vec()), sizes, 0usize..3, prop::bool::weighted(0.2))
}

proptest! {
    #[test]
    fn a_rows_inputs_come_back_as_they_were(inputs in prop::collection::vec(input(), 1..4), rows in 1usize..5, is_proven: bool, seed: u8) {
        let (mut specs, mut axes, mut tensors) = (vec![], vec![], vec![]);
        for (at, (dtype, sizes, axis, is_shared)) in inputs.into_iter().enumerate() {
            let mut dims: Vec<Dim> = sizes.iter().map(|&(size, known)| if known { Dim::Fixed(size) } else { Dim::Unknown }).collect();
            let mut shape: Vec<usize> = sizes.iter().map(|(size, _)| *size).collect();
            let axis = (!is_shared).then_some(axis.min(shape.len()));
            if let Some(axis) = axis {
                dims.insert(axis, Dim::Named("N".into()));
                shape.insert(axis, rows);
            }
            specs.push(spec(&format!("x:{at}"), dtype, dims));
            axes.push(axis);
            tensors.push(tensor(dtype, &shape, seed));
        }
        let batching = if is_proven {
            Batching::Proven(BatchAxes { inputs: axes.clone(), outputs: vec![] })
        } else {
            Batching::Unproven("not asked".into())
        };
        let signature = Signature { inputs: specs, outputs: vec![], batching };
        let count = if is_proven { rows } else { 1 };
        let batch = super::rows(&signature, LogSettings::default(), (tensors.clone(), vec![]), count);
        prop_assert_eq!(flags_of(&batch), vec![0; count]);
        for batch in [read_back(&batch), read_sealed(&batch)] {
            for row in 0..count {
                let got = tensors_of(&batch, row, &signature).unwrap();
                let expected = signature.inputs.iter().zip(&tensors).zip(&axes).map(|((spec, tensor), axis)| {
                    (spec.name.clone(), row_tensor(tensor, axis.filter(|_| is_proven), row))
                });
                prop_assert_eq!(got, expected.collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn features_become_one_input_again() {
    let signature = iris();
    let log = log_of(&signature, features("X", &["d", "c", "b", "a"]));
    let batch = read_sealed(&rows_of(&log, &[iris_entry(&log)]));
    let expected = vec![("X".to_owned(), floats(&[1, 4], &[6.0, 2.9, 4.5, 1.5]))];
    assert_eq!(tensors_of(&batch, 1, &signature), Ok(expected));
}

#[test]
fn what_was_not_written_as_it_was_is_not_replayed() {
    let signature = iris();
    let refused = |settings: LogSettings, payload: bool| {
        let log = log_of(&signature, settings);
        let mut builder = RowsBuilder::new(log.clone());
        builder.push(&iris_entry(&log), &RowContext { payload, ..CONTEXT });
        tensors_of(&read_back(&builder.finish()), 0, &signature).map(drop).map_err(|reason| reason.to_string())
    };
    let redact =
        |column: &str, rule| LogSettings { redact: [(column.to_owned(), rule)].into(), ..LogSettings::default() };
    let fault = |text: &str| Err(text.to_owned());
    assert_eq!(refused(LogSettings::default(), true), Ok(()));
    assert_eq!(refused(redact("in_X", Redaction::Round(1)), true), fault("column 'in_X' was redacted (round)"));
    assert_eq!(refused(redact("in_X", Redaction::Drop), true), fault("column 'in_X' was redacted (drop)"));
    assert_eq!(refused(redact("out_label", Redaction::Drop), true), Ok(()), "an output is not needed");
    let small = LogSettings { max_tensor_bytes: 8, ..LogSettings::default() };
    assert_eq!(refused(small, true), fault("input 'X' was too large to be written"));
    assert_eq!(
        refused(LogSettings::default(), false),
        fault("the disk was nearly full, and the row was written without its tensors")
    );
}

#[test]
fn a_text_that_was_changed_is_not_replayed() {
    let signature = proven(vec![spec("t", DataType::Bytes, batched(&[]))], vec![]);
    let tensor = Tensor::from_byte_elements(vec![2], &[&[0xffu8][..], b"ok"]).unwrap();
    let batch = rows(&signature, LogSettings::default(), (vec![tensor], vec![]), 2);
    assert_eq!(tensors_of(&batch, 0, &signature), Err(NotReplayable::LossyText));
    assert_eq!(tensors_of(&batch, 1, &signature).unwrap()[0].1, texts(&[1], &["ok"]));
}

#[test]
fn another_versions_input_that_was_not_logged_is_named() {
    let log = log_of(&iris(), LogSettings::default());
    let batch = rows_of(&log, &[iris_entry(&log)]);
    let other = proven(vec![spec("Z", DataType::Fp32, batched(&[4]))], vec![]);
    assert_eq!(tensors_of(&batch, 0, &other), Err(NotReplayable::Missing { input: "Z".into() }));
    assert_eq!(tensors_of(&batch, 9, &iris()), Err(NotReplayable::NoSuchRow { row: 9, rows: 2 }));
}
