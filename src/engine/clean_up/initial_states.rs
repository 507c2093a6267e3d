//! Recurrences that leave their initial state out begin with zeros, which tract writes as a constant and so needs a known
//! number of rows: here zeros are made of the inputs' shapes at each run.
//!
//! An LSTM's two initial states must not be one value, nor two that tract finds to be equal and merges: it runs such an LSTM
//! of more than one row and step into an error (`Clashing resolution`). A barrier keeps the second apart.

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, input, int, int_of};

const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;

/// Gives every recurrence an initial state, and every LSTM two.
pub fn add(model: &mut ModelProto) {
    let concerned = |node: &NodeProto| match node.op_type.as_str() {
        "RNN" | "GRU" => input(node, INITIAL_H).is_none(),
        "LSTM" => true,
        _ => false,
    };
    edit::replace_nodes(model, concerned, |node, steps| {
        let mut with_state = node.clone();
        let places = if node.op_type == "LSTM" { INITIAL_C + 1 } else { INITIAL_H + 1 };
        if with_state.input.len() < places {
            with_state.input.resize(places, String::new());
        }
        for state in &mut with_state.input[INITIAL_H..places] {
            if state.is_empty() {
                let layout = int("layout", int_of(node, "layout").unwrap_or(0));
                *state = steps.add("HeadgateZeroState", &[input(node, 0)?, input(node, 2)?], vec![layout]);
            }
        }
        if let Some(cell) = with_state.input[INITIAL_H..places].get_mut(1) {
            *cell = steps.add("HeadgateBarrier", &[cell, input(node, 0)?], vec![]);
        }
        steps.keep(with_state);
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn an_lstm_of_many_rows_and_steps_begins_with_zeros() {
        let lstm = |inputs: &[&str]| {
            let all = |value: f32| tensor1(&[value; 4]).into_shape(&[1, 4, 1]).unwrap();
            let graph = Graph::new().constant("w", all(0.5)).constant("r", all(0.25));
            let graph = graph.constant("zeros", Tensor::zero::<f32>(&[1, 3, 1]).unwrap());
            let x = tensor1(&(0..15).map(|i| i as f32 / 10.0).collect::<Vec<_>>()).into_shape(&[5, 3, 1]).unwrap();
            let graph = graph.node("LSTM", inputs, &["y", "h", "c"]).int("hidden_size", 1);
            graph.run(&[("x", x)], &["y", "h", "c"]).unwrap()
        };
        let (without, with) = (lstm(&["x", "w", "r"]), lstm(&["x", "w", "r", "", "", "zeros", "zeros"]));
        for (a, b) in without.iter().zip(&with) {
            close(&floats(a), &floats(b), 1e-6);
        }
        assert_eq!(without[0], lstm(&["x", "w", "r", "", "", "zeros"])[0]);
        assert_eq!(without[0].shape(), [5, 1, 3, 1]);
    }
}
