use fastrand::Rng;

use super::*;
use crate::engine::RunError;
use crate::engine::sample::{self, Style};
use crate::signature::{BatchAxes, Batching, Dim, Signature, TensorSpec};

fn spec(name: &str, dtype: DataType, dims: &[&str]) -> TensorSpec {
    let dim = |text: &&str| text.parse().map_or_else(|_| Dim::Named((*text).to_owned()), Dim::Fixed);
    TensorSpec { name: name.into(), dtype, dims: Some(dims.iter().map(dim).collect()), classes: vec![] }
}

/// Rows along axis 0 of every input and output.
fn signature(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
    let axes = BatchAxes { inputs: vec![Some(0); inputs.len()], outputs: vec![Some(0); outputs.len()] };
    Signature { inputs, outputs, batching: Batching::Proven(axes) }
}

/// What a text model takes and gives.
fn text_signature() -> Signature {
    signature(
        vec![spec("ids", DataType::Int64, &["N", "S"]), spec("mask", DataType::Int64, &["N", "S"])],
        vec![spec("pooled", DataType::Fp32, &["N"]), spec("each", DataType::Fp32, &["N", "S"])],
    )
}

fn rule(buckets: &[usize]) -> PaddingRule {
    PaddingRule { dimension: "S".into(), buckets: buckets.to_vec(), mask: Some("mask".into()), pad: [].into() }
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_elements(DataType::Fp32, shape.to_vec(), values).unwrap()
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::from_elements(DataType::Int64, vec![1, values.len()], values).unwrap()
}

/// The mean of each row's ids and the ids less that mean. `weight` says how much a position counts, by its mask.
fn text_model(inputs: &[Tensor], weight: fn(f32) -> f32) -> Vec<Tensor> {
    let [rows, length] = inputs[0].shape() else { panic!("{:?}", inputs[0]) };
    let values = |tensor: &Tensor| tensor.elements::<i64>().map(|value| value as f32).collect::<Vec<f32>>();
    let (ids, mask) = (values(&inputs[0]), values(&inputs[1]));
    let (mut pooled, mut each) = (vec![], vec![]);
    for row in 0..*rows {
        let of = |values: &[f32]| values[row * length..(row + 1) * length].to_vec();
        let (ids, weights): (Vec<f32>, Vec<f32>) = (of(&ids), of(&mask).into_iter().map(weight).collect());
        let sum: f32 = ids.iter().zip(&weights).map(|(id, weight)| id * weight).sum();
        let mean = sum / weights.iter().sum::<f32>();
        pooled.push(mean);
        each.extend(ids.iter().map(|id| id - mean));
    }
    vec![floats(&[*rows], &pooled), floats(&[*rows, *length], &each)]
}

fn reason(rule: &PaddingRule, signature: &Signature, run: impl Fn(&[Tensor]) -> Option<Vec<Tensor>>) -> String {
    let mut run = |inputs: &[Tensor]| run(inputs).ok_or(RunError::Failed("no".into()));
    prove(rule, signature, &mut run).unwrap_err()
}

#[test]
fn a_model_that_heeds_its_mask_is_padded() {
    let rule = PaddingRule { pad: [("ids".to_owned(), 256.0)].into(), ..rule(&[4, 8]) };
    let mut runs = 0;
    let padding = prove(&rule, &text_signature(), &mut |inputs| {
        runs += 1;
        Ok(text_model(inputs, |mask| mask))
    });
    let padding = padding.unwrap();
    assert_eq!(padding.outputs, [None, Some(1)]);
    assert!(runs <= 21, "{runs}");

    let (inputs, length) = padding.pad(vec![ints(&[7, 9, 8]), ints(&[1, 1, 1])]);
    assert_eq!(length, Some(PaddedLength { original: 3, padded: 4 }));
    assert_eq!(inputs, [ints(&[7, 9, 8, 256]), ints(&[1, 1, 1, 0])]);
    let outputs = padding.cut(text_model(&inputs, |mask| mask), length).unwrap();
    assert_eq!(outputs, [floats(&[1], &[8.0]), floats(&[1, 3], &[-1.0, 1.0, 0.0])]);
}

#[test]
fn a_model_that_lets_the_padding_show_is_not() {
    let signature = text_signature();
    let ignores = reason(&rule(&[4, 8]), &signature, |inputs| Some(text_model(inputs, |_| 1.0)));
    assert_eq!(ignores, "output 'pooled' changes with a length of 1 padded to 4 along 'S'");
    let leaks = reason(&rule(&[4, 8]), &signature, |inputs| Some(text_model(inputs, |mask| mask + 1e-3)));
    assert!(leaks.starts_with("output 'pooled' changes with"), "{leaks}");
    let no_mask = PaddingRule { mask: None, ..rule(&[4]) };
    let unmasked = reason(&no_mask, &signature, |inputs| Some(text_model(inputs, |_| 1.0)));
    assert!(unmasked.contains("changes with"), "{unmasked}");
}

