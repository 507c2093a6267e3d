//! `LpPool` as the root of the mean of powers, times their number.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, attribute, input, int, int_of, output};

/// The operator that is replaced here.
pub const OPERATOR: &str = "LpPool";

/// Replaces it wherever it occurs.
pub fn expand(model: &mut ModelProto) {
    edit::replace_nodes(model, is_lp_pool, |node, steps| {
        let kernel = &attribute(node, "kernel_shape")?.ints;
        let places = kernel.iter().try_fold(1i64, |all, side| all.checked_mul(*side)).filter(|places| *places > 0)?;
        let power = int_of(node, "p").unwrap_or(2);
        // Of a last window that lies within the image in part the mean is of fewer places, so that it is left as unknown.
        let rounds_up = int_of(node, "ceil_mode").unwrap_or(0) != 0;
        if !(1..=64).contains(&power) || rounds_up {
            return None;
        }
        let (exponent, root, places) =
            (steps.float(power as f32), steps.float(1.0 / power as f32), steps.float(places as f32));
        let sizes = steps.add("Abs", &[input(node, 0)?], vec![]);
        let powers = steps.add("Pow", &[&sizes, &exponent], vec![]);
        let mut attributes = node.attribute.clone();
        attributes.retain(|attribute| attribute.name != "p");
        // What lies beyond the edge counts as 0 in a norm.
        attributes.push(int("count_include_pad", 1));
        let means = steps.add("AveragePool", &[&powers], attributes);
        let sums = steps.add("Mul", &[&means, &places], vec![]);
        steps.add_to("Pow", &[&sums, &root], &[output(node, 0)?], vec![]);
        Some(())
    });
}

fn is_lp_pool(node: &NodeProto) -> bool {
    node.op_type == OPERATOR && matches!(node.domain.as_str(), "" | "ai.onnx")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn norms_of_windows_with_zeros_beyond_the_edge() {
        let x = || tensor1(&[3.0f32, -4.0, 0.0, 1.0]).into_shape(&[1, 1, 4]).unwrap();
        let pool = || Graph::new().node("LpPool", &["x"], &["y"]).ints("kernel_shape", &[2]);
        close(&floats(&pool().run(&[("x", x())], &["y"]).unwrap()[0]), &[5.0, 4.0, 1.0], 1e-5);
        let padded = pool().int("p", 1).ints("pads", &[1, 0]).ints("strides", &[2]);
        close(&floats(&padded.run(&[("x", x())], &["y"]).unwrap()[0]), &[3.0, 4.0], 1e-5);
        assert!(pool().int("ceil_mode", 1).run(&[("x", x())], &["y"]).is_err(), "what would be wrong is refused");
    }
}
