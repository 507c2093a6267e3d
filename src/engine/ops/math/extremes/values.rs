//! `ai.onnx.ReduceMax` and `ReduceMin` (version 20), `ReduceProd` (version 18), whose integers wrap round, and `ReduceLogSumExp`
//! (version 18) of floats, which adds up without leaving the logarithms: tract's overflows. And `ReduceSum` (version 13) and `ReduceMean`
//! (version 18) of INT64, UINT64 and UINT32, of whose sums tract keeps 32 bits.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::inputs::{axis_of, integers};
use super::kernel::{Kernel, built};
use super::stand_in::stand_in;
use super::{Along, Built, LANES, for_type, is_number};

/// The version in which the axes became an input, of a ReduceSum and of the others.
const AXES_ARE_AN_INPUT: [i64; 2] = [13, 18];

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let flag = |name: &str, default: i64| Ok::<_, TractError>(node.get_attr_opt::<i64>(name)?.unwrap_or(default) != 0);
    let since = AXES_ARE_AN_INPUT[usize::from(node.op_type != "ReduceSum")];
    let by_input = context.onnx_operator_set_version >= since;
    let ours = Values {
        of: match node.op_type.as_str() {
            "ReduceMin" => Of::Least,
            "ReduceProd" => Of::Product,
            "ReduceLogSumExp" => Of::LogSum,
            "ReduceSum" => Of::Sum,
            "ReduceMean" => Of::Mean,
            _ => Of::Greatest,
        },
        axes: if by_input { None } else { node.get_attr_opt_vec("axes")? },
        keeps_axes: flag("keepdims", 1)?,
        keeps_all_without_axes: flag("noop_with_empty_axes", 0)?,
    };
    if matches!(ours.of, Of::Sum | Of::Mean) {
        let is_wide = |dt| matches!(dt, DatumType::I64 | DatumType::U64 | DatumType::U32);
        return stand_in(context, node, ours, move |inputs| {
            is_wide(inputs[0].datum_type) && inputs.iter().skip(1).all(|axes| axes.konst.is_some())
        });
    }
    if !by_input {
        return built(node, ours);
    }
    // tract's analysis knows the axes' values before the plan does. Sizes that hang on symbols, and axes that only a run tells,
    // are its matter.
    stand_in(context, node, ours, |inputs| {
        !inputs[0].datum_type.is_tdim() && inputs.iter().skip(1).all(|axes| axes.konst.is_some())
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Least,
    Greatest,
    Product,
    LogSum,
    Sum,
    Mean,
}

#[derive(Debug)]
struct Values {
    of: Of,
    /// Where they are no input.
    axes: Option<Vec<i64>>,
    keeps_axes: bool,
    /// Without axes nothing is compared; else all is.
    keeps_all_without_axes: bool,
}

impl Values {
    /// The axes in their order. `given` is the input of axes.
    fn axes(&self, given: Option<&Tensor>, rank: usize) -> TractResult<Vec<usize>> {
        let given = given.map(integers).transpose()?.or_else(|| self.axes.clone()).unwrap_or_default();
        if given.is_empty() {
            return Ok(if self.keeps_all_without_axes { vec![] } else { (0..rank).collect() });
        }
        let mut axes = given.into_iter().map(|axis| axis_of(axis, rank)).collect::<TractResult<Vec<_>>>()?;
        axes.sort_unstable();
        ensure!(axes.windows(2).all(|pair| pair[0] < pair[1]), "an axis comes twice");
        Ok(axes)
    }
}

impl Kernel for Values {
    fn name(&self) -> &'static str {
        match self.of {
            Of::Least => "ReduceMin",
            Of::Greatest => "ReduceMax",
            Of::Product => "ReduceProd",
            Of::LogSum => "ReduceLogSumExp",
            Of::Sum => "ReduceSum",
            Of::Mean => "ReduceMean",
        }
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(if given.is_tdim() { i64::datum_type() } else { given })
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ([input] | [input, _]) = inputs else { bail!("{} inputs instead of 1 or 2", inputs.len()) };
        let dt = input.datum_type;
        let takes = match self.of {
            Of::Least | Of::Greatest => is_number(dt) || dt == bool::datum_type(),
            Of::Product => is_number(dt),
            Of::LogSum => dt.is_float(),
            Of::Sum | Of::Mean => dt.is_integer(),
        };
        ensure!(takes, "an input of {dt:?}");
        let axes = inputs.get(1).and_then(|axes| axes.konst.as_deref());
        let axes = self.axes(axes, input.rank())?;
        Ok(tvec![input.datum_type.fact(without(&axes, &input.shape.to_tvec(), self.keeps_axes))])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let mut axes = self.axes(inputs.get(1).map(|axes| &**axes), input.rank())?;
        let shape = without(&axes, &TVec::from_slice(input.shape()), self.keeps_axes);
        let count = axes.iter().map(|axis| input.shape()[*axis]).product();
        // Adjacent axes are one. From the last, as those before keep their place then.
        let mut result = input.clone().into_tensor();
        while let Some(last) = axes.pop() {
            let mut first = last;
            while axes.last().is_some_and(|axis| axis + 1 == first) {
                first -= 1;
                axes.pop();
            }
            let along = Along::axes(result.shape(), first, last);
            let kept = (first..=last).collect::<Vec<_>>();
            let shape = without(&kept, &TVec::from_slice(result.shape()), true);
            result = match input.datum_type() {
                DatumType::Bool => reduced::<bool>(self.of, along, &result, &shape)?,
                dt => for_type!(dt, reduced(self.of, along, &result, &shape))?,
            };
        }
        if self.of == Of::Mean {
            divide(&mut result, count)?;
        }
        Ok(tvec![result.into_shape(&shape)?])
    }
}

