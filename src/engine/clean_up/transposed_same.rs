//! `auto_pad` SAME of a ConvTranspose as the pads that it stands for: they don't hang on the image's size. tract refuses
//! windows as wide as they step, and forgets `output_padding`.
//!
//! Both belong in tract's `PaddingSpec::same_for_deconv`; ours goes when they are mended there.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, attribute, int_list};
use super::windows::{Kernels, same};

/// Writes the pads of such nodes out.
pub fn write_out(model: &mut ModelProto) {
    if !edit::nodes(model).into_iter().any(concerned) {
        return;
    }
    let kernels = Kernels::of(model);
    edit::replace_nodes(model, concerned, |node, steps| {
        let (window, is_lower) = (kernels.window(node)?, same(node)?);
        let of = |name: &str, axis: usize, absent: i64| {
            attribute(node, name).map_or(Some(absent), |held| held.ints.get(axis).copied())
        };
        // As ONNX Runtime has it: what a window reaches further than it steps, and none where it doesn't.
        let along = |(axis, window): (usize, &i64)| {
            let all = window.checked_add(of("output_padding", axis, 0)?)?.checked_sub(of("strides", axis, 1)?)?.max(0);
            let before = if is_lower { all - all / 2 } else { all / 2 };
            Some((before, all - before))
        };
        let (before, behind): (Vec<i64>, Vec<i64>) = window.iter().enumerate().map(along).collect::<Option<_>>()?;
        let mut node = node.clone();
        node.attribute.retain(|attribute| attribute.name != "auto_pad");
        node.attribute.push(int_list("pads", &[before, behind].concat()));
        steps.keep(node);
        Some(())
    });
}

fn concerned(node: &NodeProto) -> bool {
    node.op_type == "ConvTranspose" && matches!(node.domain.as_str(), "" | "ai.onnx") && same(node).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, floats};
    use tract_onnx::tract_hir::internal::*;

    fn spread(auto_pad: &str, kernel: usize, [stride, output_padding]: [i64; 2]) -> Vec<f32> {
        let weights: Vec<f32> = (1..=kernel).map(|weight| weight as f32).collect();
        let weights = tensor1(&weights).into_shape(&[1, 1, kernel]).unwrap();
        let graph = Graph::new().constant("w", weights).node("ConvTranspose", &["x", "w"], &["y"]);
        let graph =
            graph.ints("strides", &[stride]).ints("output_padding", &[output_padding]).text("auto_pad", auto_pad);
        floats(&graph.run(&[("x", tensor3(&[[[1f32, 10.0, 100.0]]]))], &["y"]).unwrap()[0])
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn pads_are_what_a_window_reaches_further_than_it_steps() {
        assert_eq!(spread("SAME_UPPER", 2, [2, 0]), [1.0, 2.0, 10.0, 20.0, 100.0, 200.0]);
        assert_eq!(spread("SAME_LOWER", 3, [3, 0]), [1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 100.0, 200.0, 300.0]);
        assert_eq!(spread("SAME_UPPER", 3, [2, 0]), [1.0, 2.0, 13.0, 20.0, 130.0, 200.0]);
        assert_eq!(spread("SAME_LOWER", 3, [2, 0]), [2.0, 13.0, 20.0, 130.0, 200.0, 300.0]);
        assert_eq!(spread("SAME_UPPER", 3, [2, 1]), [2.0, 13.0, 20.0, 130.0, 200.0, 300.0]);
        assert_eq!(spread("SAME_LOWER", 2, [2, 1]), [2.0, 10.0, 20.0, 100.0, 200.0, 0.0]);
        assert_eq!(spread("SAME_UPPER", 2, [3, 0]), [1.0, 2.0, 0.0, 10.0, 20.0, 0.0, 100.0, 200.0]);
    }
}
