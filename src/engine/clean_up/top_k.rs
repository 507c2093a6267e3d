//! The count of a `TopK` before ONNX 10, an attribute there, as the input that it is from then on.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, int_of};

/// Gives every such TopK its input.
pub fn modernise(model: &mut ModelProto) {
    let concerned = |node: &NodeProto| node.op_type == "TopK" && node.input.len() == 1;
    edit::replace_nodes(model, concerned, |node, steps| {
        let count = steps.ints(&[int_of(node, "k")?]);
        let mut modern = node.clone();
        modern.attribute.retain(|attribute| attribute.name != "k");
        modern.input.push(count);
        steps.keep(modern);
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn the_count_may_be_an_attribute() {
        let x = || tensor2(&[[1f32, 4.0, 2.0, 4.0], [0.0, -1.0, -2.0, 3.0]]);
        for opset in [1, 9] {
            let graph = |count| Graph::new().opset(opset).node("TopK", &["x"], &["y", "places"]).int("k", count);
            let y = graph(2).run(&[("x", x())], &["y", "places"]).unwrap();
            close(&floats(&y[0]), &[4.0, 4.0, 3.0, 0.0], 0.0);
            close(&floats(&y[1]), &[1.0, 3.0, 3.0, 0.0], 0.0);
            let down = graph(1).int("axis", 0).run(&[("x", x())], &["y"]).unwrap();
            close(&floats(&down[0]), &[1.0, 4.0, 2.0, 4.0], 0.0);
            for count in [5, -1] {
                assert!(graph(count).run(&[("x", x())], &["y"]).is_err(), "{count}");
            }
        }
    }
}
