//! Files that ask for too much, or for nonsense. Each was open once: it took memory or time without bounds, or ended the
//! process.

use std::fs;

use headgate::engine::Engine;
use headgate::engine::tract::TractEngine;

use super::models::{FLOAT, INT64, Model};
use super::{alone, case};

/// More than any machine has.
const HUGE: i64 = 1 << 44;

/// Checks that the model is refused, in time and within memory, with all of these words.
#[track_caller]
fn refused(model: Model, words: &[&str]) {
    let _alone = alone();
    let (engine, bytes) = (TractEngine::new(), model.bytes());
    let done = case::checked(&engine, &bytes, 0).unwrap();
    assert!(!done.loaded, "it loads");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::write(&path, bytes).unwrap();
    let Err(error) = engine.load(&path) else { panic!("it loads the second time") };
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not in: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

/// Checks that whatever becomes of the model, it is in time and within memory.
#[track_caller]
fn bounded(model: Model) {
    let _alone = alone();
    case::checked(&TractEngine::new(), &model.bytes(), 0).unwrap();
}

fn image() -> Model {
    Model::new().input("x", FLOAT, &[1, 1, 4, 4])
}

fn row() -> Model {
    Model::new().input("x", FLOAT, &[2, 3])
}

#[test]
fn a_constant_of_a_huge_shape_is_refused() {
    let model = row().list("s", &[HUGE]).node("c = ConstantOfShape(s)").node("y = Add(x, c)");
    refused(model, &["holds 17592186044416"]);
    let model = row().list("s", &[1 << 30]).node("c = ConstantOfShape(s)").node("y = Add(x, c)");
    refused(model, &["ConstantOfShape", "[1073741824]", "more than 268435456 bytes"]);
    let negative = row().list("s", &[-5]).node("c = ConstantOfShape(s)").node("y = Add(x, c)");
    refused(negative, &["negative dimension"]);
}

#[test]
fn a_huge_range_is_refused() {
    let model = row().number("a", 0).number("b", HUGE).number("d", 1).node("r = Range(a, b, d)");
    refused(
        model.node("c = Size(r)").node("f = Cast(c)").int("to", 1).node("y = Add(x, f)"),
        &["a size beyond all reason"],
    );
    let model = row().number("a", 0).number("b", 1 << 30).number("d", 1).node("r = Range(a, b, d)");
    refused(model.node("f = Cast(r)").int("to", 1).node("y = Add(x, f)"), &["Range", "more than 268435456 bytes"]);
}

#[test]
fn a_tensor_stretched_repeated_or_padded_beyond_reason_is_refused() {
    for op_type in ["Expand", "Tile"] {
        let model = row().list("s", &[1 << 22, 1 << 22]).floats("one", &[1, 1], &[1.0]);
        let model = model.node(&format!("c = {op_type}(one, s)")).node("y = ReduceSum(c)");
        refused(model, &["more than 268435456 bytes"]);
        refused(row().list("s", &[1 << 22, 3 << 22]).node(&format!("y = {op_type}(x, s)")), &[]);
    }
    refused(row().list("p", &[0, 0, HUGE, 0]).node("y = Pad(x, p)"), &["a size beyond all reason"]);
    refused(row().list("p", &[0, 0, 1 << 30, 0]).node("y = Pad(x, p)"), &["more than 268435456 bytes"]);
}

#[test]
fn the_depth_and_the_axis_of_a_one_hot_are_bounded() {
    let model = |depth: i64| {
        let model = Model::new().input("x", INT64, &[2]).number("d", depth).floats("v", &[2], &[0.0, 1.0]);
        model.node("y = OneHot(x, d, v)")
    };
    refused(model(HUGE), &["is a length of"]);
    refused(model(-1), &["is a length of -1"]);
    refused(model(1 << 26), &["more than 268435456 bytes"]);
    refused(model(3).int("axis", -5), &["'axis' holds -5"]);
    assert!(case::checked(&TractEngine::new(), &model(3).bytes(), 0).unwrap().loaded);
}

#[test]
fn random_numbers_windows_and_filters_are_bounded() {
    refused(row().node("r = RandomNormal()").ints("shape", &[HUGE]).node("y = Add(x, r)"), &[]);
    for window in ["HannWindow", "HammingWindow", "BlackmanWindow"] {
        let model = row().number("n", HUGE).node(&format!("w = {window}(n)")).node("y = Add(x, w)");
        refused(model, &["a size beyond all reason"]);
    }
    let model = row().number("n", HUGE).number("d", 16).number("s", 8000).floats("f", &[], &[0.0]);
    refused(model.node("m = MelWeightMatrix(n, d, s, f, f)").node("y = Add(x, m)"), &["is a length of"]);
}

#[test]
fn a_product_far_larger_than_its_factors_is_refused() {
    let model = Model::new().input("x", FLOAT, &[1 << 16, 1]);
    refused(
        model.node("t = Transpose(x)").node("p = MatMul(x, t)").node("y = ReduceSum(p)"),
        &["more than 268435456 bytes"],
    );
}

#[test]
fn a_resize_may_not_pass_through_a_huge_tensor() {
    let wide = Model::new().input("x", FLOAT, &[1, 1, 1, 65_536]).list("s", &[1, 1, 65_536, 1]);
    refused(wide.node("y = Resize(x, , , s)"), &["Resize", "a tensor of more than"]);
    refused(image().list("s", &[1, 1, 1, 1 << 24]).node("y = Resize(x, , , s)"), &["Resize", "larger than"]);
    bounded(image().floats("s", &[4], &[1.0, 1.0, 1e9, 1e9]).node("y = Upsample(x, s)").opset(9));
    bounded(image().floats("s", &[4], &[1.0, 1.0, 1e-9, 1e-9]).node("y = Resize(x, , s)").int("antialias", 1));
}

#[test]
fn inputs_declared_beyond_reason_are_refused() {
    refused(Model::new().input("x", FLOAT, &[1, HUGE]).node("y = Neg(x)"), &["'x' takes", "at most 268435456"]);
    refused(Model::new().input("x", FLOAT, &[i64::MAX, i64::MAX]).node("y = Neg(x)"), &["'x' takes"]);
}

#[test]
fn a_window_beyond_reason_is_refused() {
    for op_type in ["AveragePool", "MaxPool"] {
        let model = image().node(&format!("y = {op_type}(x)")).ints("kernel_shape", &[1 << 16, 1 << 16]);
        refused(model.text("auto_pad", "SAME_UPPER"), &["'kernel_shape'", op_type]);
        let flat = image().node(&format!("y = {op_type}(x)")).ints("kernel_shape", &[2]);
        refused(flat, &["'kernel_shape' is for an input of 3 dimensions"]);
    }
    refused(image().node("y = MaxPool(x)").ints("kernel_shape", &[2, 2]).ints("strides", &[0, 0]), &["'strides'"]);
}

#[test]
fn axes_that_a_tensor_lacks_are_refused() {
    let norm = |axis| row().floats("w", &[3], &[1.0; 3]).node("y = LayerNormalization(x, w)").int("axis", axis);
    refused(norm(1 << 33), &["'axis' of LayerNormalization", "8589934592"]);
    refused(norm(-3), &["'axis' holds -3"]);
    refused(row().number("a", HUGE).node("y = CumSum(x, a)"), &["axes hold 17592186044416"]);
    refused(row().list("a", &[5]).node("y = ReduceSum(x, a)"), &["axes hold 5"]);
    refused(row().node("y = Transpose(x)").ints("perm", &[1, 1]), &["'perm'"]);
    refused(row().number("a", 7).node("y = DFT(x, , a)").opset(20), &["axes hold 7"]);
}

#[test]
fn numbers_that_are_not_there_are_not_read() {
    let dropout = row().floats("r", &[0], &[]).node("y = Dropout(x, r)");
    refused(dropout, &["holds no number"]);
    refused(row().list("k", &[]).node("y i = TopK(x, k)").output("i", INT64), &["holds no number"]);
}

#[test]
fn an_input_is_not_taken_for_one_that_is_missing() {
    let model = Model::new().input("x", FLOAT, &[1, 10, 10, 2]).number("axis", 5);
    refused(model.node("y = DFT(, , axis)").opset(20), &["DFT lacks its first input"]);
}

#[test]
fn tensors_of_too_few_dimensions_are_refused() {
    let weights = || Model::new().input("x", FLOAT, &[3]).floats("w", &[3], &[1.0; 3]);
    refused(weights().node("y = BatchNormalization(x, w, w, w, w)"), &["fewer than 2 dimensions"]);
    refused(weights().node("y = Conv(x, w)"), &["fewer than 3 dimensions"]);
    refused(weights().node("y = MaxPool(x)").ints("kernel_shape", &[2]), &["fewer than 3 dimensions"]);
    refused(weights().number("i", 0).node("y = GatherND(x, i)"), &["fewer than 1 dimensions"]);
    refused(weights().number("n", 1).node("y = STFT(x, n, , n)"), &["fewer than 2 dimensions"]);
}

#[test]
fn a_frame_of_nothing_is_refused() {
    let signal = Model::new().input("x", FLOAT, &[1, 128, 1]);
    refused(signal.number("a", 0).number("b", 0).node("y = STFT(x, a, , b)"), &["is a length of 0"]);
}

#[test]
fn a_scan_of_more_than_there_is_is_refused() {
    let body = || Model::new().input("a", FLOAT, &[]).node("y = Neg(a)");
    let model = |scanned| row().node("y = Scan(x)").body("body", body()).int("num_scan_inputs", scanned);
    refused(model(1000), &["Scan", "'num_scan_inputs'"]);
    refused(model(1).ints("scan_input_axes", &[0; 9]), &["'scan_input_axes' holds 9"]);
}

#[test]
fn a_graph_that_goes_in_a_circle_is_refused() {
    refused(row().node("a = Add(x, b)").node("b = Neg(a)").node("y = Neg(b)"), &[]);
    refused(row().node("y = Add(y, x)"), &[]);
}

#[test]
fn a_long_chain_and_a_deep_nest_do_not_overflow_the_stack() {
    let mut chain = row().node("v0 = Neg(x)");
    for step in 1..3000 {
        chain = chain.node(&format!("v{step} = Abs(v{})", step - 1));
    }
    bounded(chain.node("y = Neg(v2999)"));
    let mut nest = Model::new().node("y = Neg(x)");
    for _ in 0..30 {
        nest = Model::new().floats("c", &[], &[1.0]).node("y = If(c)").body("then_branch", nest);
    }
    bounded(row().node("y = If(x)").body("then_branch", nest));
}
