//! `LogSoftmax` as what lies below the logarithm of the sum: tract takes the logarithm of a Softmax, which is nothing for what is
//! far below the greatest. Before ONNX 13 the operator goes over all axes from one on; such a node stays as it is unless that
//! is the last.

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
        if version < ONE_AXIS && axis != -1 {
            return None;
        }
        let (x, keeps) = (input(node, 0)?, int("keepdims", 1));
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
}
