//! `ai.onnx.ml.SVMRegressor`, which one-class models use too.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::kernel::{Facts, Kernel, built};
use super::labels::scores;
use super::{Built, Likeness, Vectors, floats, post_transform};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let supports = node.get_attr_opt::<i64>("n_supports")?.unwrap_or(0);
    let supports = usize::try_from(supports).ok().context("attribute 'n_supports' is negative")?;
    let offset = *floats(node, "rho")?.first().context("attribute 'rho' is missing")?;
    // ONNX Runtime reads the transform and applies none.
    post_transform(node)?;
    let (vectors, coefficients) = match supports {
        0 => (Vectors::read(node, "coefficients", 1, Likeness::Linear)?, vec![1.0]),
        _ => (Vectors::read(node, "support_vectors", supports, Likeness::read(node)?)?, floats(node, "coefficients")?),
    };
    let (entries, count) = (coefficients.len(), vectors.count);
    ensure!(entries == count, "attribute 'coefficients' has {entries} entries for {count} vectors");
    let one_class = node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) != 0;
    built(Regressor { vectors, coefficients, offset, one_class })
}

#[derive(Debug)]
struct Regressor {
    vectors: Vectors,
    /// One for each vector.
    coefficients: Vec<f32>,
    offset: f32,
    /// The output is 1 where the sum is above 0, else -1.
    one_class: bool,
}

impl Kernel for Regressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn input_type(&self, _: usize, _: DatumType) -> TractResult<DatumType> {
        Ok(f32::datum_type())
    }

    fn outputs(&self, inputs: &[Facts]) -> TractResult<TVec<Facts>> {
        Ok(tvec!((f32::datum_type(), tvec!(self.vectors.rows_of(&inputs[0])?, 1.to_dim()))))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let mut values = vec![];
        let rows = self.vectors.for_each_row(&inputs[0], |alike| {
            let sum = super::product(alike, &self.coefficients) + self.offset;
            values.push(match self.one_class {
                true if sum > 0.0 => 1.0,
                true => -1.0,
                false => sum,
            });
        })?;
        Ok(tvec!(scores(values, rows, 1)?))
    }

    fn held_bytes(&self) -> u64 {
        self.vectors.bytes()
    }
}
