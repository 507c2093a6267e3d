//! How long a model's runs take, batch size by batch size, as the engine times them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::engine::{Model, RunError, Session};
use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor, element_count};

/// How long to measure one batch size: until `time` is over and `min_runs` are done, and never more than `max_runs`.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    pub time: Duration,
    pub min_runs: usize,
    pub max_runs: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { time: Duration::from_millis(500), min_runs: 3, max_runs: 100_000 }
    }
}

/// What one batch size takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// Rows per run; null where no batch axis is proven.
    pub rows: Option<usize>,
    pub runs: usize,
    /// Median time of a run in microseconds: inputs, graph and outputs. Null where the model could not run.
    pub median_us: Option<f64>,
    pub rows_per_s: Option<f64>,
    /// Why the model could not run; empty if it could.
    pub error: String,
}

/// Measures each batch size, or the file's own shapes once where no batch axis is proven.
pub fn measure(model: &Arc<dyn Model>, batch_sizes: &[u64], effort: Effort) -> Vec<Latency> {
    let mut session = model.clone().session();
    let signature = model.signature();
    let sizes: Vec<Option<usize>> = match signature.batch_axes() {
        Some(_) => batch_sizes.iter().map(|&rows| usize::try_from(rows).ok()).collect(),
        None => vec![None],
    };
    sizes.into_iter().map(|rows| measure_one(&mut *session, signature, rows, effort)).collect()
}

fn measure_one(session: &mut dyn Session, signature: &Signature, rows: Option<usize>, effort: Effort) -> Latency {
    match samples(session, signature, rows, effort) {
        Err(error) => Latency { rows, runs: 0, median_us: None, rows_per_s: None, error: error.to_string() },
        Ok(mut samples) => {
            samples.sort_unstable();
            let median_s = samples[samples.len() / 2].as_secs_f64();
            Latency {
                rows,
                runs: samples.len(),
                median_us: Some(median_s * 1e6),
                rows_per_s: rows.filter(|_| median_s > 0.0).map(|rows| rows as f64 / median_s),
                error: String::new(),
            }
        }
    }
}

/// At least one time, unless the model could not run.
fn samples(
    session: &mut dyn Session,
    signature: &Signature,
    rows: Option<usize>,
    effort: Effort,
) -> Result<Vec<Duration>, RunError> {
    // The first run may make a plan for its shapes, so it isn't counted. Some models can't take zeros, some no ones.
    let zeros = inputs(signature, rows, zeros);
    let inputs = match session.run(&zeros, &|| false) {
        Ok(_) => zeros,
        Err(_) => {
            let ones = inputs(signature, rows, ones);
            session.run(&ones, &|| false)?;
            ones
        }
    };
    let mut samples = vec![];
    let started = Instant::now();
    loop {
        let timing = session.run(&inputs, &|| false)?.timing;
        samples.push(timing.input + timing.infer + timing.output);
        let enough = samples.len() >= effort.min_runs && started.elapsed() >= effort.time;
        if enough || samples.len() >= effort.max_runs {
            return Ok(samples);
        }
    }
}

fn inputs(signature: &Signature, rows: Option<usize>, fill: fn(DataType, Vec<usize>) -> Tensor) -> Vec<Tensor> {
    let axes = signature.batch_axes().map(|axes| axes.inputs.as_slice()).unwrap_or_default();
    let axis_of = |input: usize| axes.get(input).copied().flatten();
    let each = |(index, spec): (usize, &TensorSpec)| fill(spec.dtype, shape(spec, axis_of(index), rows.unwrap_or(1)));
    signature.inputs.iter().enumerate().map(each).collect()
}

/// `rows` along the batch axis, 1 for every other size that varies; `[rows, 1]` for an undeclared rank.
fn shape(spec: &TensorSpec, batch_axis: Option<usize>, rows: usize) -> Vec<usize> {
    let Some(dims) = &spec.dims else { return vec![rows, 1] };
    let size = |(axis, dim): (usize, &Dim)| match dim {
        _ if batch_axis == Some(axis) => rows,
        Dim::Fixed(size) => *size,
        Dim::Named(_) | Dim::Unknown => 1,
    };
    dims.iter().enumerate().map(size).collect()
}

fn zeros(dtype: DataType, shape: Vec<usize>) -> Tensor {
    Tensor::zeros(dtype, shape)
}

