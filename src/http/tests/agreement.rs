//! The JSON form and the binary form of one tensor give the same bits, whatever the datatype and the shape.

use proptest::prelude::*;

use super::*;
use crate::json::writer::{BytesStyle, write_flat};

/// A tensor of `[rows, 2]` made of arbitrary bytes that are a value of the datatype with a JSON form.
fn tensor(dtype: DataType, rows: usize, raw: &[u8]) -> Tensor {
    let count = rows * 2;
    let taken = |index: usize| raw.get(index % raw.len().max(1)).copied().unwrap_or(7);
    if dtype == DataType::Bytes {
        let texts: Vec<String> = (0..count).map(|i| "aé\"\n"[..].repeat(usize::from(taken(i) % 4))).collect();
        return Tensor::from_byte_elements(vec![rows, 2], &texts).unwrap();
    }
    let size = dtype.size().unwrap();
    let data: Vec<u8> = (0..count * size)
        .map(|index| match dtype {
            DataType::Bool => taken(index) & 1,
            // The highest byte of a float below 0x7f: neither NaN nor infinite, whose payloads a text does not keep.
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 if index % size == size - 1 => {
                (taken(index) % 0x78) | (taken(index + 1) & 0x80)
            }
            _ => taken(index),
        })
        .collect();
    Tensor::from_raw(dtype, vec![rows, 2], data.into()).unwrap()
}

fn json_request(tensor: &Tensor) -> Vec<u8> {
    let mut text = format!(
        r#"{{"inputs":[{{"name":"x","shape":[{},2],"datatype":"{}","data":"#,
        tensor.shape()[0],
        tensor.dtype()
    )
    .into_bytes();
    write_flat(&mut text, tensor, BytesStyle::Text).unwrap();
    text.extend_from_slice(b"}]}");
    text
}

fn binary_request(tensor: &Tensor) -> (String, Bytes) {
    let head = format!(
        r#"{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"x","shape":[{},2],"datatype":"{}","parameters":{{"binary_data_size":{}}}}}]}}"#,
        tensor.shape()[0],
        tensor.dtype(),
        tensor.data().len()
    );
    with_head(&head, &[tensor.data()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_and_binary_agree(
        position in 0..DataType::ALL.len(),
        rows in 1usize..5,
        raw in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let dtype = DataType::ALL[position];
        let sent = tensor(dtype, rows, &raw);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::of(&[("m", 1, identity(dtype))]);
        runtime.block_on(async {
            let as_json = client.post("/v2/models/m/infer", &[], json_request(&sent)).await.ok();
            let (length, body) = binary_request(&sent);
            let headers = [("inference-header-content-length", length.as_str())];
            let as_binary = client.post("/v2/models/m/infer", &headers, body).await.ok();
            let head = as_binary.header("inference-header-content-length").unwrap().parse::<usize>().unwrap();
            assert_eq!(as_binary.body[head..], sent.data()[..]);
            let mut expected = Vec::new();
            write_flat(&mut expected, &sent, BytesStyle::Text).unwrap();
            let ending = [b"\"data\":", expected.as_slice(), b"}]}"].concat();
            assert!(as_json.body.ends_with(&ending), "{:?}", as_json.body);
        });
    }

    #[test]
    fn no_head_length_and_no_body_make_it_panic(
        length in prop_oneof![any::<u64>().prop_map(|n| n.to_string()), (0u64..80).prop_map(|n| n.to_string()), any::<i8>().prop_map(|n| n.to_string())],
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            r#"\{"inputs":\[\{"name":"x","shape":\[[0-9,-]{0,6}\],"datatype":"(FP32|BYTES|INT8)","(data":\[[0-9,]{0,9}\]|parameters":\{"binary_data_size":[0-9]{1,3}\})\}\]\}.{0,12}"#.prop_map(String::into_bytes),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::of(&[("m", 1, identity(DataType::Fp32))]);
        let headers = [("inference-header-content-length", length.as_str())];
        let answer = runtime.block_on(client.post("/v2/models/m/infer", &headers, body));
        prop_assert!([200, 400].contains(&answer.status.as_u16()), "{:?}", answer.body);
        prop_assert_eq!(client.plane().budget.in_use(), 0);
    }
}
