//! Our convolutions against sums written out, and our poolings against tract's, with each vector that the processor has.

mod bytes;
mod products;

use proptest::prelude::*;
use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::math::{add, max, min, mul};
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

use super::channels_last::convert_for;
use super::vector::Simd;

/// What the values of inputs are made from; those of constants are made from small numbers.
const INPUT_SEED: u32 = 77;

/// One window over both axes of an image.
#[derive(Debug, Clone)]
struct Case {
    images: usize,
    groups: usize,
    /// Of one group.
    channels: [usize; 2],
    image: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

impl Case {
    fn spec(&self, channels: [usize; 2]) -> PoolSpec {
        let pads = &self.pads;
        PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: self.kernel.as_slice().into(),
            padding: PaddingSpec::Explicit(tvec![pads[0], pads[1]], tvec![pads[2], pads[3]]),
            dilations: Some(self.dilations.as_slice().into()),
            strides: Some(self.strides.as_slice().into()),
            input_channels: channels[0],
            output_channels: channels[1],
        }
    }

    fn all_channels(&self) -> [usize; 2] {
        self.channels.map(|channels| channels * self.groups)
    }

    fn input(&self) -> [usize; 4] {
        [self.images, self.all_channels()[0], self.image[0], self.image[1]]
    }

    fn weights(&self) -> [usize; 4] {
        [self.all_channels()[1], self.channels[0], self.kernel[0], self.kernel[1]]
    }

    /// Places of the window.
    fn places(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.image[axis] + self.pads[axis] + self.pads[axis + 2];
            (padded - (self.kernel[axis] - 1) * self.dilations[axis] - 1) / self.strides[axis] + 1
        })
    }

    /// Whether the window has a place.
    fn fits(&self) -> bool {
        (0..2).all(|axis| {
            (self.kernel[axis] - 1) * self.dilations[axis] < self.image[axis] + self.pads[axis] + self.pads[axis + 2]
        })
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let pair = |range: std::ops::RangeInclusive<usize>| [range.clone(), range].prop_map(|pair| pair);
    // Groups of one channel are the depthwise ones; small groups stay tract's.
    let groups = prop_oneof![
        4 => (Just(1), [1..=19usize, 1..=70usize]),
        2 => (1..=70usize, [1..=1usize, 1..=1usize]),
        1 => (2..=3usize, [1..=5usize, 8..=20usize]),
    ];
    let pads = [0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize];
    let window = (pair(1..=4), pair(1..=3), pair(1..=2), pads);
    (1..=3usize, groups, pair(1..=11), window)
        .prop_map(|(images, (groups, channels), image, (kernel, strides, dilations, pads))| Case {
            images,
            groups,
            channels,
            image,
            kernel,
            strides,
            dilations,
            pads,
        })
        .prop_filter("the window is larger than the image", Case::fits)
}

/// Values that differ from place to place, between -1 and 1.
fn values(shape: &[usize], seed: u32) -> Tensor {
    let count = shape.iter().product::<usize>();
    let value = |at: u32| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0;
    Tensor::from_shape(shape, &(0..count as u32).map(value).collect::<Vec<_>>()).unwrap()
}

/// A convolution, a batch normalisation's factor and term, and limits of 0 and 1.
fn convolution(case: &Case) -> TypedModel {
    let mut model = TypedModel::default();
    let input = model.add_source("x", f32::fact(case.input())).unwrap();
    let outputs = case.all_channels()[1];
    let constants = [case.weights().to_vec(), vec![outputs], vec![1, outputs, 1, 1], vec![1, outputs, 1, 1]];
    let constants: Vec<OutletId> = (0..)
        .zip(&constants)
        .map(|(seed, shape)| model.add_const(format!("constant {seed}"), values(shape, seed)).unwrap())
        .collect();
    let [low, high] = [0.0f32, 1.0].map(|limit| tensor1(&[limit]).into_shape(&[1, 1, 1, 1]).unwrap());
    let low = model.add_const("low", low).unwrap();
    let high = model.add_const("high", high).unwrap();
    let op = Conv::new(case.spec(case.all_channels()), KernelFormat::OIHW, case.groups, None);
    let mut wire = model.wire_node("conv", op, &[input, constants[0], constants[1]]).unwrap();
    let steps: [(&str, Box<dyn TypedOp>, OutletId); 4] = [
        ("factor", Box::new(mul()), constants[2]),
        ("term", Box::new(add()), constants[3]),
        ("low", Box::new(max()), low),
        ("high", Box::new(min()), high),
    ];
    for (name, op, other) in steps {
        wire = model.wire_node(format!("{name}.step"), op, &[wire[0], other]).unwrap();
    }
    model.select_output_outlets(&wire).unwrap();
    model
}

