//! Inputs made up for a model that has not seen any: for its warm-up, the proof of its batch axis and the measurement of
//! its batch sizes.

use fastrand::Rng;
use half::{bf16, f16};

use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor, element_count};

/// What made-up values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Floats in -1..1; integers in 1..=5, small enough for the ids and counts that integers mostly are.
    Signed,
    /// Floats in 0..1; integers in 0..=3.
    Unit,
    /// Floats in -4..4; integers in 0..=7.
    Wide,
    Zeros,
    Ones,
}

/// The sizes of dimensions that vary.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Along the batch axis.
    pub rows: usize,
    /// Along every other axis.
    pub other: usize,
}

/// What dimensions besides the batch are taken for where nothing better is known: a short sequence, a small image.
pub const USUAL_SIZE: usize = 16;

/// One tensor for each input of the signature, along its proven batch axis if it has one. The same every time.
pub fn inputs(signature: &Signature, sizes: Sizes, style: Style) -> Vec<Tensor> {
    inputs_along(&signature.inputs, signature.batch_axes().map(|axes| axes.inputs.as_slice()), sizes, style)
}

/// As `inputs`, with the axis of each input's rows where it is not yet, or can't be, proven.
pub fn inputs_along(specs: &[TensorSpec], axes: Option<&[Option<usize>]>, sizes: Sizes, style: Style) -> Vec<Tensor> {
    let mut rng = Rng::with_seed(0);
    let axis = |input: usize| axes.and_then(|axes| axes[input]);
    let specs = specs.iter().enumerate();
    specs.map(|(input, spec)| tensor(&mut rng, spec.dtype, shape(spec, axis(input), sizes), style)).collect()
}

/// The input's shape at these sizes. An undeclared rank is taken for 2, rows and one other axis.
pub fn shape(spec: &TensorSpec, batch_axis: Option<usize>, sizes: Sizes) -> Vec<usize> {
    let Some(dims) = &spec.dims else { return vec![sizes.rows, sizes.other] };
    let size = |(axis, dim): (usize, &Dim)| match dim {
        _ if batch_axis == Some(axis) => sizes.rows,
        Dim::Fixed(size) => *size,
        Dim::Named(_) | Dim::Unknown => sizes.other,
    };
    dims.iter().enumerate().map(size).collect()
}

/// A tensor of made-up values.
pub fn tensor(rng: &mut Rng, dtype: DataType, shape: Vec<usize>, style: Style) -> Tensor {
    let count = element_count(&shape);
    let floats = |rng: &mut Rng| (0..count).map(|_| float(rng, style)).collect::<Vec<f32>>();
    let ints = |rng: &mut Rng| (0..count).map(|_| integer(rng, style)).collect::<Vec<u8>>();
    macro_rules! of {
        ($values:expr, $convert:expr) => {
            Tensor::from_elements(dtype, shape, &$values.into_iter().map($convert).collect::<Vec<_>>())
        };
    }
    let made = match dtype {
        DataType::Bool => of!(ints(rng), |value| value % 2),
        DataType::Int8 => of!(ints(rng), |value| value as i8),
        DataType::Int16 => of!(ints(rng), i16::from),
        DataType::Int32 => of!(ints(rng), i32::from),
        DataType::Int64 => of!(ints(rng), i64::from),
        DataType::Uint8 => of!(ints(rng), u8::from),
        DataType::Uint16 => of!(ints(rng), u16::from),
        DataType::Uint32 => of!(ints(rng), u32::from),
        DataType::Uint64 => of!(ints(rng), u64::from),
        DataType::Fp16 => of!(floats(rng), f16::from_f32),
        DataType::Bf16 => of!(floats(rng), bf16::from_f32),
        DataType::Fp32 => of!(floats(rng), f32::from),
        DataType::Fp64 => of!(floats(rng), f64::from),
        DataType::Bytes => {
            let words = ints(rng).into_iter().map(|value| WORDS[usize::from(value) % WORDS.len()]);
            Tensor::from_byte_elements(shape, &words.collect::<Vec<_>>())
        }
    };
    made.expect("as many values were made as the shape holds")
}

const WORDS: [&str; 5] = ["a", "b", "some words", "0", ""];

fn float(rng: &mut Rng, style: Style) -> f32 {
    match style {
        Style::Signed => rng.f32() * 2.0 - 1.0,
        Style::Unit => rng.f32(),
        Style::Wide => rng.f32() * 8.0 - 4.0,
        Style::Zeros => 0.0,
        Style::Ones => 1.0,
    }
}

fn integer(rng: &mut Rng, style: Style) -> u8 {
    match style {
        Style::Signed => rng.u8(1..=5),
        Style::Unit => rng.u8(0..=3),
        Style::Wide => rng.u8(0..=7),
        Style::Zeros => 0,
        Style::Ones => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_the_declaration() {
        let dims = vec![Dim::Named("T".into()), Dim::Named("N".into()), Dim::Fixed(8), Dim::Unknown];
        let spec = TensorSpec { name: "x".into(), dtype: DataType::Fp32, dims: Some(dims), classes: vec![] };
        let sizes = Sizes { rows: 3, other: 16 };
        assert_eq!(shape(&spec, Some(1), sizes), [16, 3, 8, 16]);
        assert_eq!(shape(&spec, None, sizes), [16, 16, 8, 16]);
        assert_eq!(shape(&TensorSpec { dims: None, ..spec }, None, sizes), [3, 16]);
    }

    #[test]
    fn the_same_seed_makes_the_same_values_in_every_datatype() {
        for dtype in DataType::ALL {
            let make = |style| tensor(&mut Rng::with_seed(7), dtype, vec![2, 3], style);
            assert_eq!(make(Style::Wide), make(Style::Wide), "{dtype}");
            assert_eq!(make(Style::Unit).element_count(), 6);
        }
    }
}
