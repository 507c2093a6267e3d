//! Drops `ai.onnx.ml.ZipMap` where it gives an output of the graph: a row of scores becomes no map from class to score, but
//! stays the row of scores. The protocol has no maps, and the classes are the same in every row.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{ModelProto, TensorShapeProto, TypeProto, type_proto};

/// Puts an Identity in the place of each such node, and says whether there was one.
pub fn drop_zip_maps(model: &mut ModelProto) -> bool {
    let Some(graph) = &mut model.graph else { return false };
    let mut changed = false;
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ZipMap" && node.domain == "ai.onnx.ml") {
        let given = graph.output.iter_mut().find(|output| node.output.first() == Some(&output.name));
        let Some(output) = given else { continue };
        let classes = node.attribute.iter().map(|attribute| attribute.ints.len().max(attribute.strings.len())).max();
        node.op_type = "Identity".into();
        node.domain = String::new();
        node.attribute.clear();
        output.r#type = Some(scores(classes.unwrap_or(0)));
        changed = true;
    }
    changed
}

fn scores(classes: usize) -> TypeProto {
    let classes = i64::try_from(classes).ok().filter(|count| *count > 0).map(Value::DimValue);
    let dim = |value| Dimension { value, ..Default::default() };
    let shape = Some(TensorShapeProto { dim: vec![dim(None), dim(classes)] });
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, ValueInfoProto};

    fn model(op_type: &str) -> ModelProto {
        let classes = AttributeProto { name: "classlabels_int64s".into(), ints: vec![0, 1, 2], ..Default::default() };
        let node = NodeProto {
            op_type: op_type.into(),
            domain: "ai.onnx.ml".into(),
            input: vec!["scores".into()],
            output: vec!["maps".into()],
            attribute: vec![classes],
            ..Default::default()
        };
        let output = vec![ValueInfoProto { name: "maps".into(), ..Default::default() }];
        ModelProto { graph: Some(GraphProto { node: vec![node], output, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn a_map_at_the_end_becomes_the_tensor_of_its_scores() {
        let mut with = model("ZipMap");
        assert!(drop_zip_maps(&mut with));
        let graph = with.graph.unwrap();
        assert_eq!((graph.node[0].op_type.as_str(), graph.node[0].input.len()), ("Identity", 1));
        let kind = graph.output[0].r#type.as_ref().and_then(|kind| kind.value.clone()).unwrap();
        let type_proto::Value::TensorType(tensor) = kind;
        assert_eq!(tensor.shape.unwrap().dim[1].value, Some(Value::DimValue(3)));
    }

    #[test]
    fn any_other_graph_stays_as_it_is() {
        let mut without = model("Normalizer");
        let before = without.clone();
        assert!(!drop_zip_maps(&mut without));
        assert_eq!(without, before);
    }
}