/// A convolution that doubles each channel, a pooling, the sum of its pixels, and its product with that.
fn pooling(case: &Case, pool: impl Fn(PoolSpec) -> Box<dyn TypedOp>) -> TypedModel {
    let channels = case.all_channels()[0];
    let before = Case { channels: [1, 1], groups: channels, kernel: [1, 1], ..case.clone() };
    let before = Case { strides: [1, 1], dilations: [1, 1], pads: [0; 4], ..before };
    let mut model = TypedModel::default();
    let input = model.add_source("x", f32::fact(before.input())).unwrap();
    let twice = Tensor::from_shape(&[channels, 1, 1, 1], &vec![2.0f32; channels]).unwrap();
    let twice = model.add_const("twice", twice).unwrap();
    let zero = model.add_const("zero", Tensor::zero::<f32>(&[channels]).unwrap()).unwrap();
    let op = Conv::new(before.spec([channels; 2]), KernelFormat::OIHW, channels, None);
    let wire = model.wire_node("conv", op, &[input, twice, zero]).unwrap();
    let wire = model.wire_node("pool", pool(case.spec([channels; 2])), &wire).unwrap();
    let sum = model.wire_node("sum", Reduce { axes: tvec![2, 3], reducer: Reducer::Sum }, &wire).unwrap();
    let wire = model.wire_node("product", mul(), &[sum[0], wire[0]]).unwrap();
    model.select_output_outlets(&wire).unwrap();
    model
}

fn run(model: TypedModel, input: &Tensor) -> Tensor {
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    plan.run(tvec![input.clone().into_tvalue()]).unwrap().remove(0).into_tensor()
}

/// What [`convolution`] gives, by its definition.
fn expected(case: &Case) -> Vec<f64> {
    let Case { images, channels: [inputs, each], image: [height, width], kernel, strides, dilations, pads, .. } = case;
    let outputs = case.all_channels()[1];
    let constant =
        |shape: &[usize], seed| values(shape, seed).try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
    let (x, weights) = (constant(&case.input(), INPUT_SEED), constant(&case.weights(), 0));
    let [biases, factors, terms] = [1, 2, 3].map(|seed| constant(&[outputs], seed));
    let size = |axis: usize| case.places()[axis];
    let mut all = vec![];
    for (n, o) in (0..*images).flat_map(|n| (0..outputs).map(move |o| (n, o))) {
        for (y, x0) in (0..size(0)).flat_map(|y| (0..size(1)).map(move |x| (y, x))) {
            let mut sum = f64::from(biases[o]);
            for (c, ky, kx) in (0..inputs * kernel[0] * kernel[1])
                .map(|at| (at / kernel[1] / kernel[0], at / kernel[1] % kernel[0], at % kernel[1]))
            {
                let row = (y * strides[0] + ky * dilations[0]).wrapping_sub(pads[0]);
                let column = (x0 * strides[1] + kx * dilations[1]).wrapping_sub(pads[1]);
                if row < *height && column < *width {
                    let channel = o / each * inputs + c;
                    let pixel = ((n * case.all_channels()[0] + channel) * height + row) * width + column;
                    let weight = ((o * inputs + c) * kernel[0] + ky) * kernel[1] + kx;
                    sum += f64::from(x[pixel]) * f64::from(weights[weight]);
                }
            }
            all.push((sum * f64::from(factors[o]) + f64::from(terms[o])).clamp(0.0, 1.0));
        }
    }
    all
}

/// The model with each vector that the processor has.
fn converted(model: &TypedModel) -> Vec<TypedModel> {
    Simd::all().into_iter().map(|simd| convert_for(model, simd).unwrap()).collect()
}

fn is_left_to_tract(node: &TypedNode) -> bool {
    node.op_is::<Conv>() || node.op_is::<MaxPool>() || node.op_is::<SumPool>()
}

