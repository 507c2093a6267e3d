//! `ai.onnx.DFT` (version 20; 17 has the axis as an attribute): the discrete Fourier transform along an axis, of a signal that is
//! cut to `dft_length` or filled up to it with zeros; the transform itself is tract's.
//!
//! In place of tract's, which leaves `dft_length` aside.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::fft::Fft;
use tract_onnx::tract_hir::internal::*;

use super::inputs::{axis_of, constant_ints, integers, plain};
use super::kernel::{Kernel, built};
use super::{Built, bounded};

/// The first version of the operator whose axis is an input.
const AXIS_AS_INPUT: i64 = 20;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let flag = |name: &str| Ok::<bool, TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0);
    let mut places = optional_inputs(node).skip(1);
    let (length, axis) = (places.next().flatten(), places.next().flatten());
    let axis = match (axis, context.onnx_operator_set_version < AXIS_AS_INPUT) {
        (None, true) => Axis::Fixed(node.get_attr_opt("axis")?.unwrap_or(1)),
        (Some(_), true) => bail!("a third input before version {AXIS_AS_INPUT}"),
        (None, false) => Axis::Fixed(-2),
        (Some(place), false) => Axis::Input(place),
    };
    built(node, Dft { inverse: flag("inverse")?, onesided: flag("onesided")?, length, axis })
}

#[derive(Debug, Clone, Copy)]
enum Axis {
    Fixed(i64),
    /// The place of the input that has it.
    Input(usize),
}

#[derive(Debug)]
struct Dft {
    inverse: bool,
    /// Only the half of the frequencies that a real signal's other half mirrors is given, or taken.
    onesided: bool,
    /// The place of the input that has it.
    length: Option<usize>,
    axis: Axis,
}

impl Dft {
    /// The axis and the length, with what an input holds by `ints`.
    fn asked(
        &self,
        rank: usize,
        ints: impl Fn(usize, &str) -> TractResult<Vec<i64>>,
    ) -> TractResult<(usize, Option<usize>)> {
        let one = |place: usize, name: &str| match ints(place, name)?[..] {
            [one] => Ok(one),
            ref other => bail!("'{name}' has {} numbers instead of 1", other.len()),
        };
        let axis = match self.axis {
            Axis::Fixed(axis) => axis,
            Axis::Input(place) => one(place, "axis")?,
        };
        let axis = axis_of(axis, rank).context("'axis'")?;
        ensure!(axis + 1 < rank, "'axis' is that of real and imaginary parts");
        let length = self.length.map(|place| one(place, "dft_length")).transpose()?;
        let length = length.map(|length| {
            let known = usize::try_from(length).ok().filter(|length| *length > 0);
            known.with_context(|| format!("'dft_length' is {length}"))
        });
        Ok((axis, length.transpose()?))
    }

    /// How many elements the transform is of. Where half the frequencies are given, they have to be the half of such a
    /// signal's: what it means to cut them or fill them up, ONNX leaves open, and ONNX Runtime and NumPy do it differently.
    fn length<D: DimLike>(&self, given: &D, length: Option<usize>) -> TractResult<D> {
        if !(self.inverse && self.onesided) {
            return Ok(length.map_or_else(|| given.clone(), D::from));
        }
        let given = given.to_usize().context("DFT: an open number of frequencies")?;
        let length = length.map_or_else(|| given.checked_sub(1).map(|half| 2 * half), Some);
        let length = length.filter(|length| *length > 0).context("DFT: less than two frequencies of a half")?;
        ensure!(
            length % 2 == 0 && length / 2 + 1 == given,
            "DFT: 'dft_length' of {length} for a half of {given} frequencies, which is that of an even length of {}",
            2 * given.saturating_sub(1)
        );
        Ok(length.into())
    }

