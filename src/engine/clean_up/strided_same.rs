//! `auto_pad` SAME of a window that steps further than it is wide: what the steps leave over is then no padding but pixels
//! that no place sees, and is cut off before the image instead of behind it alone, as tract has it.
//!
//! How ONNX Runtime shares them out differs between poolings and convolutions (`ops::image::same_crop`). tract's
//! `PaddingSpec::same` would need it; ours goes when that is mended there.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, attribute, input, int, int_list, int_of, output};
use super::windows::{Kernels, same};

/// Puts the cut before such windows.
pub fn cut(model: &mut ModelProto) {
    if !edit::nodes(model).into_iter().any(is_same) {
        return;
    }
    let kernels = Kernels::of(model);
    edit::replace_nodes(model, is_same, |node, steps| {
        let strides = &attribute(node, "strides")?.ints;
        let (window, is_lower) = (kernels.window(node)?, same(node)?);
        if strides.len() != window.len() || strides.iter().zip(&window).all(|(stride, window)| stride <= window) {
            return None;
        }
        let attributes = vec![
            int_list("window", &window),
            int_list("strides", strides),
            int("is_lower", i64::from(is_lower)),
            int("pools", i64::from(POOLINGS.contains(&node.op_type.as_str()))),
        ];
        let image = input(node, 0)?;
        let left = steps.add("HeadgateSameCrop", &[image], attributes);
        let mut pool = node.clone();
        pool.input[0].clone_from(&left);
        let Some(indices) = output(node, 1) else {
            steps.keep(pool);
            return Some(());
        };
        let of_left = steps.fresh(&format!("{indices}.left"));
        pool.output[1].clone_from(&of_left);
        steps.keep(pool);
        let order = int("storage_order", int_of(node, "storage_order").unwrap_or(0));
        steps.add_to("HeadgateSameIndices", &[&of_left, &left, image], &[indices], vec![order]);
        Some(())
    });
}

const POOLINGS: [&str; 2] = ["AveragePool", "MaxPool"];
const CONVOLUTIONS: [&str; 3] = ["Conv", "ConvInteger", "QLinearConv"];

fn is_same(node: &NodeProto) -> bool {
    POOLINGS.iter().chain(&CONVOLUTIONS).any(|op_type| *op_type == node.op_type)
        && matches!(node.domain.as_str(), "" | "ai.onnx")
        && same(node).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, floats};
    use tract_onnx::pb::tensor_proto::DataType as OnnxType;
    use tract_onnx::tract_hir::internal::*;

    /// What the operator's windows begin at, for an image that counts its pixels; a window is two wide.
    fn begins(op_type: &str, auto_pad: &str, (pixels, stride): (usize, i64)) -> Vec<f32> {
        let image: Vec<f32> = (0..pixels).map(|pixel| pixel as f32).collect();
        let image = tensor1(&image).into_shape(&[1, 1, pixels]).unwrap();
        let graph = Graph::new().constant("w", tensor3(&[[[1.0f32, 0.0]]]));
        let graph = match op_type {
            "Conv" => graph.node("Conv", &["x", "w"], &["y"]),
            _ => graph.node(op_type, &["x"], &["y"]).ints("kernel_shape", &[2]),
        };
        let graph = graph.ints("strides", &[stride]).text("auto_pad", auto_pad);
        let made = floats(&graph.run(&[("x", image)], &["y"]).unwrap()[0]);
        let beyond = match op_type {
            "Conv" => 0.0,
            "AveragePool" => 0.5,
            _ => 1.0,
        };
        made.iter().map(|value| value - beyond).collect()
    }

    /// As ONNX Runtime 1.31 has it, by opset 19 and later; it refuses to take the greatest of such windows.
    #[test]
    fn what_steps_leave_over_is_cut_off_on_both_sides() {
        for pool in ["AveragePool", "MaxPool"] {
            assert_eq!(begins(pool, "SAME_UPPER", (6, 4)), [0.0, 4.0]);
            assert_eq!(begins(pool, "SAME_UPPER", (8, 4)), [1.0, 5.0]);
            assert_eq!(begins(pool, "SAME_LOWER", (8, 4)), [0.0, 4.0]);
            assert_eq!(begins(pool, "SAME_UPPER", (13, 7)), [2.0, 9.0]);
            assert_eq!(begins(pool, "SAME_LOWER", (13, 7)), [1.0, 8.0]);
            assert_eq!(begins(pool, "SAME_LOWER", (14, 7)), [2.0, 9.0]);
        }
        assert_eq!(begins("Conv", "SAME_UPPER", (8, 4)), [0.0, 4.0]);
        assert_eq!(begins("Conv", "SAME_UPPER", (10, 5)), [1.0, 6.0]);
        assert_eq!(begins("Conv", "SAME_LOWER", (10, 5)), [0.0, 5.0]);
        assert_eq!(begins("Conv", "SAME_UPPER", (14, 7)), [2.0, 9.0]);
        assert_eq!(begins("Conv", "SAME_LOWER", (14, 7)), [1.0, 8.0]);
        assert_eq!(begins("Conv", "SAME_UPPER", (5, 4)), [0.0, 4.0]);
    }

    /// As ONNX Runtime 1.31 has it.
    #[test]
    fn places_are_those_in_the_whole_image() {
        let pixels: Vec<f32> = (0..48u8).map(f32::from).collect();
        for (storage_order, expected) in [(0, [7i64, 10, 31, 34]), (1, [5, 17, 29, 41])] {
            let image = tensor1(&pixels).into_shape(&[2, 1, 4, 6]).unwrap();
            let graph = Graph::new().node("MaxPool", &["x"], &["y", "i"]).declare("i", OnnxType::Int64);
            let graph = graph.ints("kernel_shape", &[1, 1]).ints("strides", &[4, 3]).text("auto_pad", "SAME_UPPER");
            let made = graph.int("storage_order", storage_order).run(&[("x", image)], &["y", "i"]).unwrap();
            assert_eq!(floats(&made[0]), [7.0, 10.0, 31.0, 34.0]);
            assert_eq!(made[1].try_as_plain_ram().unwrap().as_slice::<i64>().unwrap(), expected);
        }
    }
}
