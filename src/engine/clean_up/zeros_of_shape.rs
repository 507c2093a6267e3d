//! A ConstantOfShape without a value as one of the FLOAT 0 that ONNX means; tract takes it for a DOUBLE.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

use super::edit::{attribute, each_graph};

/// Writes the value out.
pub fn write_out(model: &mut ModelProto) {
    each_graph(model, &mut |graph| {
        let bare = |node: &&mut NodeProto| node.op_type == "ConstantOfShape" && attribute(node, "value").is_none();
        for node in graph.node.iter_mut().filter(bare) {
            let zero = TensorProto { data_type: OnnxType::Float as i32, dims: vec![1], ..TensorProto::default() };
            let zero = TensorProto { float_data: vec![0.0], ..zero };
            node.attribute.push(AttributeProto {
                name: "value".into(),
                r#type: AttributeType::Tensor as i32,
                t: Some(zero),
                ..AttributeProto::default()
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::Graph;
    use tract_onnx::tract_hir::internal::*;

    #[test]
    fn zeros_are_floats_where_the_file_does_not_say() {
        let graph = Graph::new().node("Shape", &["x"], &["s"]).node("ConstantOfShape", &["s"], &["y"]);
        let made = graph.run(&[("x", tensor2(&[[1f32, 2.0, 3.0]]))], &["y"]).unwrap();
        assert_eq!(made, [tensor2(&[[0f32; 3]])]);
    }
}
