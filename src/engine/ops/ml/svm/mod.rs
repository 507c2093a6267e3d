//! `ai.onnx.ml.SVMClassifier` and `SVMRegressor` (version 1), in FP32. What ONNX leaves open is as in ONNX Runtime.

pub mod classifier;
mod coupling;
pub mod regressor;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::tract_linalg::routines::Func;
use tract_onnx::tract_hir::internal::*;

use super::dense::Rows;
use super::labels::matrix;
use super::post_transform::PostTransform;
use super::{Built, dense, inputs, kernel, labels};

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
}

/// Vectors of the training data, or of a linear model, and how inputs are compared with them.
#[derive(Debug)]
struct Vectors {
    likeness: Likeness,
    /// `[vectors, features]`.
    rows: Rows,
}

impl Vectors {
    /// `count` vectors from the attribute `name`.
    fn read(node: &NodeProto, name: &str, count: usize, likeness: Likeness) -> TractResult<Self> {
        let (values, width) = vectors(node, name, count)?;
        Ok(Self { likeness, rows: Rows::new(&values, width) })
    }

    fn count(&self) -> usize {
        self.rows.count
    }

    /// Those of a linear likeness, row by row.
    fn linear(values: &[f32], width: usize) -> Self {
        Self { likeness: Likeness::Linear, rows: Rows::new(values, width) }
    }

    /// The rows of an input that fits.
    fn rows_of(&self, input: &TypedFact) -> TractResult<TDim> {
        let ((rows, columns), features) = (matrix(&input.shape)?, self.rows.width);
        let fits = columns.to_i64().map_or(true, |columns| columns == features as i64);
        ensure!(fits, "the vectors have {features} features, the input has {columns}");
        Ok(rows)
    }

    /// For each row what `each` makes of its likeness to every vector.
    fn for_each_row(&self, input: &Tensor, mut each: impl FnMut(&[f32])) -> TractResult<usize> {
        let ((rows, columns), features) = (matrix(input.shape())?, self.rows.width);
        ensure!(columns == features, "the vectors have {features} features, the input has {columns}");
        let view = input.try_as_plain_ram()?;
        let x = view.as_slice::<f32>()?;
        match self.likeness {
            Likeness::Linear => self.rows.products(x, |sums| each(sums)),
            Likeness::Poly { gamma, coef0, degree } => self.rows.products(x, |sums| {
                sums.iter_mut().for_each(|sum| *sum = gamma * *sum + coef0);
                raise(sums, degree);
                each(sums);
            }),
            Likeness::Rbf { gamma } => self.rows.squared_distances(x, |sums| {
                sums.iter_mut().for_each(|sum| *sum = (-gamma * *sum).exp());
                each(sums);
            }),
            Likeness::Sigmoid { gamma, coef0 } => {
                let tanh = Func::Tanh.ew_f32()?;
                let mut done = Ok(());
                self.rows.products(x, |sums| {
                    sums.iter_mut().for_each(|sum| *sum = gamma * *sum + coef0);
                    done = tanh.run(sums);
                    each(sums);
                });
                done?;
            }
        }
        Ok(rows)
    }

    fn bytes(&self) -> u64 {
        self.rows.bytes()
    }
}

/// `count` vectors from the attribute `name`, row by row, and how many features each has.
fn vectors(node: &NodeProto, name: &str, count: usize) -> TractResult<(Vec<f32>, usize)> {
    let values = floats(node, name)?;
    let entries = values.len();
    let fits = count > 0 && entries > 0 && entries.is_multiple_of(count);
    ensure!(fits, "attribute '{name}' has {entries} entries for {count} vectors");
    Ok((values, entries / count))
}

/// Adds some vectors, row by row, each with its weight, to a sum.
fn add_weighed(sum: &mut [f64], vectors: &[f32], weights: &[f32]) {
    for (vector, weight) in vectors.chunks_exact(sum.len()).zip(weights) {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*weight));
    }
}

fn singles(doubles: &[f64]) -> Vec<f32> {
    doubles.iter().map(|x| *x as f32).collect()
}

/// To a power, in place.
fn raise(bases: &mut [f32], degree: f32) {
    match degree {
        2.0 => bases.iter_mut().for_each(|base| *base *= *base),
        3.0 => bases.iter_mut().for_each(|base| *base = *base * *base * *base),
        _ => bases.iter_mut().for_each(|base| *base = base.powf(degree)),
    }
}

fn floats(node: &NodeProto, name: &str) -> TractResult<Vec<f32>> {
    Ok(node.get_attr_opt_vec(name)?.unwrap_or_default())
}

fn post_transform(node: &NodeProto) -> TractResult<PostTransform> {
    PostTransform::parse(node.get_attr_opt::<&str>("post_transform")?)
}
