//! `output_shape` of a ConvTranspose as a cut through all that its windows reach: where that cut begins hangs on how far
//! they reach, and with it on the image's size. tract begins one place off where an odd number of places is cut off.
//!
//! It belongs in tract's `cnn::deconv::adjustments`; ours goes when it is mended there.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, attribute, int, int_list, output};
use super::windows::same;

/// Writes the cut behind such nodes.
pub fn cut(model: &mut ModelProto) {
    edit::replace_nodes(model, concerned, |node, steps| {
        let sizes = &attribute(node, "output_shape")?.ints;
        let begins_early = same(node) == Some(false);
        // Less than a step may lie behind the last window.
        let strides = attribute(node, "strides").map_or(vec![], |held| held.ints.clone());
        let beyond: Vec<i64> = strides.iter().map(|stride| stride.saturating_sub(1)).collect();
        let padding = attribute(node, "output_padding").map_or(vec![0; beyond.len()], |held| held.ints.clone());
        let padding: Vec<i64> = match beyond.len() {
            0 => padding,
            _ => beyond.iter().zip(padding).map(|(beyond, padding)| beyond.saturating_add(padding)).collect(),
        };
        let mut whole = node.clone();
        let replaced = ["auto_pad", "output_padding", "output_shape", "pads"];
        whole.attribute.retain(|held| !replaced.contains(&held.name.as_str()));
        whole.attribute.extend((!padding.is_empty()).then(|| int_list("output_padding", &padding)));
        let reached = steps.fresh(&format!("{}.whole", output(node, 0)?));
        whole.output[0].clone_from(&reached);
        steps.keep(whole);
        let early = int("begins_early", i64::from(begins_early));
        let attributes = vec![int_list("sizes", sizes), int_list("beyond", &beyond), early];
        steps.add_to("HeadgateSizeCrop", &[&reached], &[output(node, 0)?], attributes);
        Some(())
    });
}

fn concerned(node: &NodeProto) -> bool {
    node.op_type == "ConvTranspose"
        && matches!(node.domain.as_str(), "" | "ai.onnx")
        && attribute(node, "output_shape").is_some_and(|sizes| !sizes.ints.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, floats};
    use tract_onnx::tract_hir::internal::*;

    /// What windows of 1, 2, 3 and so on make of 1, 10, 100, in steps of two.
    fn spread(kernel: usize, size: &[i64], set: impl Fn(Graph) -> Graph) -> TractResult<Vec<f32>> {
        let weights: Vec<f32> = (1..=kernel).map(|weight| weight as f32).collect();
        let weights = tensor1(&weights).into_shape(&[1, 1, kernel]).unwrap();
        let graph = Graph::new().constant("w", weights).node("ConvTranspose", &["x", "w"], &["y"]);
        let graph = set(graph.ints("strides", &[2]).ints("output_shape", size));
        Ok(floats(&graph.run(&[("x", tensor3(&[[[1f32, 10.0, 100.0]]]))], &["y"])?[0]))
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn what_is_cut_off_is_shared_out() {
        let as_it_is = |graph: Graph| graph;
        let same = |how: &'static str| move |graph: Graph| graph.text("auto_pad", how);
        let whole = [1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0];
        let cut = |size: i64, set: &dyn Fn(Graph) -> Graph| spread(3, &[size], set).unwrap();
        assert_eq!(cut(7, &as_it_is), whole);
        assert_eq!(cut(6, &as_it_is), whole[1..]);
        assert_eq!(cut(5, &as_it_is), whole[1..6]);
        assert_eq!(cut(4, &as_it_is), whole[2..6]);
        assert_eq!(cut(6, &same("SAME_UPPER")), whole[..6]);
        assert_eq!(cut(6, &same("SAME_LOWER")), whole[1..]);
        assert_eq!(cut(4, &same("SAME_UPPER")), whole[1..5]);
        // Pads beside it count for nothing, and what the output is padded by is cut off with the rest.
        assert_eq!(cut(6, &|graph| graph.ints("pads", &[0, 3])), whole[1..]);
        assert_eq!(cut(6, &|graph| graph.ints("output_padding", &[1])), [2.0, 13.0, 20.0, 130.0, 200.0, 300.0]);
    }

    /// As ONNX Runtime has it.
    #[test]
    fn less_than_a_step_may_lie_behind_the_last_window() {
        let reached = |kernel: usize, size: i64, how: &'static str| {
            spread(kernel, &[size], |graph| graph.text("auto_pad", how)).unwrap()
        };
        for how in ["NOTSET", "SAME_UPPER", "SAME_LOWER"] {
            assert_eq!(reached(1, 6, how), [1.0, 0.0, 10.0, 0.0, 100.0, 0.0]);
            assert_eq!(reached(3, 8, how), [1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0, 0.0]);
        }
        let biased = Graph::new().constant("w", tensor3(&[[[1f32]]])).constant("b", tensor1(&[1000f32]));
        let biased = biased.node("ConvTranspose", &["x", "w", "b"], &["y"]).ints("strides", &[2]);
        let biased = biased.ints("output_shape", &[4]).run(&[("x", tensor3(&[[[1f32, 2.0]]]))], &["y"]).unwrap();
        assert_eq!(floats(&biased[0]), [1001.0, 1000.0, 1002.0, 1000.0]);
    }

    /// As ONNX Runtime has it, but that some take the sizes of the batch and the channels into the list.
    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let as_it_is = |graph: Graph| graph;
        assert_eq!(spread(1, &[1, 1, 5], as_it_is).unwrap(), [1.0, 0.0, 10.0, 0.0, 100.0]);
        for size in [&[5, 5][..], &[-1], &[0], &[1, 1, 1, 5], &[7], &[1 << 40]] {
            assert!(spread(1, size, as_it_is).is_err(), "{size:?}");
        }
    }
}