/// Makes means of sums of so many integers, rounded towards 0.
fn divide(sums: &mut Tensor, count: usize) -> TractResult<()> {
    let (datum_type, mut view) = (sums.datum_type(), sums.try_as_plain_ram_mut()?);
    macro_rules! divide {
        ($type:ty) => {
            view.as_slice_mut::<$type>()?.iter_mut().for_each(|sum| *sum = sum.checked_div(count as $type).unwrap_or(0))
        };
    }
    match datum_type {
        DatumType::I64 => divide!(i64),
        DatumType::U64 => divide!(u64),
        DatumType::U32 => divide!(u32),
        other => bail!("ReduceMean of {other:?}"),
    }
    Ok(())
}

/// The shape with axes of length 1 in place of `axes`, or without them.
fn without<D: Clone + From<usize>>(axes: &[usize], shape: &TVec<D>, keeps_axes: bool) -> TVec<D> {
    let dims = shape.iter().enumerate().filter(|(axis, _)| keeps_axes || !axes.contains(axis));
    dims.map(|(axis, dim)| if axes.contains(&axis) { D::from(1) } else { dim.clone() }).collect()
}

/// What can be reduced, with what comes of nothing.
trait Element: Datum + Copy + PartialOrd {
    const LEAST: Self;
    const GREATEST: Self;
    const ONE: Self;
    const ZERO: Self;

    fn plus(self, other: Self) -> Self;

    fn times(self, other: Self) -> Self;

    /// The logarithm of the sum of what these are the logarithms of; of floats alone.
    fn log_add(self, other: Self) -> Self;
}

macro_rules! elements {
    ($least:expr, $greatest:expr, $one:expr, $zero:expr, $plus:expr, $times:expr, $log_add:expr; $($type:ty),*) => {
        $(impl Element for $type {
            const LEAST: Self = $least;
            const GREATEST: Self = $greatest;
            const ONE: Self = $one;
            const ZERO: Self = $zero;

            fn plus(self, other: Self) -> Self {
                $plus(self, other)
            }

            fn times(self, other: Self) -> Self {
                $times(self, other)
            }

            fn log_add(self, other: Self) -> Self {
                $log_add(self, other)
            }
        })*
    };
}

/// Infinities, and a half each, have no difference.
macro_rules! log_add {
    ($float:ty) => {
        |a: $float, b: $float| if a == b { a + <$float>::ln(2.0) } else { a.max(b) + (-(a - b).abs()).exp().ln_1p() }
    };
}

elements!(Self::MIN, Self::MAX, 1, 0, Self::wrapping_add, Self::wrapping_mul, |a, _| a; u8, u16, u32, u64, i8, i16, i32, i64);
elements!(Self::NEG_INFINITY, Self::INFINITY, 1.0, 0.0, |a, b| a + b, |a, b| a * b, log_add!(f32); f32);
elements!(Self::NEG_INFINITY, Self::INFINITY, 1.0, 0.0, |a, b| a + b, |a, b| a * b, log_add!(f64); f64);
elements!(Self::NEG_INFINITY, Self::INFINITY, Self::ONE, Self::ZERO, |a, b| a + b, |a, b| a * b, |a: f16, b: f16| {
    f16::from_f32(log_add!(f32)(a.to_f32(), b.to_f32()))
}; f16);
elements!(false, true, true, false, |a, b| a | b, |a, b| a & b, |a, _| a; bool);

