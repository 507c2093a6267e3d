//! A MaxPool of quantised values as one of the whole numbers that they stand for, in FLOAT, which holds them exactly: tract's goes
//! through windows of bytes value by value, where the engine has poolings of FLOAT (see `ops::convolution`).

use std::collections::HashMap;

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{self, input, output};

/// Replaces those that follow a QuantizeLinear with a zero point, which tells the type.
pub fn widen(model: &mut ModelProto) {
    let made = |node: &&NodeProto| node.op_type == "QuantizeLinear";
    let named = |node: &NodeProto| Some((output(node, 0)?.to_owned(), input(node, 2)?.to_owned()));
    let zero_points: HashMap<String, String> = edit::nodes(model).into_iter().filter(made).filter_map(named).collect();
    let concerned = |node: &NodeProto| {
        let follows = input(node, 0).is_some_and(|name| zero_points.contains_key(name));
        node.op_type == "MaxPool" && node.output.len() == 1 && follows
    };
    edit::replace_nodes(model, concerned, |node, steps| {
        let value = input(node, 0)?;
        let zero_point = zero_points.get(value)?;
        let one = steps.float(1.0);
        let whole = steps.add("DequantizeLinear", &[value, &one, zero_point], vec![]);
        let greatest = steps.add("MaxPool", &[&whole], node.attribute.clone());
        steps.add_to("QuantizeLinear", &[&greatest, &one, zero_point], &[output(node, 0)?], vec![]);
        Some(())
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, floats};
    use tract_onnx::pb::tensor_proto::DataType as OnnxType;
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn the_greatest_byte_of_a_window_is_itself() {
        let x = Tensor::from_shape(&[1, 1, 4], &[-1.0f32, 300.0, -200.0, 4.0]).unwrap();
        for (kind, expected) in [(OnnxType::Int8, [127.0, 3.0]), (OnnxType::Uint8, [255.0, 7.0])] {
            let graph = Graph::new().scalar("s", 1.0f32);
            let graph = match kind {
                OnnxType::Int8 => graph.scalar("z", -1i8),
                _ => graph.scalar("z", 3u8),
            };
            let graph = graph.node("QuantizeLinear", &["x", "s", "z"], &["q"]).node("MaxPool", &["q"], &["y"]);
            let graph = graph.ints("kernel_shape", &[2]).ints("strides", &[2]).declare("y", kind);
            assert_eq!(floats(&graph.run(&[("x", x.clone())], &["y"]).unwrap()[0]), expected);
        }
    }
}
