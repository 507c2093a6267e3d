//! `ai.onnx.ScatterND` (version 18): a tensor in which the elements or slices at the places that rows of indices name are
//! replaced by others, or joined with them.
//!
//! In place of tract's, which takes no negative index and panics at one that is out of range where it joins.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::{exactly, hangs_on_symbols, integers, plain};
use super::kernel::Kernel;
use super::nd_places::block;
use super::stand_in::stand_in;
use super::unfit::unfit;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let how = match node.get_attr_opt::<&str>("reduction")?.unwrap_or("none") {
        "none" => How::Replace,
        "add" => How::Add,
        "mul" => How::Mul,
        "min" => How::Min,
        "max" => How::Max,
        other => bail!("attribute 'reduction' holds {other}"),
    };
    stand_in(context, node, ScatterNd { how }, |inputs| !inputs.iter().any(hangs_on_symbols))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Replace,
    Add,
    Mul,
    Min,
    Max,
}

#[derive(Debug)]
struct ScatterNd {
    how: How,
}

impl ScatterNd {
    /// # Errors
    /// `Unfit` for shapes that don't go together.
    fn check(data: &[usize], indices: &[usize], updates: &[usize]) -> TractResult<()> {
        let split = indices.split_last().filter(|(named, _)| **named <= data.len());
        let expected = split.map(|(&named, rows)| [rows, &data[named..]].concat());
        if expected.is_none_or(|expected| expected != updates) {
            return Err(unfit(format!("ScatterND of updates of {updates:?} by indices of {indices:?} into {data:?}")));
        }
        Ok(())
    }

    fn replace<T: Datum>(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        scatter::<T>(inputs, |held, update| held.clone_from(update))
    }
}

impl Kernel for ScatterNd {
    fn name(&self) -> &'static str {
        "ScatterND"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [data, indices, updates] = exactly(inputs)?;
        let (to, of) = (data.datum_type, updates.datum_type);
        ensure!(to == of, "ScatterND of updates of {of:?} into {to:?}");
        ensure!(self.how == How::Replace || to.is_number(), "ScatterND joins {to:?}, no numbers, by '{:?}'", self.how);
        let named = indices.shape.last().context("ScatterND of indices without axes")?;
        ensure!(
            named.to_usize().map_or(true, |named| named <= data.rank()),
            "ScatterND of {} axes by rows of {named} indices",
            data.rank()
        );
        Ok(tvec![data.without_value()])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shapes = [&inputs[0], &inputs[1], &inputs[2]].map(|input| input.shape());
        Self::check(shapes[0], shapes[1], shapes[2])?;
        let datum_type = inputs[0].datum_type();
        macro_rules! joined {
            ($type:ty, $add:expr, $mul:expr) => {{
                let join: fn($type, $type) -> $type = match self.how {
                    How::Replace => |_, update| update,
                    How::Add => $add,
                    How::Mul => $mul,
                    How::Min => |held, update| if update < held { update } else { held },
                    How::Max => |held, update| if update > held { update } else { held },
                };
                scatter::<$type>(inputs, |held, update| *held = join(*held, *update))
            }};
        }
        macro_rules! whole {
            ($type:ty) => {
                joined!($type, <$type>::wrapping_add, <$type>::wrapping_mul)
            };
        }
        Ok(tvec![match (self.how, datum_type) {
            (How::Replace, _) => dispatch_datum!(Self::replace(datum_type)(self, inputs)),
            (_, DatumType::F32) => joined!(f32, |a, b| a + b, |a, b| a * b),
            (_, DatumType::F64) => joined!(f64, |a, b| a + b, |a, b| a * b),
            (_, DatumType::I8) => whole!(i8),
            (_, DatumType::I16) => whole!(i16),
            (_, DatumType::I32) => whole!(i32),
            (_, DatumType::I64) => whole!(i64),
            (_, DatumType::U8) => whole!(u8),
            (_, DatumType::U16) => whole!(u16),
            (_, DatumType::U32) => whole!(u32),
            (_, DatumType::U64) => whole!(u64),
            (how, other) => bail!("ScatterND joins no {other:?} by {how:?}"),
        }?])
    }
}

