//! `ai.onnx.BatchNormalization` (version 15) in training mode, which takes mean and variance from the batch itself, and with
//! parameters that the file doesn't fix. All else is tract's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::stand_in::stand_in;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let trains = node.get_attr_opt::<i64>("training_mode")?.unwrap_or(0) != 0;
    let ours = BatchNormalization {
        epsilon: node.get_attr_opt("epsilon")?.unwrap_or(1e-5),
        momentum: node.get_attr_opt("momentum")?.unwrap_or(0.9),
        trains,
    };
    if trains {
        return built(node, ours);
    }
    stand_in(context, node, ours, |inputs| inputs.iter().skip(1).any(|input| input.konst.is_none()))
}

/// Inputs: X `[N, C, ..]`, and scale, B, mean and variance `[C]`. Outputs: Y as X, and in training mode the running mean and
/// variance.
#[derive(Debug)]
struct BatchNormalization {
    epsilon: f32,
    /// How much of the running mean and variance stays.
    momentum: f32,
    trains: bool,
}

impl Kernel for BatchNormalization {
    fn name(&self) -> &'static str {
        "BatchNormalization"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [x, parameters @ ..] = exactly::<5>(inputs)?;
        ensure!(x.rank() >= 2, "BatchNormalization of {} axes", x.rank());
        for input in parameters {
            let fits = input.rank() == 1 && input.shape[0].compatible_with(&x.shape[1]);
            ensure!(fits, "{} channels and a parameter {:?}", x.shape[1], input.shape);
        }
        ensure!(inputs.iter().all(|input| input.datum_type == x.datum_type), "BatchNormalization of mixed types");
        ensure!(x.datum_type.is_float(), "BatchNormalization of {:?}", x.datum_type);
        let outputs = [x, inputs[3], inputs[4]].map(TypedFact::without_value);
        Ok(outputs.into_iter().take(if self.trains { 3 } else { 1 }).collect())
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let dt = inputs[0].datum_type();
        let shape = inputs[0].shape();
        let (channels, inner) = (shape[1], shape[2..].iter().product::<usize>());
        let fits = inputs[1..].iter().all(|input| input.len() == channels);
        ensure!(fits, "{channels} channels, and a parameter for another number");
        let mut x = inputs[0].cast_to::<f64>()?.into_owned();
        let mut view = x.try_as_plain_ram_mut()?;
        let values = view.as_slice_mut::<f64>()?;
        let [scale, bias, mean, variance] = [1, 2, 3, 4].map(|input| doubles(&inputs[input]));
        let (scale, bias, mut mean, mut variance) = (scale?, bias?, mean?, variance?);
        let given = (mean.clone(), variance.clone());
        for channel in 0..channels {
            if self.trains {
                (mean[channel], variance[channel]) = moments(channel_of(values, channel, channels, inner));
            }
            let slope = scale[channel] / (variance[channel] + f64::from(self.epsilon)).sqrt();
            for slice in values.chunks_exact_mut(inner.max(1)).skip(channel).step_by(channels) {
                slice.iter_mut().for_each(|x| *x = (*x - mean[channel]) * slope + bias[channel]);
            }
        }
        let mut outputs = tvec![x.cast_to_dt(dt)?.into_owned()];
        if self.trains {
            let kept = f64::from(self.momentum);
            for (given, of_batch) in [(given.0, mean), (given.1, variance)] {
                let running = given.iter().zip(of_batch).map(|(given, new)| given * kept + new * (1.0 - kept));
                outputs.push(tensor1(&running.collect::<Vec<f64>>()).cast_to_dt(dt)?.into_owned());
            }
        }
        Ok(outputs)
    }
}

fn doubles(tensor: &Tensor) -> TractResult<Vec<f64>> {
    Ok(tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// The values of a channel, slice by slice.
fn channel_of(values: &[f64], channel: usize, channels: usize, inner: usize) -> impl Iterator<Item = f64> + Clone {
    values.chunks_exact(inner.max(1)).skip(channel).step_by(channels).flatten().copied()
}

/// Mean and variance, of the values alone and not of what they are drawn from.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, assert_close, run};
    use super::*;

    fn inputs() -> [Tensor; 5] {
        let x = tensor1(&[1f32, 2.0, 3.0, -4.0, 5.0, 6.0, 0.5, 8.0]).into_shape(&[2, 2, 2]).unwrap();
        let of = |values: [f32; 2]| tensor1(&values);
        [x, of([1.0, 2.0]), of([0.5, -0.5]), of([1.0, -1.0]), of([4.0, 0.25])]
    }

    /// Expected values are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn parameters_may_come_with_the_request() {
        let y = run(Node::new("BatchNormalization"), &inputs(), 1).unwrap();
        assert_close(&y[0], &[0.5, 0.999999, 15.49968, -12.49976, 2.499998, 2.999997, 5.49988, 35.49928]);
    }

    #[test]
    fn in_training_the_batch_gives_mean_and_variance() {
        let node = Node::new("BatchNormalization").int("training_mode", 1).float("momentum", 0.75);
        let y = run(node, &inputs(), 3).unwrap();
        assert_close(&y[0], &[-0.712677, -0.227606, 0.018967, -3.21016, 1.227606, 1.712677, -1.134293, 2.325486]);
        assert_close(&y[1], &[1.625, -0.28125]);
        assert_close(&y[2], &[4.0625, 4.886719]);
    }

    #[test]
    fn parameters_for_other_channels_are_refused() {
        let mut inputs = inputs();
        inputs[3] = tensor1(&[1f32]);
        assert!(run(Node::new("BatchNormalization"), &inputs, 1).is_err());
    }
}
