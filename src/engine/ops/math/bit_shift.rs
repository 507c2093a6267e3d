//! `BitShift` (ONNX 28, which says what 11 leaves open): a shift by a negative amount, or by the type's width or more, leaves
//! what the sign fills in. tract's own overflows there.

use std::ops::{Shl, Shr};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    match node.get_attr::<&str>("direction")? {
        "LEFT" => built(node, BitShift { left: true }),
        "RIGHT" => built(node, BitShift { left: false }),
        other => bail!("attribute 'direction' holds '{other}'"),
    }
}

#[derive(Debug)]
struct BitShift {
    left: bool,
}

impl BitShift {
    fn shift<T>(&self, inputs: &[TValue]) -> TractResult<Tensor>
    where
        T: Datum + Copy + Default + TryInto<u32> + Shl<u32, Output = T> + Shr<u32, Output = T>,
    {
        let (x, amount) = (inputs[0].to_plain_array_view::<T>()?, inputs[1].to_plain_array_view::<T>()?);
        let shape = multi_broadcast(&[inputs[0].shape(), inputs[1].shape()])?;
        let (x, amount) = (x.broadcast(&*shape), amount.broadcast(&*shape));
        let (x, amount) = (x.context("the value's shape")?, amount.context("the amount's shape")?);
        let width = 8 * size_of::<T>() as u32;
        let fills = !self.left && T::datum_type().is_signed();
        let shifted = |x: &T, amount: &T| match (*amount).try_into() {
            Ok(amount) if amount < width && self.left => *x << amount,
            Ok(amount) if amount < width => *x >> amount,
            _ if fills => *x >> (width - 1),
            _ => T::default(),
        };
        Ok(tract_ndarray::Zip::from(x).and(amount).map_collect(shifted).into())
    }
}

impl Kernel for BitShift {
    fn name(&self) -> &'static str {
        "BitShift"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [x, amount] = exactly(inputs)?;
        ensure!(x.datum_type == amount.datum_type, "{:?} shifted by {:?}", x.datum_type, amount.datum_type);
        ensure!(x.datum_type.is_integer(), "{:?} is no integer", x.datum_type);
        Ok(tvec!(x.datum_type.fact(multi_broadcast(&[&*x.shape, &*amount.shape])?)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shifted = match inputs[0].datum_type() {
            DatumType::U8 => self.shift::<u8>(inputs),
            DatumType::U16 => self.shift::<u16>(inputs),
            DatumType::U32 => self.shift::<u32>(inputs),
            DatumType::U64 => self.shift::<u64>(inputs),
            DatumType::I8 => self.shift::<i8>(inputs),
            DatumType::I16 => self.shift::<i16>(inputs),
            DatumType::I32 => self.shift::<i32>(inputs),
            DatumType::I64 => self.shift::<i64>(inputs),
            other => bail!("{other:?} can't be shifted"),
        };
        Ok(tvec!(shifted?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn shifted(direction: &str, x: Tensor, amount: Tensor) -> TractResult<Vec<Tensor>> {
        run(Node::new("BitShift").text("direction", direction), &[x, amount], 1)
    }

    #[test]
    fn bits_go_left_and_right_and_amounts_are_broadcast() {
        // ONNX's node tests bitshift_left_uint8 and bitshift_right_uint8
        let (x, amount) = (|| tensor1(&[16u8, 4, 1]), || tensor1(&[1u8, 2, 3]));
        assert_eq!(shifted("LEFT", x(), amount()).unwrap(), [tensor1(&[32u8, 16, 8])]);
        assert_eq!(shifted("RIGHT", x(), amount()).unwrap(), [tensor1(&[8u8, 1, 0])]);
        let by_one = shifted("LEFT", tensor2(&[[1u64, 2], [3, 1 << 63]]), tensor0(1u64)).unwrap();
        assert_eq!(by_one, [tensor2(&[[2u64, 4], [6, 0]])]);
    }

    #[test]
    fn a_shift_by_the_width_or_more_gives_nothing() {
        assert_eq!(shifted("LEFT", tensor1(&[255u8, 255]), tensor1(&[8u8, 255])).unwrap(), [tensor1(&[0u8, 0])]);
        let far = tensor1(&[1u64 << 40]);
        assert_eq!(shifted("RIGHT", tensor1(&[u64::MAX]), far).unwrap(), [tensor1(&[0u64])]);
    }

    #[test]
    fn the_sign_fills_in() {
        // ONNX's node tests bitshift_right_int8_shift_ge_width and bitshift_left_int8_negative_shift, here of 32 bits
        let x = || tensor1(&[-8i32, 4, -1]);
        assert_eq!(shifted("RIGHT", x(), tensor1(&[32i32, -1, 127])).unwrap(), [tensor1(&[-1i32, 0, -1])]);
        assert_eq!(shifted("LEFT", x(), tensor1(&[-1i32, 33, 31])).unwrap(), [tensor1(&[0i32, 0, i32::MIN])]);
    }

    #[test]
    fn another_direction_and_what_is_no_integer_are_refused() {
        assert!(shifted("UP", tensor1(&[1u8]), tensor1(&[1u8])).is_err());
        assert!(shifted("LEFT", tensor1(&[1.0f32]), tensor1(&[1.0f32])).is_err());
    }
}