fn reduced<T: Element>(of: Of, along: Along, input: &Tensor, shape: &[usize]) -> TractResult<Tensor> {
    let view = input.try_as_plain_ram()?;
    let elements = view.as_slice::<T>()?;
    let (mut found, of_nothing) = match of {
        Of::Least => (folded(elements, along, |held, new| if new < held { new } else { held }), T::GREATEST),
        Of::Greatest => (folded(elements, along, |held, new| if new > held { new } else { held }), T::LEAST),
        Of::Product => (folded(elements, along, T::times), T::ONE),
        Of::LogSum => (folded(elements, along, T::log_add), T::LEAST),
        Of::Sum | Of::Mean => (folded(elements, along, T::plus), T::ZERO),
    };
    found.resize(shape.iter().product(), of_nothing);
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, found)?.into())
}

/// What `fold` makes of each group, slice by slice.
fn folded<T: Copy>(elements: &[T], along: Along, fold: impl Fn(T, T) -> T + Copy) -> Vec<T> {
    let further = |held: &mut [T], slice: &[T]| {
        held.iter_mut().zip(slice).for_each(|(held, new)| *held = fold(*held, *new));
    };
    let mut found = vec![];
    along.for_each_group(elements, |group| match along.inner {
        1 => {
            let (chunks, rest) = group.as_chunks::<LANES>();
            let lanes = chunks.split_first().map(|(first, others)| {
                let mut lanes = *first;
                others.iter().for_each(|chunk| further(&mut lanes, chunk));
                lanes
            });
            let all = lanes.iter().flatten().chain(rest).copied();
            found.extend(all.reduce(fold));
        }
        inner => {
            let (first, others) = group.split_at(inner);
            let begin = found.len();
            found.extend_from_slice(first);
            others.chunks_exact(inner).for_each(|slice| further(&mut found[begin..], slice));
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run, run_known, shapes_for_any_rows};
    use super::*;

    fn reduced(op_type: &str, axes: &[i64], keeps: i64, input: Tensor) -> TractResult<Tensor> {
        let node = Node::new(op_type).int("keepdims", keeps);
        let node = if axes.is_empty() { node } else { node.ints("axes", axes) };
        Ok(run(node, &[input], 1)?.remove(0))
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn sums_and_means_of_integers_have_all_their_bits() {
        let x = || tensor2(&[[3i64 << 40, 1 << 41], [-(1 << 50), 7]]);
        let sum = |axes: &[i64]| {
            let node = Node::new("ReduceSum").int("keepdims", 0);
            run_known(node, &[x()], &[tensor1(axes)], 1).unwrap().remove(0)
        };
        assert_eq!(sum(&[1]), tensor1(&[5i64 << 40, 7 - (1 << 50)]));
        assert_eq!(sum(&[-2]), tensor1(&[(3i64 << 40) - (1 << 50), (1 << 41) + 7]));
        assert_eq!(sum(&[0, 1]), tensor0((5i64 << 40) + 7 - (1 << 50)));
        assert_eq!(reduced("ReduceMean", &[1], 1, x()).unwrap(), tensor2(&[[5i64 << 39], [-562_949_953_421_308]]));
        let wide = tensor1(&[u32::MAX - 1, 1]);
        assert_eq!(run(Node::new("ReduceSum").int("keepdims", 0), &[wide], 1).unwrap(), [tensor0(u32::MAX)]);
        let nothing = Tensor::zero::<i64>(&[2, 0]).unwrap();
        assert_eq!(
            run_known(Node::new("ReduceSum"), &[nothing], &[tensor1(&[1i64])], 1).unwrap(),
            [tensor2(&[[0i64], [0]])]
        );
    }

    /// 0 to 23, each at another place than its own: no axis is sorted.
    fn cube() -> Tensor {
        tensor1(&(0..24).map(|i| i * 7 % 24).collect::<Vec<i64>>()).into_shape(&[2, 3, 4]).unwrap()
    }

    /// Expected values are NumPy's.
    #[test]
    fn any_axes_are_reduced() {
        assert_eq!(reduced("ReduceMax", &[2], 0, cube()).unwrap(), tensor2(&[[21i64, 18, 22], [19, 23, 20]]));
        assert_eq!(reduced("ReduceMin", &[-2], 0, cube()).unwrap(), tensor2(&[[0i64, 7, 14, 1], [12, 3, 2, 9]]));
        assert_eq!(reduced("ReduceMax", &[2, 0], 0, cube()).unwrap(), tensor1(&[21i64, 23, 22]));
        assert_eq!(reduced("ReduceMin", &[0, 1], 0, cube()).unwrap(), tensor1(&[0i64, 3, 2, 1]));
        assert_eq!(reduced("ReduceMax", &[], 0, cube()).unwrap(), tensor0(23i64));
        assert_eq!(reduced("ReduceMin", &[], 1, cube()).unwrap(), tensor3(&[[[0i64]]]));
    }

    #[test]
    fn logarithms_of_sums_stay_in_range() {
        let sum =
            |row: &[f32]| reduced("ReduceLogSumExp", &[0], 0, tensor1(row)).unwrap().cast_to_scalar::<f32>().unwrap();
        assert_eq!((sum(&[-200.0, -210.0, -300.0]), sum(&[200.0, 0.0, 1.0])), (-199.999_95, 200.0));
        assert!((sum(&[0.0, 1.0, 2.0, 3.0]) - 3.440_189_7).abs() < 1e-6);
        let infinite = [f32::NEG_INFINITY; 3];
        assert_eq!((sum(&infinite), sum(&[f32::INFINITY, 1.0])), (f32::NEG_INFINITY, f32::INFINITY));
        assert!(sum(&[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn a_long_row_is_searched_to_its_end() {
        for at in [0, 15, 16, 17, 99] {
            let row: Vec<f32> = (0..100).map(|place| if place == at { 7.0 } else { -(place as f32) }).collect();
            assert_eq!(reduced("ReduceMax", &[0], 0, tensor1(&row)).unwrap(), tensor0(7f32));
        }
    }

    #[test]
    fn the_extremes_of_nothing_are_the_ends_of_the_range() {
        let none = |op_type, input: Tensor| reduced(op_type, &[1], 0, input).unwrap();
        let floats = || Tensor::zero::<f32>(&[2, 0]).unwrap();
        assert_eq!(none("ReduceMax", floats()), tensor1(&[f32::NEG_INFINITY; 2]));
        assert_eq!(none("ReduceMin", floats()), tensor1(&[f32::INFINITY; 2]));
        assert_eq!(none("ReduceMin", Tensor::zero::<i64>(&[1, 0]).unwrap()), tensor1(&[i64::MAX]));
        assert_eq!(none("ReduceMax", Tensor::zero::<f32>(&[0, 2]).unwrap()).shape(), [0]);
        assert_eq!(none("ReduceMin", Tensor::from_shape::<bool>(&[1, 0], &[]).unwrap()), tensor1(&[true]));
    }

    #[test]
    fn products_of_any_length_and_of_nothing_are_whole() {
        let twos = |count: usize| reduced("ReduceProd", &[0], 0, tensor1(&vec![2f32; count])).unwrap();
        for count in [0, 1, 15, 16, 17, 40] {
            assert_eq!(twos(count), tensor0(2f32.powi(count as i32)), "{count}");
        }
        let columns = reduced("ReduceProd", &[0], 1, tensor2(&[[2i32, 3], [i32::MAX, 5]])).unwrap();
        assert_eq!(columns, tensor2(&[[-2i32, 15]]));
        assert!(reduced("ReduceProd", &[0], 0, tensor1(&[true])).is_err());
    }

    #[test]
    fn true_is_greater_than_false() {
        let rows = || tensor2(&[[true, false], [true, true]]);
        assert_eq!(reduced("ReduceMax", &[1], 0, rows()).unwrap(), tensor1(&[true, true]));
        assert_eq!(reduced("ReduceMin", &[1], 0, rows()).unwrap(), tensor1(&[false, true]));
    }

    #[test]
    fn a_row_in_is_a_row_out() {
        let node = Node::new("ReduceMax").ints("axes", &[1]).int("keepdims", 0);
        assert_eq!(shapes_for_any_rows(node, &[tensor2(&[[1f32, 2.0]])], 1).unwrap(), ["N"]);
    }

    #[test]
    fn axes_that_do_not_fit_are_refused() {
        assert!(reduced("ReduceMax", &[3], 0, cube()).is_err());
        assert!(reduced("ReduceMax", &[1, 1], 0, cube()).is_err());
        assert!(run_known(Node::new("ReduceMax"), &[cube()], &[tensor1(&[0i64])], 1).is_err());
    }
}
