//! What tract's Scan, which its recurrences are made of too, is to begin with and to end with.

use tract_onnx::tract_core::ops::scan::{InputMapping, OptScan, Scan};
use tract_onnx::tract_hir::internal::*;

/// Has every Scan of the graph, and of those inside it, begin with the state that it is given, each time that it runs. As
/// tract makes them one goes on where it ended, which inside another is at each turn of that one.
pub fn begin_anew(model: &mut TypedModel) {
    // A file's graphs nest no deeper than its decoder lets them.
    for scan in model.nodes.iter_mut().filter_map(|node| node.op_as_mut::<Scan>()) {
        scan.reset_every_turn = true;
        begin_anew(&mut scan.body);
    }
}

/// Of a Scan that has no turn to make, its last states and which outputs they are: those that it is given. tract gives
/// empty tensors.
pub fn last_states(node: &TypedNode, inputs: &[TValue]) -> TVec<(usize, TValue)> {
    let Some(scan) = node.op_as::<OptScan>() else { return tvec!() };
    let turns = |(mapping, input): (&InputMapping, &TValue)| Some(input.shape()[mapping.as_scan()?.axis]);
    if scan.input_mapping.iter().zip(inputs).find_map(turns) != Some(0) {
        return tvec!();
    }
    let given = scan.input_mapping.iter().zip(inputs).filter(|(mapping, _)| mapping.is_state());
    let last = scan.output_mapping.iter().filter(|mapping| mapping.state).zip(given);
    last.filter_map(|(mapping, (_, state))| Some((mapping.last_value_slot?, state.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::run_graph;
    use super::super::testing::{graph, node, with_graph, with_int};
    use super::*;

    #[test]
    fn a_scan_over_nothing_ends_as_it_began() {
        let body = graph("a b x", vec![node("c = Add(a, x)"), node("d = Mul(b, x)"), node("y = Identity(c)")], "c d y");
        let scan =
            with_int(with_graph(node("last product all = Scan(one, two, rows)"), "body", body), "num_scan_inputs", 1);
        let run = |rows: &[[f32; 2]]| {
            let rows = rows.iter().flatten().copied().collect::<Vec<f32>>();
            let rows = tensor1(&rows).into_shape(&[rows.len() / 2, 2]).unwrap();
            let scan = graph("one two rows", vec![scan.clone()], "last product all");
            run_graph(scan, &[tensor1(&[1f32, 1.0]), tensor1(&[2f32, 3.0]), rows]).unwrap()
        };
        let some = run(&[[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(some[..2], [tensor1(&[5f32, 7.0]), tensor1(&[6f32, 24.0])]);
        let none = run(&[]);
        assert_eq!(none[..2], [tensor1(&[1f32, 1.0]), tensor1(&[2f32, 3.0])]);
        assert_eq!(none[2].shape(), [0, 2]);
    }
}
