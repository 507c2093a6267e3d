//! `ai.onnx.ml.SVMRegressor`, which one-class models use too.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::dense::sum_of_two;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::labels::scores;
use super::{Built, Likeness, Vectors, add_weighed, floats, post_transform, singles};

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
    let (entries, count) = (coefficients.len(), vectors.count());
    ensure!(entries == count, "attribute 'coefficients' has {entries} entries for {count} vectors");
    let (vectors, coefficients) = match vectors.likeness {
        Likeness::Linear if supports > 1 => {
            // Being like a weighed sum of the vectors is the weighed sum of being like each.
            let (vectors, width) = super::vectors(node, "support_vectors", supports)?;
            let mut sum = vec![0.0; width];
            add_weighed(&mut sum, &vectors, &coefficients);
            (Vectors::linear(&singles(&sum), width), vec![1.0])
        }
        _ => (vectors, coefficients),
    };
    let one_class = node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) != 0;
    built(node, Regressor { vectors, coefficients, offset, one_class })
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

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        Ok(tvec!(f32::fact([self.vectors.rows_of(input)?, 1.to_dim()])))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut values = vec![];
        let rows = self.vectors.for_each_row(&inputs[0], |alike| {
            let sum = sum_of_two(alike, &self.coefficients, |alike, weight| alike * weight) + self.offset;
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

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::{Node, assert_close, run, shapes_for_any_rows};
    use super::*;

    fn rows() -> Tensor {
        tensor2(&[[1.0f32, 2.0], [-1.0, 0.5]])
    }

    fn node(kernel: &str, params: [f32; 3]) -> Node {
        Node::new("SVMRegressor")
            .text("kernel_type", kernel)
            .floats("kernel_params", &params)
            .int("n_supports", 3)
            .floats("support_vectors", &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0])
            .floats("coefficients", &[1.0, -0.5, 0.25])
            .floats("rho", &[0.1])
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn every_kernel_weighs_its_vectors() {
        for (kernel, params, expected, class) in [
            ("LINEAR", [0.0; 3], [-0.65, -1.025], [-1.0, -1.0]),
            ("POLY", [0.5, 1.0, 3.0], [-0.55625, -0.263281], [-1.0, -1.0]),
            ("RBF", [0.5, 0.0, 0.0], [0.051771, 0.032965], [1.0, 1.0]),
            ("SIGMOID", [0.5, 0.1, 0.0], [0.015462, -0.364043], [1.0, -1.0]),
        ] {
            assert_close(&run(node(kernel, params), &[rows()], 1).unwrap()[0], &expected);
            assert_close(&run(node(kernel, params).int("one_class", 1), &[rows()], 1).unwrap()[0], &class);
        }
    }

    #[test]
    fn without_support_vectors_it_is_linear() {
        let node = Node::new("SVMRegressor").floats("coefficients", &[1.0, -0.5]).floats("rho", &[0.1]);
        assert_close(&run(node, &[rows()], 1).unwrap()[0], &[0.1, -1.15]);
    }

    #[test]
    fn a_row_in_is_a_row_out() {
        assert_eq!(shapes_for_any_rows(node("LINEAR", [0.0; 3]), &[rows()], 1).unwrap(), ["N,1"]);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let linear = || node("LINEAR", [0.0; 3]);
        let refused = |node: Node| format!("{:#}", run(node, &[rows()], 1).unwrap_err());
        assert!(refused(linear().int("n_supports", 4)).contains("'support_vectors' has 6 entries for 4 vectors"));
        assert!(refused(linear().int("n_supports", -1)).contains("'n_supports' is negative"));
        assert!(refused(linear().floats("coefficients", &[1.0])).contains("'coefficients' has 1 entries"));
        assert!(refused(linear().floats("kernel_params", &[1.0])).contains("'kernel_params' has 1 entries"));
        assert!(refused(linear().text("kernel_type", "CUBE")).contains("'kernel_type' holds 'CUBE'"));
        assert!(refused(linear().without("rho")).contains("'rho' is missing"));
        assert!(
            refused(linear().int("n_supports", 2).floats("coefficients", &[1.0; 2]))
                .contains("the vectors have 3 features, the input has 2")
        );
    }
}