#[test]
fn outputs_that_cannot_be_cut_back_are_found() {
    let strided = |inputs: &[Tensor]| {
        let length = inputs[0].shape()[1];
        Some(vec![floats(&[inputs[0].shape()[0], 2 * length], &vec![0.0; inputs[0].shape()[0] * 2 * length])])
    };
    assert_eq!(
        reason(&rule(&[4]), &text_signature(), strided),
        "output 'pooled' is [1,2] for a length of 1 along 'S' and [1,8] for 4, which can't be cut back"
    );
}

#[test]
fn what_does_not_run_is_not_proven() {
    let signature = text_signature();
    let text = |inputs: &[Tensor]| text_model(inputs, |mask| mask);
    assert_eq!(reason(&rule(&[4]), &signature, |_| None), "the model did not run on made-up inputs");
    assert_eq!(reason(&rule(&[1]), &signature, |inputs| Some(text(inputs))), "no length lies below a bucket");
    // As with a table of positions that ends before the bucket.
    let bounded = |inputs: &[Tensor]| (inputs[0].shape()[1] < 8).then(|| text(inputs));
    let expected = "the model does not run with a length of 5 padded to 8 along 'S'";
    assert_eq!(reason(&rule(&[4, 8]), &signature, bounded), expected);
}

#[test]
fn rows_of_several_lengths_must_agree_in_company() {
    // Rows of one shape go their own ways; ones that were padded differently look at each other's masks.
    let mixes = |inputs: &[Tensor]| {
        let sums: Vec<i64> = inputs[1].elements::<i64>().collect();
        let rows: Vec<i64> = sums.chunks(inputs[1].shape()[1]).map(|row| row.iter().sum()).collect();
        let mut outputs = text_model(inputs, |mask| mask);
        if rows.iter().any(|&row| row != rows[0]) {
            outputs[0] = floats(&[rows.len()], &vec![0.0; rows.len()]);
        }
        Some(outputs)
    };
    let text = reason(&rule(&[8]), &text_signature(), mixes);
    assert_eq!(text, "output 'pooled' of rows of lengths [1,4,7] padded to 8 changes in company");
}

#[test]
fn other_dimensions_that_vary_are_tried_at_several_sizes() {
    let input = spec("x", DataType::Fp32, &["N", "S", "C"]);
    let signature = signature(vec![input.clone()], vec![input]);
    let rule = PaddingRule { mask: None, ..rule(&[4]) };
    // Takes 8 channels alone.
    let mut run = |inputs: &[Tensor]| match inputs[0].shape()[2] {
        8 => Ok(inputs.to_vec()),
        _ => Err(RunError::Failed("no".into())),
    };
    assert_eq!(prove(&rule, &signature, &mut run).unwrap().outputs, [Some(1)]);
}

/// Whatever the datatypes, axes and lengths: what an identity gives is what came.
#[test]
fn padding_and_cutting_is_the_identity() {
    let mut rng = Rng::with_seed(0);
    for _ in 0..500 {
        let count = rng.usize(1..=3);
        let mut inputs = vec![];
        for position in 0..count {
            let mut dims = vec!["3", "C", "S"];
            rng.shuffle(&mut dims);
            inputs.push(spec(&position.to_string(), DataType::ALL[rng.usize(..14)], &dims));
        }
        let batching = Batching::Unproven(String::new());
        let signature = Signature { inputs: inputs.clone(), outputs: inputs, batching };
        let rule = PaddingRule { mask: None, ..rule(&[2, 5, 16]) };
        let padding = prove(&rule, &signature, &mut |inputs| Ok(inputs.to_vec())).unwrap();

        let (length, channels) = (rng.usize(0..=20), rng.usize(0..=2));
        let size = |dim: &Dim| match dim {
            Dim::Named(name) if name == "S" => length,
            Dim::Named(_) => channels,
            _ => 3,
        };
        let tensor = |spec: &TensorSpec| {
            let shape = spec.dims.iter().flatten().map(size).collect();
            sample::tensor(&mut rng, spec.dtype, shape, Style::Wide)
        };
        let came: Vec<Tensor> = signature.inputs.iter().map(tensor).collect();
        let (padded, change) = padding.pad(came.clone());
        let expected = [2, 5, 16].into_iter().find(|&bucket| bucket >= length).filter(|_| channels > 0 && length > 0);
        assert_eq!(change.map(|change| change.padded), expected.filter(|&bucket| bucket > length));
        if let Some(change) = change {
            let has_it = |(spec, tensor): (&TensorSpec, &Tensor)| {
                let axis = spec.dims.iter().flatten().position(|dim| *dim == Dim::Named("S".into())).unwrap();
                tensor.shape()[axis] == change.padded
            };
            assert!(signature.inputs.iter().zip(&padded).all(has_it));
        }
        assert_eq!(padding.cut(padded, change).unwrap(), came);
    }
}

