//! `ai.onnx.ml.SVMClassifier` and `SVMRegressor` (version 1), in FP32. What ONNX leaves open is as in ONNX Runtime.

pub mod classifier;
mod coupling;
pub mod regressor;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::dense::{product, squared_distance};
use super::kernel::Facts;
use super::labels::matrix;
use super::post_transform::PostTransform;
use super::{Built, kernel, labels};

/// How alike an input `x` and a support vector `v` are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Likeness {
    /// `x . v`
    Linear,
    /// `(gamma x . v + coef0) ^ degree`
    Poly { gamma: f32, coef0: f32, degree: f32 },
    /// `exp(-gamma |x - v|^2)`
    Rbf { gamma: f32 },
    /// `tanh(gamma x . v + coef0)`
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Likeness {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let params: Vec<f32> = node.get_attr_opt_vec("kernel_params")?.unwrap_or_default();
        let [gamma, coef0, degree] = match params.as_slice() {
            [] => [0.0; 3],
            [gamma, coef0, degree] => [*gamma, *coef0, *degree],
            other => bail!("attribute 'kernel_params' has {} entries instead of 3", other.len()),
        };
        Ok(match node.get_attr_opt::<&str>("kernel_type")?.unwrap_or("LINEAR") {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Poly { gamma, coef0, degree },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            other => bail!("attribute 'kernel_type' holds '{other}'"),
        })
    }

    fn of(self, x: &[f32], vector: &[f32]) -> f32 {
        match self {
            Self::Linear => product(x, vector),
            Self::Poly { gamma, coef0, degree } => {
                let base = gamma * product(x, vector) + coef0;
                match degree {
                    2.0 => base * base,
                    3.0 => base * base * base,
                    _ => base.powf(degree),
                }
            }
            Self::Rbf { gamma } => (-gamma * squared_distance(x, vector)).exp(),
            Self::Sigmoid { gamma, coef0 } => (gamma * product(x, vector) + coef0).tanh(),
        }
    }
}

/// Vectors of the training data, or of a linear model, and how inputs are compared with them.
#[derive(Debug)]
struct Vectors {
    likeness: Likeness,
    /// `[vectors, features]`.
    values: Vec<f32>,
    count: usize,
    features: usize,
}

impl Vectors {
    /// `count` vectors from the attribute `name`.
    fn read(node: &NodeProto, name: &str, count: usize, likeness: Likeness) -> TractResult<Self> {
        let values: Vec<f32> = node.get_attr_opt_vec(name)?.unwrap_or_default();
        let entries = values.len();
        let fits = count > 0 && entries > 0 && entries % count == 0;
        ensure!(fits, "attribute '{name}' has {entries} entries for {count} vectors");
        Ok(Self { likeness, values, count, features: entries / count })
    }

    /// The rows of an input that fits.
    fn rows_of(&self, input: &Facts) -> TractResult<TDim> {
        let (rows, columns) = matrix(&input.1)?;
        let fits = columns.to_i64().map_or(true, |columns| columns == self.features as i64);
        ensure!(fits, "the vectors have {} features, the input has {columns}", self.features);
        Ok(rows)
    }

    /// For each row what `each` makes of its likeness to every vector.
    fn for_each_row(&self, input: &Tensor, mut each: impl FnMut(&[f32])) -> TractResult<usize> {
        let (rows, columns) = matrix(input.shape())?;
        ensure!(columns == self.features, "the vectors have {} features, the input has {columns}", self.features);
        let view = input.try_as_plain_ram()?;
        let mut alike = vec![0.0; self.count];
        for row in view.as_slice::<f32>()?.chunks_exact(columns) {
            for (alike, vector) in alike.iter_mut().zip(self.values.chunks_exact(columns)) {
                *alike = self.likeness.of(row, vector);
            }
            each(&alike);
        }
        Ok(rows)
    }

    fn bytes(&self) -> u64 {
        size_of_val(self.values.as_slice()) as u64
    }
}

fn floats(node: &NodeProto, name: &str) -> TractResult<Vec<f32>> {
    Ok(node.get_attr_opt_vec(name)?.unwrap_or_default())
}

fn post_transform(node: &NodeProto) -> TractResult<PostTransform> {
    PostTransform::parse(node.get_attr_opt::<&str>("post_transform")?)
}