/// Within 0.00001 of the largest magnitude: sums in another order cancel to other remainders.
fn assert_near(got: &Tensor, expected: &Tensor) {
    let largest =
        expected.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().iter().fold(1.0f32, |a, b| a.max(b.abs()));
    got.close_enough(expected, Approximation::Custom(1e-5 * largest, 0.0, 0.0)).unwrap();
}

fn gives_what_tract_gives(case: &Case, model: &TypedModel) {
    let input = values(&case.input(), INPUT_SEED);
    let expected = run(model.clone(), &input);
    for converted in converted(model) {
        assert_near(&run(converted, &input), &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn convolutions_are_sums_over_their_windows(case in cases()) {
        let (model, expected) = (convolution(&case), expected(&case));
        for converted in converted(&model) {
            prop_assert!(!converted.nodes.iter().any(is_left_to_tract));
            let got = run(converted, &values(&case.input(), INPUT_SEED));
            let got = got.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
            prop_assert_eq!(got.len(), expected.len());
            let far = got.iter().zip(&expected).find(|(got, expected)| (f64::from(**got) - **expected).abs() > 1e-5);
            prop_assert_eq!(far, None);
        }
    }

    #[test]
    fn poolings_give_what_tract_gives(case in cases()) {
        // A window that sees nothing but padding has no greatest value and no average.
        let case = Case { dilations: [1, 1], pads: [0, 1, 2, 3].map(|side| case.pads[side].min(case.kernel[side % 2] - 1)), ..case };
        prop_assume!(case.fits());
        let greatest = pooling(&case, |spec| Box::new(MaxPool::new(spec, None)));
        let average = pooling(&case, |spec| Box::new(SumPool::new(spec, false, true)));
        let sum = pooling(&case, |spec| Box::new(SumPool::new(spec, false, false)));
        for model in [greatest, average, sum] {
            prop_assert!(converted(&model).iter().all(|model| !model.nodes.iter().any(is_left_to_tract)));
            gives_what_tract_gives(&case, &model);
        }
        gives_what_tract_gives(&case, &pooling(&case, |spec| Box::new(SumPool::new(spec, true, true))));
    }
}

/// A value that is used in both orders of axes, one that is an output and goes on, and an image beside a convolution.
#[test]
fn each_user_of_a_value_has_it_in_its_order() {
    let case = Case {
        images: 2,
        groups: 1,
        channels: [6, 6],
        image: [5, 4],
        kernel: [3, 3],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [1, 1, 1, 1],
    };
    let mut model = convolution(&case);
    let (input, wire) = (model.inputs[0], model.outputs[0]);
    let sum = model.wire_node("residual", add(), &[wire, input]).unwrap();
    let joined = model.wire_node("joined", TypedConcat { axis: 1 }, &[sum[0], wire]).unwrap();
    let turned = model.wire_node("turned", AxisOp::Move(3, 2), &joined).unwrap();
    let least = Reduce { axes: tvec![2, 3], reducer: Reducer::Min };
    let least = model.wire_node("least", least, &joined).unwrap();
    let input = values(&case.input(), INPUT_SEED);
    for output in [sum[0], joined[0], turned[0], least[0], wire] {
        let mut model = model.clone();
        model.select_output_outlets(&[output]).unwrap();
        gives_what_tract_gives(&case, &model);
    }
    model.select_output_outlets(&[wire, turned[0], sum[0], least[0]]).unwrap();
    let all = |model: TypedModel| {
        let plan = model.into_optimized().unwrap().into_runnable().unwrap();
        plan.run(tvec![input.clone().into_tvalue()]).unwrap()
    };
    let expected = all(model.clone());
    for converted in converted(&model) {
        for (got, expected) in all(converted).iter().zip(&expected) {
            assert_near(got, expected);
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so_through_limits() {
    let case = Case {
        images: 1,
        groups: 1,
        channels: [1, 3],
        image: [2, 2],
        kernel: [1, 1],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [0; 4],
    };
    let input = Tensor::from_shape(&case.input(), &[0.5, f32::NAN, 0.25, 0.5]).unwrap();
    for converted in converted(&convolution(&case)) {
        let got = run(converted, &input);
        let got = got.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        assert!(got.chunks(4).all(|pixels| pixels.iter().map(|value| value.is_nan()).eq([false, true, false, false])));
    }
}
