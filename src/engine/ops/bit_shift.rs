//! `BitShift` (ONNX 11): shifts unsigned integers; what is shifted by the type's width or more is 0.
//!
//! ONNX doesn't say what such a shift gives. ONNX Runtime leaves it to the machine, and gives 0 for the narrow types as
//! ours; tract's own overflows.

use std::ops::{Shl, Shr};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::kernel::{Kernel, broadcast_shape, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    match node.get_attr::<&str>("direction")? {
        "LEFT" => built(BitShift { left: true }),
        "RIGHT" => built(BitShift { left: false }),
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
        let shifted = |x: &T, amount: &T| match (*amount).try_into() {
            Ok(amount) if amount < width && self.left => *x << amount,
            Ok(amount) if amount < width => *x >> amount,
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
        let [x, amount] = inputs else { bail!("{} inputs instead of 2", inputs.len()) };
        ensure!(x.datum_type == amount.datum_type, "{:?} shifted by {:?}", x.datum_type, amount.datum_type);
        ensure!(x.datum_type.is_unsigned(), "{:?} is not unsigned", x.datum_type);
        Ok(tvec!(x.datum_type.fact(broadcast_shape(x, amount)?)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let shifted = match inputs[0].datum_type() {
            DatumType::U8 => self.shift::<u8>(inputs),
            DatumType::U16 => self.shift::<u16>(inputs),
            DatumType::U32 => self.shift::<u32>(inputs),
            DatumType::U64 => self.shift::<u64>(inputs),
            other => bail!("{other:?} is not unsigned"),
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
    fn another_direction_and_signed_integers_are_refused() {
        assert!(shifted("UP", tensor1(&[1u8]), tensor1(&[1u8])).is_err());
        assert!(shifted("LEFT", tensor1(&[1i32]), tensor1(&[1i32])).is_err());
    }
}