/// The first input with `join` done for each element that the others name, in their order.
fn scatter<T: Datum>(inputs: &[TValue], join: impl Fn(&mut T, &T)) -> TractResult<Tensor> {
    let (data, indices, updates) = (&inputs[0], &inputs[1], &inputs[2]);
    let named = indices.shape()[indices.rank() - 1];
    let size: usize = data.shape()[named..].iter().product();
    let rows: usize = indices.shape()[..indices.rank() - 1].iter().product();
    let places = integers(indices)?;
    let mut made = data.clone().into_tensor();
    let mut view = made.try_as_plain_ram_mut()?;
    let (held, updates) = (view.as_slice_mut::<T>()?, updates.try_as_plain_ram()?);
    let updates = updates.as_slice::<T>()?;
    for row in 0..rows {
        let start = block("ScatterND", &places[row * named..][..named], data.shape())? * size;
        let to = &mut held[start..start + size];
        to.iter_mut().zip(&updates[row * size..][..size]).for_each(|(held, update)| join(held, update));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::testing::{Node, run, run_known};
    use super::*;

    fn table() -> Tensor {
        tensor2(&[[0f32, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
    }

    fn scattered(reduction: &str, data: Tensor, indices: Tensor, updates: Tensor) -> TractResult<Tensor> {
        let node = || Node::new("ScatterND").text("reduction", reduction);
        let known = run_known(node(), std::slice::from_ref(&data), &[indices.clone(), updates.clone()], 1);
        let given = run(node(), &[data, indices, updates], 1);
        assert_eq!(known.is_ok(), given.is_ok(), "{known:?} and {given:?}");
        let given = given?.remove(0);
        assert_eq!(known?, std::slice::from_ref(&given));
        Ok(given)
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn negative_indices_count_from_the_end() {
        let of_table = |indices, updates| scattered("none", table(), indices, updates).unwrap();
        assert_eq!(
            of_table(tensor2(&[[0i64, 1], [-1, -2]]), tensor1(&[9f32, 8.0])),
            tensor2(&[[0f32, 9.0, 2.0, 3.0], [4.0, 5.0, 8.0, 7.0]])
        );
        let row = tensor2(&[[9f32, 8.0, 7.0, 6.0]]);
        assert_eq!(of_table(tensor2(&[[-1i64]]), row), tensor2(&[[0f32, 1.0, 2.0, 3.0], [9.0, 8.0, 7.0, 6.0]]));
        let texts = tensor1(&["a".to_owned(), "b".to_owned()]);
        let put = [texts, tensor2(&[[-1i64]]), tensor1(&["z".to_owned()])];
        assert_eq!(run(Node::new("ScatterND"), &put, 1).unwrap(), [tensor1(&["a".to_owned(), "z".to_owned()])]);
    }

    #[test]
    fn what_is_there_is_joined_with_what_comes() {
        let joined = |reduction| {
            let indices = tensor2(&[[-1i64], [0], [-1]]);
            scattered(reduction, tensor1(&[3i64, 4, 5]), indices, tensor1(&[7i64, -2, 4])).unwrap()
        };
        assert_eq!(joined("none"), tensor1(&[-2i64, 4, 4]));
        assert_eq!(joined("add"), tensor1(&[1i64, 4, 16]));
        assert_eq!(joined("mul"), tensor1(&[-6i64, 4, 140]));
        assert_eq!(joined("min"), tensor1(&[-2i64, 4, 4]));
        assert_eq!(joined("max"), tensor1(&[3i64, 4, 7]));
        let floats = scattered("add", table(), tensor2(&[[-1i64, -1]]), tensor1(&[0.5f32])).unwrap();
        assert_eq!(floats, tensor2(&[[0f32, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.5]]));
    }

    #[test]
    fn an_index_out_of_range_is_the_requests_fault() {
        for reduction in ["none", "add"] {
            for index in [2i64, -3, i64::MAX, i64::MIN] {
                let inputs = [table(), tensor2(&[[index, 0]]), tensor1(&[1f32])];
                let error = run(Node::new("ScatterND").text("reduction", reduction), &inputs, 1).unwrap_err();
                assert!(is_unfit(&error), "{error:#}");
                assert!(format!("{error:#}").contains(&format!("index {index} along an axis of 2")), "{error:#}");
            }
        }
        assert!(scattered("none", table(), tensor2(&[[0i64, 0, 0]]), tensor1(&[1f32])).is_err());
        assert!(scattered("none", table(), tensor2(&[[0i64, 0]]), tensor1(&[1f32, 2.0])).is_err());
        assert!(scattered("some", table(), tensor2(&[[0i64, 0]]), tensor1(&[1f32])).is_err());
    }
}
