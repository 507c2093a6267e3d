//! The encodings agree: HTTP JSON, HTTP binary, gRPC raw and gRPC typed give bit-equal outputs for random shapes and
//! datatypes. One thing JSON can't say is which NaN a NaN is, so for it any NaN equals any other.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use headgate::tensor::{DataType, Tensor};

use crate::support::infer::{Call, Encoding, Reply, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{scaled, tensors};

/// Rows of a request, mostly few.
fn rows() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..5usize, 1 => 1..70usize]
}

/// Elements of any bits, with the values that encodings trip over more often than chance has them.
fn fixed_width(dtype: DataType, shape: Vec<usize>) -> BoxedStrategy<Tensor> {
    let size = dtype.size().expect("a fixed width");
    let any_bits = vec(any::<u8>(), size);
    let special = match dtype {
        DataType::Fp32 => floats(&[0.0, -0.0, 1.0 / 3.0, 1e-45, f32::MAX, f32::INFINITY, -f32::INFINITY, f32::NAN]),
        DataType::Fp64 => vec![f64::NAN, -0.0, 5e-324, 1.0 / 3.0, f64::MAX, f64::NEG_INFINITY]
            .into_iter()
            .map(|v| v.to_le_bytes().to_vec())
            .collect(),
        _ => [0x00, 0xff, 0x7f, 0x80].map(|byte| [vec![0; size - 1], vec![byte]].concat()).to_vec(),
    };
    let element = prop_oneof![3 => any_bits, 1 => prop::sample::select(special)];
    let element = element.prop_map(move |bits| if dtype == DataType::Bool { vec![bits[0] & 1] } else { bits });
    vec(element, shape.iter().product::<usize>())
        .prop_map(move |elements| Tensor::from_raw(dtype, shape.clone(), Bytes::from(elements.concat())).unwrap())
        .boxed()
}

fn floats(values: &[f32]) -> Vec<Vec<u8>> {
    values.iter().map(|v| v.to_le_bytes().to_vec()).collect()
}

/// Text with what JSON escapes.
fn strings(shape: Vec<usize>) -> BoxedStrategy<Tensor> {
    let element = prop_oneof![".*", Just(String::new()), Just("\u{0}\"\\\n\u{1f600}".to_owned())];
    vec(element, shape.iter().product::<usize>())
        .prop_map(move |elements| Tensor::from_byte_elements(shape.clone(), &elements).unwrap())
        .boxed()
}

type Inputs = Vec<(String, Tensor)>;

fn dtype_zoo() -> impl Strategy<Value = Inputs> {
    use DataType::*;
    let inputs = [
        ("f32_in", Fp32),
        ("f64_in", Fp64),
        ("f16_in", Fp16),
        ("i8_in", Int8),
        ("i16_in", Int16),
        ("i32_in", Int32),
        ("i64_in", Int64),
        ("u8_in", Uint8),
        ("u16_in", Uint16),
        ("u32_in", Uint32),
        ("u64_in", Uint64),
        ("bool_in", Bool),
    ];
    rows().prop_flat_map(move |rows| {
        let tensors = inputs.map(|(_, dtype)| fixed_width(dtype, vec![rows, 4])).to_vec();
        tensors.prop_map(move |tensors| inputs.iter().map(|(name, _)| (*name).to_owned()).zip(tensors).collect())
    })
}

fn addsub() -> impl Strategy<Value = Inputs> {
    rows().prop_flat_map(|rows| {
        let side = || fixed_width(DataType::Fp32, vec![rows, 16]);
        (side(), side()).prop_map(|(a, b)| vec![("a".to_owned(), a), ("b".to_owned(), b)])
    })
}

fn string_identity() -> impl Strategy<Value = Inputs> {
    rows().prop_flat_map(|rows| strings(vec![rows, 2])).prop_map(|s| vec![("s".to_owned(), s)])
}

