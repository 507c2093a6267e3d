//! Takes the names of dimensions off the inputs of graphs inside nodes.
//!
//! Exporters write there the names that the outer graph has for them (`N`). tract takes such a name for a dimension that
//! differs from every number, and refuses a plan for a given number of rows. The names say nothing that the node's own
//! inputs don't.

use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{GraphProto, ModelProto, type_proto};

use super::graphs::each_graph;

pub fn apply(model: &mut ModelProto) {
    each_graph(model, &mut |graph| {
        for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(unname);
        }
    });
}

fn unname(graph: &mut GraphProto) {
    for info in &mut graph.input {
        let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|r#type| r#type.value.as_mut())
        else {
            continue;
        };
        for dim in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
            if matches!(dim.value, Some(Value::DimParam(_))) {
                dim.value = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::tensor_shape_proto::Dimension;
    use tract_onnx::pb::{AttributeProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto};

    fn with_input(dims: Vec<Value>, node: Vec<NodeProto>) -> GraphProto {
        let dim = dims.into_iter().map(|value| Dimension { value: Some(value), ..Default::default() }).collect();
        let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
        let value = Some(type_proto::Value::TensorType(tensor));
        let input = ValueInfoProto { r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() };
        GraphProto { input: vec![input], node, ..Default::default() }
    }

    fn dims(graph: &GraphProto) -> Vec<Option<Value>> {
        let Some(type_proto::Value::TensorType(tensor)) = graph.input[0].r#type.as_ref().unwrap().value.as_ref() else {
            return vec![];
        };
        tensor.shape.as_ref().unwrap().dim.iter().map(|dim| dim.value.clone()).collect()
    }

    #[test]
    fn names_go_within_nodes_and_numbers_stay() {
        let named = || vec![Value::DimParam("N".into()), Value::DimValue(4)];
        let body = AttributeProto { g: Some(with_input(named(), vec![])), ..Default::default() };
        let node = NodeProto { attribute: vec![body], ..Default::default() };
        let mut model = ModelProto { graph: Some(with_input(named(), vec![node])), ..Default::default() };
        apply(&mut model);
        let graph = model.graph.unwrap();
        assert_eq!(dims(&graph)[0], Some(Value::DimParam("N".into())));
        assert_eq!(dims(graph.node[0].attribute[0].g.as_ref().unwrap()), [None, Some(Value::DimValue(4))]);
    }
}
