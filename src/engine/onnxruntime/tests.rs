//! With the library itself, where there is one; else these tests say that they were skipped.

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use crate::engine::testing::{check_recorded, examples, folders, inputs, zoo};
use crate::engine::{RunError, Session};
use crate::signature::Batching;
use crate::tensor::{DataType, Tensor};

/// Models that the library itself refuses; none so far.
const REFUSED: [&str; 0] = [];
/// Models whose rows mix, or that have none.
const UNPROVEN: [&str; 8] = [
    "batch_unsafe_meansub",
    "batch_unsafe_softmax0",
    "digits_cnn_int8_dyn",
    "fixed_batch4",
    "if_dynamic",
    "loop_while",
    "nms",
    "scalar_poly",
];

/// The engine, or a line of print where there is no library.
fn engine(test: &str) -> Option<OnnxRuntimeEngine> {
    let opened = OnnxRuntimeEngine::open(None);
    opened.inspect_err(|absent| println!("skipped: {test}: {absent}")).ok()
}

fn load(engine: &OnnxRuntimeEngine, name: &str) -> Arc<dyn Model> {
    engine.load(&zoo().join(name).join("model.onnx")).unwrap()
}

#[test]
fn every_model_agrees_with_its_recorded_outputs() {
    let Some(engine) = engine("the zoo on ONNX Runtime") else { return };
    let mut faults = vec![];
    for folder in folders() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let checked = match engine.load(&folder.join("model.onnx")) {
            Ok(model) => {
                let proven = matches!(model.signature().batching, Batching::Proven(_));
                if proven == UNPROVEN.contains(&name.as_str()) {
                    faults.push(format!("{name}: {:?}", model.signature().batching));
                }
                check_recorded(&model, &folder)
            }
            Err(_) if REFUSED.contains(&name.as_str()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        faults.extend(checked.err().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_datatype_comes_back_as_it_went_wherever_its_bytes_lie() {
    let Some(engine) = engine("datatypes on ONNX Runtime") else { return };
    let model = load(&engine, "dtype_zoo");
    let (_, example) = examples(&zoo().join("dtype_zoo")).remove(0);
    let aligned = inputs(&model, &example).unwrap();
    let expected = model.clone().session().run(&aligned, &|| false).unwrap().tensors;
    // One byte further on, as tensors lie in the body of a request.
    let odd = |tensor: &Tensor| {
        let shifted = [&[0], &tensor.data()[..]].concat();
        Tensor::from_raw(tensor.dtype(), tensor.shape().to_vec(), bytes::Bytes::from(shifted).slice(1..)).unwrap()
    };
    let odd: Vec<Tensor> = aligned.iter().map(odd).collect();
    assert_eq!(model.session().run(&odd, &|| false).unwrap().tensors, expected);
}

#[test]
fn text_is_refused_where_the_library_would_cut_it() {
    let Some(engine) = engine("text on ONNX Runtime") else { return };
    let mut session = load(&engine, "string_identity").session();
    let of = |second: &[u8]| [Tensor::from_byte_elements(vec![1, 2], &[&b"ok"[..], second]).unwrap()];
    assert_eq!(session.run(&of("né".as_bytes()), &|| false).unwrap().tensors, of("né".as_bytes()));
    let refused = |session: &mut Box<dyn Session>, second: &[u8]| session.run(&of(second), &|| false).unwrap_err();
    let nul = "input 's': element 1 holds a NUL, which the onnxruntime engine can't take";
    assert_eq!(refused(&mut session, b"a\0b"), RunError::BadInput(nul.into()));
    assert_eq!(refused(&mut session, b"caf\xe9"), RunError::BadInput("input 's': element 1 is not UTF-8 text".into()));
}

#[test]
fn what_goes_wrong_in_a_run_stays_in_that_run() {
    let Some(engine) = engine("failing runs on ONNX Runtime") else { return };
    let mut session = load(&engine, "gather_may_fail").session();
    let ids = |id: i64| [Tensor::from_elements(DataType::Int64, vec![1], &[id]).unwrap()];
    let RunError::Failed(cause) = session.run(&ids(400), &|| false).unwrap_err() else { panic!("not a failure") };
    assert!(cause.contains("out of data bounds") && !cause.contains("onnxruntime_src"), "{cause}");
    assert!(session.run(&ids(3), &|| false).is_ok());
    assert!(matches!(session.run(&ids(3), &|| true), Err(RunError::Stopped)));
    let none = Tensor::zeros(DataType::Int64, vec![0]);
    assert_eq!(session.run(&[none], &|| false).unwrap().tensors[0].shape()[0], 0);
}

#[test]
fn a_session_answers_the_same_however_often_it_ran_before() {
    let Some(engine) = engine("recurrent models on ONNX Runtime") else { return };
    for name in ["gru_stateful", "silero_vad_op18_ifless"] {
        let model = load(&engine, name);
        let (_, example) = examples(&zoo().join(name)).remove(0);
        let inputs = inputs(&model, &example).unwrap();
        let fresh = model.clone().session().run(&inputs, &|| false).unwrap().tensors;
        for _ in 0..3 {
            assert_eq!(model.clone().session().run(&inputs, &|| false).unwrap().tensors, fresh, "{name}");
        }
    }
}

#[test]
fn runs_at_a_time_share_the_weights() {
    let Some(engine) = engine("shared weights on ONNX Runtime") else { return };
    let model = engine.prepared(&zoo().join("mobilenet_v3_small/model.onnx")).unwrap();
    let file = std::fs::metadata(zoo().join("mobilenet_v3_small/model.onnx")).unwrap().len();
    let model: Arc<OrtModel> = Arc::new(model);
    let image = model.sample_inputs(1);
    let expected = model.run(&image, &|| false).unwrap().tensors;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(model.run(&image, &|| false).unwrap().tensors, expected)));
        }
    });
    assert!(model.sessions.idle_count() <= 4);
    let held = model.memory_bytes();
    assert!(held > file / 2 && held < file + file / 10, "{held} bytes of a file of {file}, whatever the sessions");
}

