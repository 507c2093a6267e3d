//! `BitCast` (ONNX 26): the same bits read as another type of the same width.

use half::f16;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let to = node.get_attr::<DatumType>("to")?;
    ensure!(is_plain(to), "attribute 'to' asks for {to:?}");
    built(node, BitCast { to })
}

/// Whether every pattern of bits is a value of the type.
fn is_plain(dt: DatumType) -> bool {
    dt.unquantized() == dt && (dt.is_integer() || dt.is_float())
}

#[derive(Debug)]
struct BitCast {
    to: DatumType,
}

impl Kernel for BitCast {
    fn name(&self) -> &'static str {
        "BitCast"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let from = input.datum_type;
        let fits = from == TDim::datum_type() && self.to.size_of() == 8
            || (is_plain(from) || from == DatumType::Bool) && from.size_of() == self.to.size_of();
        ensure!(fits, "bits of {from:?} as {:?}", self.to);
        Ok(tvec!(self.to.fact(input.shape.clone())))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        // tract may keep INT64 as a type of its own.
        let input = match inputs[0].datum_type() == TDim::datum_type() {
            true => inputs[0].cast_to::<i64>()?,
            false => Cow::Borrowed(&*inputs[0]),
        };
        input.try_as_plain_ram()?;
        macro_rules! read {
            ($($dt:pat => $t:ty),*) => {
                match self.to {
                    $($dt => read(input.as_bytes(), input.shape(), <$t>::from_ne_bytes)?,)*
                    other => bail!("bits as {other:?}"),
                }
            };
        }
        Ok(tvec!(read!(
            DatumType::U8 => u8, DatumType::U16 => u16, DatumType::U32 => u32, DatumType::U64 => u64,
            DatumType::I8 => i8, DatumType::I16 => i16, DatumType::I32 => i32, DatumType::I64 => i64,
            DatumType::F16 => f16, DatumType::F32 => f32, DatumType::F64 => f64
        )))
    }
}

/// A tensor of the elements that lie in these bytes.
fn read<T: Datum, const N: usize>(bytes: &[u8], shape: &[usize], element: fn([u8; N]) -> T) -> TractResult<Tensor> {
    let (elements, _) = bytes.as_chunks::<N>();
    let elements = elements.iter().map(|bytes| element(*bytes)).collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, elements)?.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn bits_stay_and_widths_must_agree() {
        let cast = |to: i64, x: Tensor| run(Node::new("BitCast").int("to", to), &[x], 1);
        assert_eq!(cast(6, tensor1(&[1.0f32, -0.0])).unwrap(), [tensor1(&[0x3f80_0000i32, i32::MIN])]);
        assert_eq!(cast(11, tensor1(&[0x3ff0_0000_0000_0000i64])).unwrap(), [tensor1(&[1.0f64])]);
        assert!(cast(7, tensor1(&[1.0f32])).is_err());
        assert!(cast(9, tensor1(&[1u8])).is_err(), "2 is no BOOL");
    }
}
