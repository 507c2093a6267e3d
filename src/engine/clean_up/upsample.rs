//! The scales of an `Upsample` of ONNX 7 and 8, an attribute there, as the input that they are from ONNX 9 on.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, attribute};

/// Gives every such Upsample its input.
pub fn modernise(model: &mut ModelProto) {
    let concerned = |node: &NodeProto| node.op_type == "Upsample" && node.input.len() == 1;
    edit::replace_nodes(model, concerned, |node, steps| {
        let scales = steps.floats(&attribute(node, "scales")?.floats);
        let mut modern = node.clone();
        modern.attribute.retain(|attribute| attribute.name != "scales");
        modern.input.push(scales);
        steps.keep(modern);
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    fn image() -> Tensor {
        tensor1(&[1.0f32, 2.0, 3.0, 4.0]).into_shape(&[1, 1, 1, 4]).unwrap()
    }

    // Expected values are ONNX Runtime 1.31's for the same models.

    #[test]
    fn an_upsample_takes_the_pixel_at_or_before_a_place() {
        let old = Graph::new().opset(8).node("Upsample", &["x"], &["y"]).floats("scales", &[1.0, 1.0, 1.0, 3.0]);
        let expected = [1., 1., 1., 2., 2., 2., 3., 3., 3., 4., 4., 4.];
        close(&floats(&old.run(&[("x", image())], &["y"]).unwrap()[0]), &expected, 0.0);
        let scales = || tensor1(&[1.0f32, 1.0, 1.0, 2.0]);
        let linear = Graph::new().opset(9).constant("s", scales()).node("Upsample", &["x", "s"], &["y"]);
        let y = linear.text("mode", "linear").run(&[("x", image())], &["y"]).unwrap();
        close(&floats(&y[0]), &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0], 1e-6);
    }

    #[test]
    fn a_resize_of_opset_10_does_so_too_unless_it_shrinks() {
        let resized = |scale: f32| {
            let scales = tensor1(&[1.0f32, 1.0, 1.0, scale]);
            let graph = Graph::new().opset(10).constant("s", scales).node("Resize", &["x", "s"], &["y"]);
            floats(&graph.run(&[("x", image())], &["y"]).unwrap()[0])
        };
        close(&resized(3.0), &[1., 1., 1., 2., 2., 2., 3., 3., 3., 4., 4., 4.], 0.0);
        close(&resized(0.7), &[1.0, 3.0], 0.0);
    }
}