/// The model's answer over each encoding that has a form for these inputs; all must be the same to the bit.
async fn agree(wires: &Wires, model: &str, inputs: &Inputs) -> Result<usize, TestCaseError> {
    let call = Call { model, version: "", inputs };
    let ask = async |encoding| {
        wires.infer(encoding, &call).await.map_err(|refusal| TestCaseError::fail(format!("{encoding:?}: {refusal}")))
    };
    let reference: Reply = ask(Encoding::Raw).await?;
    let mut asked = 1;
    for encoding in [Encoding::Json, Encoding::Binary, Encoding::Typed] {
        if !encoding.takes(inputs) {
            continue;
        }
        asked += 1;
        let mut got = ask(encoding).await?;
        let mut expected = reference.clone();
        if encoding == Encoding::Json {
            for output in got.outputs.values_mut().chain(expected.outputs.values_mut()) {
                *output = tensors::with_plain_nans(output);
            }
        }
        prop_assert_eq!(got, expected, "{:?} against raw", encoding);
    }
    // An identity gives back what came in, but for the bits of a NaN in FP16, which is computed in FP32.
    for (name, tensor) in inputs {
        let same = reference.outputs.get(&name.replace("_in", "_out")).filter(|_| model == "dtype_zoo");
        if let Some(output) = same {
            match tensor.dtype() {
                DataType::Fp16 => {
                    prop_assert_eq!(tensors::with_plain_nans(output), tensors::with_plain_nans(tensor), "{}", name);
                }
                _ => prop_assert_eq!(output, tensor, "{}", name),
            }
        }
    }
    Ok(asked)
}

#[test]
fn outputs_are_bit_equal() {
    let repository = TempDir::new();
    for model in ["dtype_zoo", "multi_io_addsub", "string_identity"] {
        repository.add(model, model, 1);
    }
    let server = Server::start(repository.path(), &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wires = runtime.block_on(Wires::connect(&server));
    let cases = scaled("encodings, cases a model", 1000) as u32;
    let runner = || TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let asked = std::cell::Cell::new(0);
    let check = |model: &str, inputs: &Inputs| {
        asked.set(asked.get() + runtime.block_on(agree(&wires, model, inputs))?);
        Ok(())
    };
    runner().run(&dtype_zoo(), |inputs| check("dtype_zoo", &inputs)).unwrap();
    runner().run(&addsub(), |inputs| check("multi_io_addsub", &inputs)).unwrap();
    runner().run(&string_identity(), |inputs| check("string_identity", &inputs)).unwrap();
    println!("encodings: {} answers compared", asked.get());
}

/// The raw binary request: no JSON at all, the body is the only input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_of_length_zero_makes_the_body_the_tensor() {
    let repository = TempDir::new();
    repository.add("iris_logreg", "iris", 1);
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;
    let inputs = crate::support::zoo::inputs("iris_logreg", "b3");
    let call = Call { model: "iris", version: "", inputs: &inputs };
    let expected = wires.infer(Encoding::Binary, &call).await.unwrap();
    let request = http::Request::post("/").header("Inference-Header-Content-Length", "0");
    let answer = wires.http.send(request, "/v2/models/iris/infer", inputs[0].1.data().clone()).await.unwrap();
    assert_eq!(crate::support::infer::http_reply(answer).unwrap(), expected);
}

/// Bytes that are no text have no place in ONNX's strings: refused alike, whatever they came in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_text_are_refused() {
    let repository = TempDir::new();
    repository.add("string_identity", "strings", 1);
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;
    let inputs = [("s".to_owned(), Tensor::from_byte_elements(vec![1, 2], &[&b"text"[..], b"\xff"]).unwrap())];
    for encoding in [Encoding::Binary, Encoding::Raw, Encoding::Typed] {
        let refusal =
            wires.infer(encoding, &Call { model: "strings", version: "", inputs: &inputs }).await.unwrap_err();
        assert!(refusal.to_string().contains("input 's': element 1 is not UTF-8 text"), "{encoding:?}: {refusal}");
    }
}
