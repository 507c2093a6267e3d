//! Keeps tract from taking a Softmax between DequantizeLinear and QuantizeLinear for element-wise: it would fold the three
//! into a table of single values (`DequantizeLinearF32::declutter` of tract-core 0.23 trusts `Softmax::axes_mapping`).

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, input};

/// Puts a node that the folding does not pass before each Softmax and LogSoftmax of a graph with quantised values.
pub fn shield(model: &mut ModelProto) {
    if !edit::nodes(model).iter().any(|node| node.op_type == "DequantizeLinear") {
        return;
    }
    let concerned = |node: &NodeProto| matches!(node.op_type.as_str(), "Softmax" | "LogSoftmax");
    edit::replace_nodes(model, concerned, |node, steps| {
        let shielded = steps.add("HeadgateBarrier", &[input(node, 0)?], vec![]);
        steps.keep(NodeProto { input: vec![shielded], ..node.clone() });
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn a_softmax_between_quantised_values_sees_the_whole_row() {
        let graph = |op_type: &str| {
            Graph::new()
                .scalar("s", 0.1f32)
                .scalar("z", 0u8)
                .scalar("t", if op_type == "Softmax" { 1.0f32 / 256.0 } else { -0.0625 })
                .node("DequantizeLinear", &["x", "s", "z"], &["a"])
                .node("Relu", &["a"], &["b"])
                .node(op_type, &["b"], &["c"])
                .node("QuantizeLinear", &["c", "t", "z"], &["y"])
        };
        let x = || tensor2(&[[0u8, 10, 20], [7, 7, 7]]);
        // softmax([0, 1, 2]) = [0.0900, 0.2447, 0.6652]
        let y = graph("Softmax").run(&[("x", x())], &["y"]).unwrap();
        assert_eq!(floats(&y[0]), [23.0, 63.0, 170.0, 85.0, 85.0, 85.0]);
        // log of these: [-2.4076, -1.4076, -0.4076] and ln(1/3) = -1.0986
        let y = graph("LogSoftmax").run(&[("x", x())], &["y"]).unwrap();
        close(&floats(&y[0]), &[39.0, 23.0, 7.0, 18.0, 18.0, 18.0], 0.0);
    }
}
