use super::super::testing::{Node, run};
use super::*;

fn column(values: &[f32]) -> Tensor {
    tensor1(values).into_shape(&[values.len(), 1, 1]).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

/// Lets every Affine pass on what it gets.
fn through(node: Node) -> Node {
    node.floats("activation_alpha", &[1.0, 1.0]).floats("activation_beta", &[0.0, 0.0])
}

/// h' = f(x + h): a sum of all steps, if the function lets it through.
fn summed(node: Node, x: Tensor, more: &[Tensor]) -> TractResult<Vec<Tensor>> {
    run(node, &[&[x, column(&[1.0]), column(&[1.0])], more].concat(), 2)
}

#[test]
fn functions_and_clipping_are_as_the_node_says() {
    let rnn = |name: &str| Node::new("RNN").texts("activations", &[name]);
    let relu = summed(rnn("relu"), column(&[1.0, 2.0, -4.0]), &[]).unwrap();
    assert_eq!((floats(&relu[0]), floats(&relu[1])), (vec![1.0, 3.0, 0.0], vec![0.0]));
    let affine = rnn("Affine").floats("activation_alpha", &[0.5]).floats("activation_beta", &[1.0]);
    let error = summed(rnn("Affine"), column(&[1.0]), &[]).unwrap_err();
    assert!(format!("{error:#}").contains("'activation_alpha' has no entry for 'Affine'"), "{error:#}");
    assert_eq!(floats(&summed(affine, column(&[1.0, 2.0]), &[]).unwrap()[0]), [1.5, 2.75]);
    let clipped = through(rnn("Affine")).float("clip", 2.5);
    assert_eq!(floats(&summed(clipped, column(&[1.0, 2.0, -9.0]), &[]).unwrap()[0]), [1.0, 2.5, -2.5]);
    assert!(summed(rnn("Cosine"), column(&[1.0]), &[]).is_err());
    assert!(summed(Node::new("RNN").texts("activations", &["Relu", "Relu"]), column(&[1.0]), &[]).is_err());
    assert!(summed(rnn("Relu").float("clip", -1.0), column(&[1.0]), &[]).is_err());
}

#[test]
fn steps_beyond_a_rows_length_do_not_count_in_either_direction() {
    let x = || tensor3(&[[[1.0f32], [10.0]], [[2.0], [20.0]], [[4.0], [40.0]]]);
    let bias = || tensor2(&[[0.0f32, 0.0]]);
    let sums = |direction: &str, lengths: [i32; 2]| {
        let node = through(Node::new("RNN").texts("activations", &["Affine"]).text("direction", direction));
        summed(node, x(), &[bias(), tensor1(&lengths)])
    };
    let forward = sums("forward", [3, 2]).unwrap();
    assert_eq!(floats(&forward[0]), [1.0, 10.0, 3.0, 30.0, 7.0, 0.0]);
    assert_eq!(floats(&forward[1]), [7.0, 30.0]);
    let reverse = sums("reverse", [3, 2]).unwrap();
    assert_eq!(floats(&reverse[0]), [7.0, 30.0, 6.0, 20.0, 4.0, 0.0]);
    assert_eq!(floats(&reverse[1]), [7.0, 30.0]);
    for wrong in [4, -1] {
        assert!(sums("forward", [3, wrong]).is_err());
    }
}

#[test]
fn an_lstm_may_forget_what_it_does_not_take_in() {
    // All gates see 0, so that half is taken, half is forgotten, and half of the cell is shown.
    let ones = |shape: &[usize]| tensor1(&vec![0.0f32; shape.iter().product()]).into_shape(shape).unwrap();
    let node = Node::new("LSTM").int("input_forget", 1).texts("activations", &["Sigmoid", "Affine", "Affine"]);
    let node = through(node);
    let inputs = [
        ones(&[1, 1, 1]),
        ones(&[1, 4, 1]),
        ones(&[1, 4, 1]),
        ones(&[1, 8]),
        tensor1(&[1i32]),
        column(&[0.0]),
        column(&[8.0]),
    ];
    let made = run(node, &inputs, 3).unwrap();
    assert_eq!(made.iter().map(floats).collect::<Vec<_>>(), [[2.0], [2.0], [4.0]]);
}

#[test]
fn shapes_must_fit() {
    let node = || Node::new("GRU").float("clip", 1.0);
    let (x, w) = (|| column(&[1.0]), || tensor3(&[[[1.0f32], [1.0], [1.0]]]));
    assert!(run(node(), &[x(), w(), w()], 2).is_ok());
    assert!(run(node(), &[x(), w(), x()], 2).is_err());
    assert!(run(node().text("direction", "bidirectional"), &[x(), w(), w()], 2).is_err());
    assert!(run(node().text("direction", "upward"), &[x(), w(), w()], 2).is_err());
}