fn ones(dtype: DataType, shape: Vec<usize>) -> Tensor {
    let one: &[u8] = match dtype {
        DataType::Fp16 => &half::f16::ONE.to_le_bytes(),
        DataType::Bf16 => &half::bf16::ONE.to_le_bytes(),
        DataType::Fp32 => &1f32.to_le_bytes(),
        DataType::Fp64 => &1f64.to_le_bytes(),
        // A length of one byte, and that byte.
        DataType::Bytes => &[1, 0, 0, 0, b'1'],
        DataType::Bool | DataType::Int8 | DataType::Uint8 => &[1],
        DataType::Int16 | DataType::Uint16 => &1u16.to_le_bytes(),
        DataType::Int32 | DataType::Uint32 => &1u32.to_le_bytes(),
        DataType::Int64 | DataType::Uint64 => &1u64.to_le_bytes(),
    };
    let bytes = one.repeat(element_count(&shape));
    Tensor::from_raw(dtype, shape, bytes.into()).expect("one element's bytes, as often as the shape has elements")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{RunOutput, RunTiming};
    use crate::signature::Batching;
    use crate::testing::FunctionModel;

    const SHORT: Effort = Effort { time: Duration::ZERO, min_runs: 3, max_runs: 10 };

    #[test]
    fn every_batch_size_is_run_and_the_median_is_the_engines() {
        let model = FunctionModel::identity(&[("x", DataType::Fp32, 4), ("s", DataType::Bytes, 1)]);
        let measured = measure(&model, &[1, 16], SHORT);
        let seen: Vec<_> = measured.iter().map(|latency| (latency.rows, latency.runs)).collect();
        assert_eq!(seen, [(Some(1), 3), (Some(16), 3)]);
        assert!(measured.iter().all(|latency| latency.error.is_empty() && latency.median_us.is_some()));
    }

    #[test]
    fn without_a_batch_axis_the_files_own_shapes_are_measured_once() {
        let spec = TensorSpec {
            name: "x".into(),
            dtype: DataType::Int64,
            dims: Some(vec![Dim::Fixed(3), Dim::Unknown]),
            classes: vec![],
        };
        let signature =
            Signature { inputs: vec![spec], outputs: vec![], batching: Batching::Unproven("none".to_owned()) };
        let model = FunctionModel::model(signature, |inputs| {
            assert_eq!(inputs[0].shape(), [3, 1]);
            Ok(vec![])
        });
        let measured = measure(&model, &[1, 2, 4], SHORT);
        assert_eq!((measured.len(), measured[0].rows, measured[0].runs), (1, None, 3));
    }

    #[test]
    fn a_model_that_cannot_take_zeros_is_measured_on_ones_and_a_broken_one_says_why() {
        let signature = FunctionModel::identity(&[("x", DataType::Uint8, 1)]).signature().clone();
        let refuses_zeros = FunctionModel::model(signature.clone(), |inputs| match inputs[0].data()[0] {
            0 => Err(RunError::BadInput("zero".into())),
            _ => Ok(inputs.to_vec()),
        });
        assert_eq!(measure(&refuses_zeros, &[2], SHORT)[0].runs, 3);
        let broken = FunctionModel::model(signature, |_| Err(RunError::Failed("cause".into())));
        let latency = &measure(&broken, &[2], SHORT)[0];
        assert_eq!((latency.median_us, latency.error.as_str()), (None, "cause"));
    }

    #[test]
    fn the_median_is_of_the_engines_own_times() {
        struct Scripted(Vec<u64>);
        impl Session for Scripted {
            fn run(&mut self, _: &[Tensor], _: &dyn Fn() -> bool) -> Result<RunOutput, RunError> {
                let infer = Duration::from_micros(self.0.pop().unwrap());
                Ok(RunOutput { tensors: vec![], timing: RunTiming { infer, ..RunTiming::default() } })
            }
        }
        let signature = FunctionModel::identity(&[("x", DataType::Fp32, 1)]).signature().clone();
        let latency = measure_one(&mut Scripted(vec![10, 50, 20, 999]), &signature, Some(4), SHORT);
        assert_eq!((latency.median_us, latency.rows_per_s.map(f64::round)), (Some(20.0), Some(200_000.0)));
    }
}
