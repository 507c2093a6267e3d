//! Recurrences with `direction=reverse`, which tract runs forward: the sequence is reversed, run forward, and what it gives
//! for each step is reversed back. The last hidden state is that of the sequence's first step, as ONNX has it.
//!
//! tract's `CommonRec::wire_one_side` would need the direction; ours goes when that is mended there.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, input, int, int_of, output};

/// Turns the recurrences of a model round.
pub fn turn_round(model: &mut ModelProto) {
    let concerned = |node: &NodeProto| {
        // Rows of different lengths (`sequence_lens`) end at different steps; our own operators run them backwards.
        matches!(node.op_type.as_str(), "RNN" | "LSTM" | "GRU")
            && input(node, 4).is_none()
            && edit::attribute(node, "direction").is_some_and(|direction| direction.s == b"reverse")
    };
    edit::replace_nodes(model, concerned, |node, steps| {
        // The sequence's axis by `layout`, of X and of Y alike.
        let along = || vec![int("axis", if int_of(node, "layout").unwrap_or(0) == 0 { 0 } else { 1 })];
        let mut forward = node.clone();
        forward.attribute.retain(|attribute| attribute.name != "direction");
        forward.input[0] = steps.add("HeadgateReverse", &[input(node, 0)?], along());
        match output(node, 0) {
            Some(given) => {
                let forward_y = steps.fresh(&format!("{given}.forward"));
                forward.output[0] = forward_y.clone();
                steps.keep(forward);
                steps.add_to("HeadgateReverse", &[&forward_y], &[given], along());
            }
            None => steps.keep(forward),
        }
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    /// h' = tanh(x + h), from the last step to the first.
    fn reverse_rnn(layout: i64) -> Graph {
        let attributes = |node: Graph| node.int("hidden_size", 1).int("layout", layout).text("direction", "reverse");
        let graph = Graph::new().constant("w", tensor3(&[[[1.0f32]]])).constant("r", tensor3(&[[[1.0f32]]]));
        attributes(graph.node("RNN", &["x", "w", "r"], &["y", "h"]))
    }

    #[test]
    fn a_reverse_recurrence_begins_at_the_last_step() {
        let steps = [0.1f32, 0.2, 0.3];
        let mut expected = [0.0f32; 3];
        let mut hidden = 0.0f32;
        for (x, y) in steps.iter().zip(&mut expected).rev() {
            hidden = (x + hidden).tanh();
            *y = hidden;
        }
        let by_steps = tensor1(&steps).into_shape(&[3, 1, 1]).unwrap();
        let outputs = reverse_rnn(0).run(&[("x", by_steps)], &["y", "h"]).unwrap();
        assert_eq!((outputs[0].shape(), outputs[1].shape()), (&[3, 1, 1, 1][..], &[1, 1, 1][..]));
        close(&floats(&outputs[0]), &expected, 1e-6);
        close(&floats(&outputs[1]), &expected[..1], 1e-6);
        let by_rows = tensor1(&steps).into_shape(&[1, 3, 1]).unwrap();
        let outputs = reverse_rnn(1).run(&[("x", by_rows)], &["y", "h"]).unwrap();
        assert_eq!(outputs[0].shape(), [1, 3, 1, 1]);
        close(&floats(&outputs[0]), &expected, 1e-6);
    }

    #[test]
    fn either_output_may_be_left_out() {
        let x = || tensor1(&[0.1f32, 0.2]).into_shape(&[2, 1, 1]).unwrap();
        let graph = |outputs: &[&str]| {
            let weights = Graph::new().constant("w", tensor3(&[[[1.0f32]]])).constant("r", tensor3(&[[[1.0f32]]]));
            weights.node("RNN", &["x", "w", "r"], outputs).int("hidden_size", 1).text("direction", "reverse")
        };
        let last = (0.1f32 + 0.2f32.tanh()).tanh();
        close(&floats(&graph(&["", "h"]).run(&[("x", x())], &["h"]).unwrap()[0]), &[last], 1e-6);
        close(&floats(&graph(&["y"]).run(&[("x", x())], &["y"]).unwrap()[0]), &[last, 0.2f32.tanh()], 1e-6);
    }
}
