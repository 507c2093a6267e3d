//! `ai.onnx.GlobalLpPool` (version 22): the p-norm of each channel's image.
//!
//! In place of tract's, which divides by the number of places and takes no absolute values (`ops/nn/global_pools.rs` of tract-hir).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

/// Highest power.
const MAX_POWER: i64 = 64;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let power = node.get_attr_opt::<i64>("p")?.unwrap_or(2);
    ensure!((1..=MAX_POWER).contains(&power), "attribute 'p' holds {power} instead of 1 to {MAX_POWER}");
    built(node, GlobalLpPool { power: i32::try_from(power)? })
}

#[derive(Debug)]
struct GlobalLpPool {
    power: i32,
}

impl Kernel for GlobalLpPool {
    fn name(&self) -> &'static str {
        "GlobalLpPool"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        ensure!(input.rank() > 2, "an input of {} axes instead of rows, channels and an image", input.rank());
        let is_float = matches!(input.datum_type, DatumType::F32 | DatumType::F64);
        ensure!(is_float, "an input of {:?} instead of a float", input.datum_type);
        let mut shape = input.shape.to_tvec();
        shape[2..].fill(1.to_dim());
        Ok(tvec![input.datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let x = &inputs[0];
        let mut shape = TVec::from_slice(x.shape());
        let places = shape[2..].iter().product();
        shape[2..].fill(1);
        let view = x.try_as_plain_ram()?;
        let power = self.power;
        macro_rules! norms {
            ($type:ty) => {
                norms(view.as_slice::<$type>()?, places, &shape, |image: &[$type]| match power {
                    1 => image.iter().map(|x| x.abs()).sum(),
                    2 => image.iter().map(|x| x * x).sum::<$type>().sqrt(),
                    _ => image.iter().map(|x| x.abs().powi(power)).sum::<$type>().powf(1.0 / power as $type),
                })
            };
        }
        Ok(tvec![match x.datum_type() {
            DatumType::F32 => norms!(f32)?,
            DatumType::F64 => norms!(f64)?,
            other => bail!("GlobalLpPool of {other:?}"),
        }])
    }
}

fn norms<T: Datum + Default + Copy>(
    elements: &[T],
    places: usize,
    shape: &[usize],
    norm: impl Fn(&[T]) -> T,
) -> TractResult<Tensor> {
    // The norm of nothing is 0.
    let made = match places {
        0 => vec![T::default(); shape.iter().product()],
        _ => elements.chunks_exact(places).map(norm).collect::<Vec<T>>(),
    };
    tensor1(&made).into_shape(shape)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, assert_close, run, shapes_for_any_rows};
    use super::*;

    fn images() -> Tensor {
        let x: Vec<f32> = (-4..8).map(|x| x as f32 * 0.5).collect();
        tensor1(&x).into_shape(&[1, 2, 2, 3]).unwrap()
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn each_channel_has_the_norm_of_its_image() {
        let norms = |node: Node| run(node, &[images()], 1).unwrap().remove(0);
        let of_power = |power| norms(Node::new("GlobalLpPool").int("p", power));
        assert_eq!(of_power(1).shape(), [1, 2, 1, 1]);
        assert_close(&of_power(1), &NORMS[0]);
        assert_close(&of_power(2), &NORMS[1]);
        assert_close(&of_power(3), &NORMS[2]);
        assert_close(&norms(Node::new("GlobalLpPool")), &NORMS[1]);
        let doubles = images().cast_to::<f64>().unwrap().into_owned();
        let doubles = run(Node::new("GlobalLpPool").int("p", 3), &[doubles], 1).unwrap().remove(0);
        assert_close(&doubles.cast_to::<f32>().unwrap(), &NORMS[2]);
    }

    const NORMS: [[f32; 2]; 3] = [[5.5, 13.5], [2.783_882_1, 5.894_913], [2.328_504_8, 4.608_476]];

    #[test]
    fn what_has_no_image_and_other_powers_are_refused() {
        assert!(run(Node::new("GlobalLpPool"), &[tensor2(&[[1f32]])], 1).is_err());
        for power in [0, -1, 65, i64::MAX] {
            assert!(run(Node::new("GlobalLpPool").int("p", power), &[images()], 1).is_err(), "{power}");
        }
        assert_eq!(shapes_for_any_rows(Node::new("GlobalLpPool"), &[images()], 1).unwrap(), ["N,2,1,1"]);
    }
}
