//! `LogSoftmax` as what lies below the logarithm of the sum: tract takes the logarithm of a Softmax, which is nothing for what is
//! far below the greatest. Before ONNX 13 the operator goes over all axes from one on.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, input, int, int_list, int_of, output};
use super::graphs::opset;

/// The version from which the operator goes along one axis.
const ONE_AXIS: i64 = 13;
/// The version in which the axes of a sum became an input.
const AXES_ARE_AN_INPUT: i64 = 18;

/// Replaces it wherever it occurs.
pub fn shift(model: &mut ModelProto) {
    let version = opset(model);
    edit::replace_nodes(model, is_log_softmax, |node, steps| {
        let axis = int_of(node, "axis").unwrap_or(if version < ONE_AXIS { 1 } else { -1 });
        let (x, keeps) = (input(node, 0)?, int("keepdims", 1));
        if version < ONE_AXIS && axis != -1 {
            let rows = steps.add("Flatten", &[x], vec![int("axis", axis)]);
            let sum = steps.add("ReduceLogSumExp", &[&rows], vec![keeps, int_list("axes", &[1])]);
            let below = steps.add("Sub", &[&rows, &sum], vec![]);
            let shape = steps.add("Shape", &[x], vec![]);
            steps.add_to("Reshape", &[&below, &shape], &[output(node, 0)?], vec![]);
            return Some(());
        }
        let sum = if version < AXES_ARE_AN_INPUT {
            steps.add("ReduceLogSumExp", &[x], vec![keeps, int_list("axes", &[axis])])
        } else {
            let axes = steps.ints(&[axis]);
            steps.add("ReduceLogSumExp", &[x, &axes], vec![keeps])
        };
        steps.add_to("Sub", &[x, &sum], &[output(node, 0)?], vec![]);
        Some(())
    });
}

fn is_log_softmax(node: &NodeProto) -> bool {
    node.op_type == "LogSoftmax" && matches!(node.domain.as_str(), "" | "ai.onnx")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn what_is_far_below_the_greatest_is_no_less_than_it_is() {
        for opset in [13, 17, 18, 21] {
            let graph = Graph::new().opset(opset).node("LogSoftmax", &["x"], &["y"]).int("axis", -1);
            let y = graph.run(&[("x", tensor2(&[[200.0f32, 0.0, 1.0], [1.0, 1.0, 1.0]]))], &["y"]).unwrap();
            let third = -(3f32.ln());
            close(&floats(&y[0]), &[0.0, -200.0, -199.0, third, third, third], 1e-5);
        }
    }

    #[test]
    fn before_version_13_it_goes_over_all_axes_from_one_on() {
        let x = tensor3(&[[[0.0f32, 5.0], [200.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]]);
        let quarter = -(4f32.ln());
        let expected = [-200.0, -195.0, 0.0, -200.0, quarter, quarter, quarter, quarter];
        for (opset, axis) in [(9, None), (11, Some(1)), (11, Some(-2)), (12, None)] {
            let graph = Graph::new().opset(opset).node("LogSoftmax", &["x"], &["y"]);
            let graph = if let Some(axis) = axis { graph.int("axis", axis) } else { graph };
            let y = graph.run(&[("x", x.clone())], &["y"]).unwrap();
            assert_eq!(y[0].shape(), [2, 2, 2]);
            close(&floats(&y[0]), &expected, 1e-5);
        }
    }
}
