use super::super::testing::{Node, run};
use super::*;

/// One row and head of queries, keys and values of width 1: scores are products.
fn column(values: &[f32]) -> Tensor {
    tensor1(values).into_shape(&[1, 1, values.len(), 1]).unwrap()
}

fn attended(node: Node, inputs: &[Tensor], outputs: usize) -> Vec<Vec<f32>> {
    let made = run(node, inputs, outputs).unwrap();
    made.iter().map(|tensor| tensor.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()).collect()
}

fn close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} instead of {expected:?}");
}

/// Queries of 0 take the same of every key they see, so that each result is the mean of the values seen.
fn zeros(count: usize) -> Tensor {
    column(&vec![0.0; count])
}

#[test]
fn a_causal_query_sees_all_of_the_past() {
    let past = || column(&[10.0, 20.0]);
    // The mask, an empty name in a file, is left out of the inputs here by a mask of nothing.
    let mask = tensor2(&[[0.0f32, 0.0, 0.0, 0.0]]);
    let inputs = [zeros(2), zeros(2), column(&[30.0, 40.0]), mask, past(), past()];
    let outputs = attended(Node::new("Attention").int("is_causal", 1), &inputs, 3);
    close(&outputs[0], &[20.0, 25.0]);
    close(&outputs[1], &[10.0, 20.0, 0.0, 0.0]);
    close(&outputs[2], &[10.0, 20.0, 30.0, 40.0]);
}

#[test]
fn a_window_hides_what_is_far() {
    let node = Node::new("Attention").int("left_window_size", 1).int("right_window_size", 0);
    let outputs = attended(node, &[zeros(4), zeros(4), column(&[1.0, 2.0, 4.0, 8.0])], 1);
    close(&outputs[0], &[1.0, 1.5, 3.0, 6.0]);
}

#[test]
fn masks_of_truths_hide_and_of_numbers_add_and_short_ones_hide_the_rest() {
    let inputs = |mask: Tensor| [zeros(1), zeros(3), column(&[1.0, 2.0, 6.0]), mask];
    close(&attended(Node::new("Attention"), &inputs(tensor2(&[[true, false, true]])), 1)[0], &[3.5]);
    close(
        &attended(Node::new("Attention"), &inputs(tensor2(&[[0.0f32, 3f32.ln(), f32::NEG_INFINITY]])), 1)[0],
        &[1.75],
    );
    close(&attended(Node::new("Attention"), &inputs(tensor2(&[[true, true]])), 1)[0], &[1.5]);
    close(&attended(Node::new("Attention"), &inputs(tensor2(&[[false, false, false]])), 1)[0], &[0.0]);
    assert!(run(Node::new("Attention"), &inputs(tensor2(&[[true; 4]])), 1).is_err());
}

#[test]
fn what_is_hidden_stays_hidden_whatever_its_score() {
    let inputs = [column(&[1.0]), column(&[f32::NAN, 0.0]), column(&[5.0, 7.0]), tensor2(&[[false, true]])];
    close(&attended(Node::new("Attention"), &inputs, 1)[0], &[7.0]);
}

#[test]
fn scores_are_capped_and_shown_where_asked() {
    let inputs = || [column(&[2.0]), column(&[1.0, 2.0]), column(&[0.0, 1.0])];
    let mask = || tensor2(&[[0.0f32, -1.0]]);
    let shown = |mode: i64| {
        let node = Node::new("Attention").int("qk_matmul_output_mode", mode).float("softcap", 3.0).float("scale", 1.0);
        let made = attended(node, &[&inputs()[..], &[mask(), column(&[]), column(&[])]].concat(), 4);
        made[3].clone()
    };
    let capped = [3.0 * (2.0f32 / 3.0).tanh(), 3.0 * (4.0f32 / 3.0).tanh()];
    close(&shown(0), &[2.0, 4.0]);
    close(&shown(1), &capped);
    close(&shown(2), &[capped[0], capped[1] - 1.0]);
    let (a, b) = (capped[0].exp(), (capped[1] - 1.0).exp());
    close(&shown(3), &[a / (a + b), b / (a + b)]);
}

#[test]
fn attributes_out_of_range_are_refused_by_name() {
    for (name, value) in [("left_window_size", -2), ("q_num_heads", -1), ("qk_matmul_output_mode", 4)] {
        let error = run(Node::new("Attention").int(name, value), &[zeros(1), zeros(1), zeros(1)], 1).unwrap_err();
        assert!(format!("{error:#}").contains(name), "{error:#}");
    }
    let flat = || tensor3(&[[[0.0f32, 1.0, 2.0]]]);
    let node = Node::new("Attention").int("q_num_heads", 2).int("kv_num_heads", 2).int("left_window_size", 1);
    assert!(run(node, &[flat(), flat(), flat()], 1).is_err(), "3 is no width of 2 heads");
}