    fn shape<D: DimLike>(&self, given: &[D], axis: usize, length: Option<usize>) -> TractResult<TVec<D>> {
        let mut shape: TVec<D> = given.into();
        let parts = given[given.len() - 1].to_usize().context("DFT: an open last axis")?;
        ensure!(matches!(parts, 1 | 2), "DFT: a last axis of {parts} instead of real and imaginary parts");
        ensure!(!(self.onesided && !self.inverse && parts == 2), "attribute 'onesided' of a signal that is not real");
        ensure!(!(self.onesided && self.inverse && parts == 1), "attribute 'onesided' of frequencies that are real");
        let length = self.length(&given[axis], length)?;
        shape[axis] = if self.onesided && !self.inverse { length / 2 + 1 } else { length };
        shape[given.len() - 1] = if self.onesided && self.inverse { 1 } else { 2 }.into();
        Ok(shape)
    }
}

impl Kernel for Dft {
    fn name(&self) -> &'static str {
        "DFT"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let signal = inputs.first().context("DFT of nothing")?;
        ensure!(matches!(signal.datum_type, DatumType::F32 | DatumType::F64), "DFT of {:?}", signal.datum_type);
        let known = |place: usize, name: &str| constant_ints(inputs.get(place).context("an input less")?, name);
        let (axis, length) = self.asked(signal.rank(), known)?;
        Ok(tvec![signal.datum_type.fact(self.shape(&signal.shape, axis, length)?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let signal = &inputs[0];
        let (axis, length) = self.asked(signal.rank(), |place, _| integers(&inputs[place]))?;
        let made = self.shape(signal.shape(), axis, length)?;
        let length = self.length(&signal.shape()[axis], length)?;
        let last = signal.rank() - 1;
        let mut whole = TVec::from_slice(signal.shape());
        (whole[axis], whole[last]) = (length, 2);
        bounded::check_made("DFT", &whole, signal.datum_type())?;
        let mut signal = resized(resized(signal.clone().into_tensor(), last, 2)?, axis, length)?;
        if self.inverse && self.onesided {
            signal = mirrored(signal, axis)?;
        }
        let op = Fft { axis, inverse: self.inverse };
        // The transform of nothing is nothing.
        if signal.len() > 0 {
            signal =
                EvalOp::eval(&op, &EvalContext::out_of_plan(), tvec![signal.into_tvalue()])?.remove(0).into_tensor();
        }
        if self.inverse {
            scale(&mut signal, length)?;
        }
        Ok(tvec![resized(resized(signal, axis, made[axis])?, last, made[last])?])
    }

    fn values_decide_shapes(&self) -> bool {
        true
    }
}

/// Cuts the tensor behind, or fills it up with zeros there.
fn resized(tensor: Tensor, axis: usize, length: usize) -> TractResult<Tensor> {
    let held = tensor.shape()[axis];
    if held >= length {
        return if held == length { Ok(tensor) } else { tensor.slice(axis, 0, length) };
    }
    let mut shape = TVec::from_slice(tensor.shape());
    shape[axis] = length - held;
    let zeros = Tensor::zero_dt(tensor.datum_type(), &shape)?;
    Tensor::stack_tensors(axis, &[tensor, zeros])
}

/// Frequencies behind the first half as the conjugates of those in it.
fn mirrored(tensor: Tensor, axis: usize) -> TractResult<Tensor> {
    fn mirror<T: Datum + Copy + std::ops::Neg<Output = T>>(mut tensor: Tensor, axis: usize) -> TractResult<Tensor> {
        let length = tensor.shape()[axis];
        let inner: usize = tensor.shape()[axis + 1..].iter().product();
        let mut view = tensor.try_as_plain_ram_mut()?;
        for block in view.as_slice_mut::<T>()?.chunks_exact_mut(length * inner) {
            for (place, part) in (length / 2 + 1..length).flat_map(|place| (0..inner).map(move |part| (place, part))) {
                let of_first = block[(length - place) * inner + part];
                // Imaginary parts are every second one.
                block[place * inner + part] = if part % 2 == 1 { -of_first } else { of_first };
            }
        }
        Ok(tensor)
    }
    match tensor.datum_type() {
        _ if tensor.len() == 0 => Ok(tensor),
        DatumType::F64 => mirror::<f64>(tensor, axis),
        _ => mirror::<f32>(tensor, axis),
    }
}

fn scale(tensor: &mut Tensor, length: usize) -> TractResult<()> {
    let is_double = tensor.datum_type() == DatumType::F64;
    let mut view = tensor.try_as_plain_ram_mut()?;
    match is_double {
        true => view.as_slice_mut::<f64>()?.iter_mut().for_each(|x| *x /= length as f64),
        false => view.as_slice_mut::<f32>()?.iter_mut().for_each(|x| *x /= length as f32),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, assert_close, run_known, shapes_for_any_rows};
    use super::*;

    fn real() -> Tensor {
        tensor1(&[1f32, -2.0, 3.0, 0.5]).into_shape(&[1, 4, 1]).unwrap()
    }

    fn dft(node: Node, signal: Tensor, length: Option<i64>) -> TractResult<Tensor> {
        let known: Vec<Tensor> = length.map(tensor0).into_iter().collect();
        Ok(run_known(node, &[signal], &known, 1)?.remove(0))
    }

    fn plain_dft() -> Node {
        Node::new("DFT").int("axis", 1)
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn a_signal_is_cut_or_filled_up_to_the_length() {
        let longer = dft(plain_dft(), real(), Some(6)).unwrap();
        assert_eq!(longer.shape(), [1, 6, 2]);
        assert_close(&longer, &LONGER);
        let shorter = dft(plain_dft(), real(), Some(3)).unwrap();
        assert_close(&shorter, &SHORTER);
        let same = dft(plain_dft(), real(), Some(4)).unwrap();
        assert_eq!(same, dft(plain_dft(), real(), None).unwrap());
        let half = dft(plain_dft().int("onesided", 1), real(), Some(6)).unwrap();
        assert_eq!(half.shape(), [1, 4, 2]);
        assert_close(&half, &LONGER[..8]);
        let back = dft(plain_dft().int("inverse", 1), longer, Some(6)).unwrap();
        assert_close(&back, &[1.0, 0.0, -2.0, 0.0, 3.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let cut_back = dft(plain_dft().int("inverse", 1), real(), Some(3)).unwrap();
        assert_close(&cut_back, &SHORTER_BACK);
    }

    const LONGER: [f32; 12] =
        [2.5, 0.0, -2.0, -0.866_025_4, 1.0, 4.330_127, 5.5, 0.0, 1.0, -4.330_127, -2.0, 0.866_025_4];
    const SHORTER: [f32; 6] = [2.0, 0.0, 0.5, 4.330_127, 0.5, -4.330_127];
    const SHORTER_BACK: [f32; 6] = [0.666_666_7, 0.0, 0.166_666_7, -1.443_375_7, 0.166_666_7, 1.443_375_7];

    #[test]
    fn half_the_frequencies_give_a_real_signal() {
        let half = dft(plain_dft().int("onesided", 1), real(), None).unwrap();
        let back = || plain_dft().int("onesided", 1).int("inverse", 1);
        for length in [None, Some(4)] {
            let signal = dft(back(), half.clone(), length).unwrap();
            assert_eq!(signal.shape(), [1, 4, 1]);
            assert_close(&signal, &[1.0, -2.0, 3.0, 0.5]);
        }
        for length in [1, 2, 3, 5, 6] {
            let error = dft(back(), half.clone(), Some(length)).unwrap_err();
            assert!(format!("{error:#}").contains("'dft_length'"), "{error:#}");
        }
        assert!(dft(back(), real(), None).is_err());
        assert!(dft(plain_dft().int("onesided", 1), half, None).is_err());
    }

    #[test]
    fn lengths_and_axes_that_there_are_not_are_refused() {
        for length in [0, -1, i64::MAX] {
            assert!(dft(plain_dft(), real(), Some(length)).is_err(), "{length}");
        }
        for axis in [2, 3, -1, i64::MIN] {
            assert!(dft(Node::new("DFT").int("axis", axis), real(), None).is_err(), "{axis}");
        }
        assert_eq!(shapes_for_any_rows(plain_dft(), &[real()], 1).unwrap(), ["N,4,2"]);
    }
}
