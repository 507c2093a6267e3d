//! What a client can get wrong: a clear error in the one form that every client reads, and nothing lost.

use super::*;

fn client() -> Client {
    let narrow = FunctionModel::identity(&[("x", DataType::Uint8, 2)]);
    Client::of(&[("digits", 1, identity(DataType::Fp32)), ("narrow", 1, narrow), ("add", 1, add())])
}

fn input(shape: &str, dtype: &str, data: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{dtype}","data":{data}}}]}}"#)
}

async fn infer_error(status: u16, body: &str) -> String {
    client().post_json("/v2/models/digits/infer", body).await.error(status)
}

#[tokio::test]
async fn wrong_names_are_answered_with_the_nearest() {
    let body = input("[1,2]", "FP32", "[1,2]");
    let text = client().post_json("/v2/models/digit/infer", &body).await.error(404);
    assert_eq!(text, "Request for unknown model: 'digit' is not found, did you mean 'digits'?");
    let text = client().post_json("/v2/models/digits/versions/7/infer", &body).await.error(404);
    assert!(text.starts_with("Request for unknown model: 'digits' version 7 is not found"), "{text}");
    let text = infer_error(400, &body.replace("\"x\"", "\"xx\"")).await;
    assert_eq!(text, "unexpected inference input 'xx' for model 'digits', did you mean 'x'?");
    let text = infer_error(400, &body.replacen("}]}", r#"}],"outputs":[{"name":"z"}]}"#, 1)).await;
    assert_eq!(text, "unexpected inference output 'z' for model 'digits'");
}

#[tokio::test]
async fn wrong_tensors_say_what_was_expected_and_what_came() {
    for (shape, dtype, data, text) in [
        ("[1,3]", "FP32", "[1,2,3]", "unexpected shape for input 'x' for model 'digits'. Expected [-1,2], got [1,3]"),
        ("[1,2]", "INT32", "[1,2]", "inference input 'x' data-type is 'INT32', but model 'digits' expects 'FP32'"),
        ("[1,2]", "FP32", "[1]", "input 'x': expected 2 elements for shape [1,2], got 1"),
        ("[1,2]", "FP32", "[1,2,3]", "input 'x': expected 2 elements for shape [1,2], got 3"),
        ("[1,2]", "FP32", "[1,4e38]", "input 'x': element 1 for FP32: 4e38 is out of range"),
        ("[1,2]", "FP32", "[1,null]", "input 'x': element 1 for FP32: expected a number, got null"),
        ("[1,-2]", "FP32", "[1]", "input 'x': shape [1,-2] has a negative dimension"),
        ("[9223372036854775807,2]", "FP32", "[1]", "has more elements than can be addressed"),
        ("[1.5]", "FP32", "[1]", "the shape of input 'x' expects whole numbers"),
        ("[1,2]", "FLOAT", "[1,2]", "'FLOAT' is not a datatype, expected one of BOOL, INT8"),
        (
            "[1,2]",
            "FP32",
            "[[1],[2]]",
            "input 'x': data is nested as [2,1], expected it flat or nested as its shape [1,2]",
        ),
        ("[1,2]", "FP32", "[[1],[2,3]]", "input 'x': arrays at depth 1 differ in length, 1 and 2 elements"),
    ] {
        let got = infer_error(400, &input(shape, dtype, data)).await;
        assert!(got.contains(text), "{got}");
    }
    let narrow = client().post_json("/v2/models/narrow/infer", &input("[1,2]", "UINT8", "[255,256]")).await;
    assert_eq!(narrow.error(400), "input 'x': element 1 for UINT8: 256 is out of range");
}

#[tokio::test]
async fn missing_repeated_and_contradicting_inputs() {
    let one = r#"{"id":"9","inputs":[{"name":"a","shape":[1],"datatype":"FP32","data":[1]}]}"#;
    let text = client().post_json("/v2/models/add/infer", one).await.error(400);
    assert_eq!(text, "[request id: 9] expected 2 inputs but got 1 inputs for model 'add', missing: 'b'");
    for (body, text) in [
        ("{}", "expected 'inputs' in the request, got none"),
        (r#"{"inputs":[{}]}"#, "expected 'name' in each of 'inputs'"),
        (r#"{"inputs":[{"name":"x"}]}"#, "expected 'shape' in input 'x', got none"),
        (r#"{"inputs":[{"name":"x","shape":[1]}]}"#, "expected 'datatype' in input 'x', got none"),
        (r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32"}]}"#, "got neither"),
        (
            r#"{"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[],"parameters":{"binary_data_size":0}}]}"#,
            "got both",
        ),
        (r#"{"inputs":[],"inputs":[]}"#, "'inputs' is given twice"),
        (r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#, "output 'y' is asked for twice"),
        (r#"{"inputs":[],"parameters":{"triton_x":1}}"#, "reserved prefix 'triton_'"),
        (r#"{"inputs":[],"parameters":{"timeout":"soon"}}"#, "parameter 'timeout' expects a whole number"),
    ] {
        let got = infer_error(400, body).await;
        assert!(got.contains(text), "{got}");
    }
}

#[tokio::test]
async fn shared_memory_is_refused_by_name() {
    let body = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32",
        "parameters":{"shared_memory_region":"r","shared_memory_byte_size":8}}]}"#;
    assert!(infer_error(501, body).await.contains("input 'x' lies in shared memory"));
}

#[tokio::test]
async fn broken_json_says_where() {
    for (body, text) in [
        ("", "expected an object, got the end of the text at byte 0"),
        ("{", "expected a string, got the end of the text at byte 1"),
        ("[]", "expected an object, got '[' at byte 0"),
        (r#"{"inputs":[]} x"#, "expected the end of the text, got 'x' at byte 14"),
    ] {
        let got = infer_error(400, body).await;
        assert!(got.ends_with(text), "{got}");
    }
    for bomb in ["[".repeat(100_000), r#"{"a":"#.repeat(100_000), format!(r#"{{"inputs":{}"#, "[".repeat(100_000))] {
        assert!(infer_error(400, &bomb).await.contains("JSON"), "a depth bomb");
    }
    let deep = input("[1,2]", "FP32", &"[".repeat(1000));
    assert!(infer_error(400, &deep).await.contains("arrays in one another"));
}

#[tokio::test]
async fn lengths_that_do_not_add_up() {
    let client = client();
    let head = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
    let post = async |length: &str, tensors: &[u8]| {
        let (_, body) = with_head(head, &[tensors]);
        let headers = [("inference-header-content-length", length)];
        client.post("/v2/models/digits/infer", &headers, body).await.error(400)
    };
    let exact = head.len().to_string();
    assert_eq!(post(&exact, &[0; 6]).await, "unexpected size for input 'x', expecting 2 additional bytes");
    assert!(post(&exact, &[0; 9]).await.starts_with("unexpected additional input data for model"));
    for bad in ["1000000", "-1", "x", "99999999999999999999999"] {
        let text = post(bad, &[0; 8]).await;
        assert_eq!(text, format!("inference header size should be in range (0, {}), got: {bad}", head.len() + 8));
    }
    let short = head.replace("8}", "4}");
    let (length, body) = with_head(&short, &[&[0; 4]]);
    let headers = [("inference-header-content-length", length.as_str())];
    let text = client.post("/v2/models/digits/infer", &headers, body).await.error(400);
    assert_eq!(text, "input 'x': expected 8 bytes for shape [1,2] of FP32, got 4");
    let raw = [("inference-header-content-length", "0")];
    let text = client.post("/v2/models/add/infer", &raw, "x").await.error(400);
    assert_eq!(text, "a raw binary request expects a model with 1 input, got one with 2");
    assert_eq!(client.plane().budget.in_use(), 0);
}

#[tokio::test]
async fn unknown_codings_and_bodies_that_are_not_what_they_say() {
    let client = client();
    for coding in ["br", "gzip, deflate", "zstd"] {
        let answer = client.post("/v2/models/digits/infer", &[("content-encoding", coding)], "x").await;
        assert!(answer.error(501).contains("is not supported, expected one of gzip, deflate, identity"));
        assert_eq!(answer.header("accept-encoding"), Some("gzip, deflate"));
    }
    let text = client.post("/v2/models/digits/infer", &[("content-encoding", "gzip")], "x").await.error(400);
    assert!(text.contains("not valid gzip"));
}

#[tokio::test]
async fn a_body_over_the_limit() {
    let mut plane = testing::data_plane(&[("m", 1, identity(DataType::Fp32))]);
    Arc::get_mut(&mut plane).unwrap().max_body_bytes = 1000;
    let client = Client::on(plane);
    let text = client.post("/v2/models/m/infer", &[], vec![b' '; 1001]).await.error(413);
    assert_eq!(text, "request of 1001 bytes exceeds the limit of 1000 bytes");
    let answer = client.post("/v2/models/m/infer", &[("content-length", "5000")], "").await;
    assert!(answer.error(413).contains("request of 5000 bytes"));
    let bomb = super::super::coding::encode(super::super::coding::Coding::Gzip, &vec![0; 1 << 20].into()).unwrap();
    let bomb = bomb.pieces().next().unwrap().clone();
    assert!(client.post("/v2/models/m/infer", &[("content-encoding", "gzip")], bomb).await.error(413).contains("1000"));
}

#[tokio::test]
async fn names_that_could_be_paths_and_paths_that_are_none() {
    let client = client();
    for name in ["..", "%2e%2e", "a%2fb", "..%2f..%2fetc%2fpasswd", "%00", "%ff"] {
        let text = client.get(&format!("/v2/models/{name}/ready")).await.error(400);
        assert!(text.contains("is not a model name"), "{text}");
    }
    assert_eq!(client.get("/v2/nothing").await.error(404), "Not Found");
    let answer = client.get("/v2/models/digits/infer").await;
    assert_eq!(answer.error(405), "Method Not Allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
}

#[tokio::test]
async fn headers_of_ours_are_checked() {
    let client = client();
    let body = input("[1,2]", "FP32", "[1,2]");
    for (name, value) in
        [("headgate-timeout-ms", "soon"), ("headgate-timeout-ms", "-1"), ("headgate-priority", "urgent")]
    {
        let text = client.post("/v2/models/digits/infer", &[(name, value)], body.clone()).await.error(400);
        assert!(text.contains(name) && text.contains(value), "{text}");
    }
}

#[tokio::test]
async fn a_failure_counts_on_the_version_it_reached() {
    let client = client();
    client.post_json("/v2/models/digits/infer", "{").await.error(400);
    let stats = client.get("/v2/models/digits/stats").await.ok().json();
    assert_eq!(stats["model_stats"][0]["inference_stats"]["fail"]["count"], 1);
}

#[tokio::test]
async fn output_bytes_that_are_no_text_need_the_binary_form() {
    let client = Client::of(&[("m", 1, FunctionModel::identity(&[("x", DataType::Bytes, 1)]))]);
    let body = r#"{"inputs":[{"name":"x","shape":[1,1],"datatype":"BYTES","data":[{"b64":"/w=="}]}]}"#;
    let text = client.post_json("/v2/models/m/infer", body).await.error(400);
    assert_eq!(
        text,
        "element 0 of output 'x_out' is not UTF-8 text and has no JSON form: ask for the output as binary data"
    );
}