#[test]
fn a_file_that_the_library_refuses_is_told_in_its_words_without_paths() {
    let Some(engine) = engine("refused files on ONNX Runtime") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let whole = std::fs::read(zoo().join("digits_cnn_v1/model.onnx")).unwrap();
    for (bytes, word) in [(&whole[..whole.len() / 2], "not a valid ONNX model"), (&b""[..], "the file is empty")] {
        std::fs::write(&path, bytes).unwrap();
        let text = engine.load(&path).err().unwrap().to_string();
        assert!(text.contains(word) && !text.contains(folder.path().to_str().unwrap()), "{text}");
    }
    // A graph with an operator that nobody has.
    let mut proto = crate::engine::onnx::read_proto(&zoo().join("scalar_poly/model.onnx")).unwrap();
    proto.graph.as_mut().unwrap().node[0].op_type = "NoSuchOperator".into();
    std::fs::write(&path, proto.encode_to_vec()).unwrap();
    let text = engine.load(&path).err().unwrap().to_string();
    assert!(
        text.starts_with("the onnxruntime engine can't prepare the graph: ") && text.contains("NoSuchOperator"),
        "{text}"
    );
    assert!(!text.contains(folder.path().to_str().unwrap()), "{text}");
}

#[test]
fn a_run_ends_when_nobody_waits_for_it_any_more() {
    let Some(engine) = engine("ending a run on ONNX Runtime") else { return };
    let mut session = load(&engine, "slow_matmul24").session();
    // So many rows that no machine is done with them before the third question.
    let inputs = [Tensor::zeros(DataType::Fp32, vec![8192, 1024])];
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    assert_eq!(session.run(&inputs, &stop).unwrap_err(), RunError::Stopped);
    assert_eq!(asked.get(), 3, "once it is stopped it is asked no more");
    let few = [Tensor::zeros(DataType::Fp32, vec![1, 1024])];
    assert!(session.run(&few, &|| false).is_ok(), "the session goes on");
}