#[test]
fn what_would_grow_too_much_stays_as_it_is() {
    let signature = signature(vec![spec("x", DataType::Fp32, &["N", "S"])], vec![]);
    let padding = SequencePadding {
        inputs: PaddingRule { mask: None, ..rule(&[4096]) }.fit(&signature).unwrap(),
        outputs: vec![],
    };
    let change = |rows| padding.pad(vec![Tensor::zeros(DataType::Fp32, vec![rows, 1])]).1;
    let most = MAX_ADDED_BYTES / (4095 * 4);
    assert_eq!(change(most), Some(PaddedLength { original: 1, padded: 4096 }));
    assert_eq!(change(most + 1), None);
}

#[test]
fn an_output_of_another_length_than_proven_is_an_error() {
    let padding = prove(&rule(&[4]), &text_signature(), &mut |inputs| Ok(text_model(inputs, |mask| mask))).unwrap();
    let length = Some(PaddedLength { original: 3, padded: 4 });
    let text = padding.cut(vec![floats(&[1], &[0.0]), floats(&[1, 2], &[0.0; 2])], length).unwrap_err();
    assert_eq!(text, "output 1 of a request padded to 4 has shape [1,2], which can't be cut back along axis 1");
}

#[test]
fn rules_that_do_not_fit_say_what_was_expected() {
    let signature = signature(
        vec![
            spec("ids", DataType::Int64, &["N", "S"]),
            spec("mask", DataType::Bool, &["N", "S"]),
            spec("words", DataType::Bytes, &["N", "S"]),
            spec("bias", DataType::Fp32, &["T", "T"]),
            spec("age", DataType::Uint8, &["N"]),
        ],
        vec![],
    );
    let base = || rule(&[8]);
    let on = |dimension: &str| PaddingRule { dimension: dimension.into(), mask: None, ..base() };
    let masked = |mask: &str| PaddingRule { mask: Some(mask.into()), ..base() };
    let padded = |input: &str, value: f64| PaddingRule { pad: [(input.to_owned(), value)].into(), ..base() };
    let table = [
        (
            on("L"),
            "sequence_padding.dimension: expected a dimension that the model's inputs name ('N', 'S', 'T'), got 'L'",
        ),
        (
            on("N"),
            "sequence_padding.dimension: expected a dimension of the sequence, got 'N', along which the rows of a batch lie",
        ),
        (on("T"), "sequence_padding.dimension: expected 'T' on one axis of input 'bias', got 2"),
        (
            masked("msak"),
            "sequence_padding.mask: expected an input of the model ('ids', 'mask', 'words', 'bias', 'age'), got 'msak'",
        ),
        (masked("age"), "sequence_padding.mask: expected an input with dimension 'S', got 'age' of shape [-1]"),
        (masked("words"), "sequence_padding.mask: expected an input of numbers, got 'words' of BYTES"),
        (
            padded("id", 0.0),
            "sequence_padding.pad: expected an input of the model ('ids', 'mask', 'words', 'bias', 'age'), got 'id'",
        ),
        (
            padded("bias", 0.0),
            "sequence_padding.pad: expected an input with dimension 'S', got 'bias' of shape [-1,-1]",
        ),
        (
            padded("mask", 1.0),
            "sequence_padding.pad: expected inputs other than the mask, which is padded with zeros, got 'mask'",
        ),
        (padded("ids", 0.5), "sequence_padding.pad.ids: expected a value of INT64, got 0.5"),
        (
            padded("words", 1.0),
            "sequence_padding.pad.words: expected no value for BYTES, which is padded with empty texts, got 1",
        ),
    ];
    for (rule, expected) in table {
        assert_eq!(rule.fit(&signature).unwrap_err().to_string(), expected);
    }
    assert!(base().fit(&signature).is_ok());
}

#[test]
fn values_are_those_of_the_datatype() {
    for (dtype, value, expected) in [
        (DataType::Int8, -128.0, Some(vec![0x80])),
        (DataType::Int8, 128.0, None),
        (DataType::Uint16, -1.0, None),
        (DataType::Int64, 256.0, Some(256i64.to_le_bytes().to_vec())),
        (DataType::Int64, 1e300, None),
        (DataType::Uint64, 1.5, None),
        (DataType::Bool, 1.0, Some(vec![1])),
        (DataType::Bool, 2.0, None),
        (DataType::Fp16, 1.0, Some(vec![0x00, 0x3c])),
        (DataType::Bf16, 1.0, Some(vec![0x80, 0x3f])),
        (DataType::Fp32, -0.5, Some((-0.5f32).to_le_bytes().to_vec())),
        (DataType::Bytes, 0.0, Some(vec![0; 4])),
    ] {
        assert_eq!(rule::element(dtype, value), expected, "{value} as {dtype}");
    }
}
