//! Names RandomNormalLike and RandomUniformLike so that tract knows them: it takes a node for one of the two by the end
//! of the node's own name, not by its operator.

use tract_onnx::pb::ModelProto;

use super::graphs::{each_graph, is_onnx};

const SUFFIX: &str = "Like";

pub fn apply(model: &mut ModelProto) {
    each_graph(model, &mut |graph| {
        for node in &mut graph.node {
            let is_random = is_onnx(node, "RandomNormalLike") || is_onnx(node, "RandomUniformLike");
            if is_random && !node.name.ends_with(SUFFIX) {
                node.name = format!("{}.{SUFFIX}", node.output.first().unwrap_or(&node.name));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::graphs::node;
    use super::*;
    use tract_onnx::pb::GraphProto;

    #[test]
    fn only_those_two_operators_get_another_name() {
        let nodes = vec![node("RandomNormalLike", &["x"], &["y"]), node("RandomNormal", &[], &["z"])];
        let mut model =
            ModelProto { graph: Some(GraphProto { node: nodes, ..Default::default() }), ..Default::default() };
        apply(&mut model);
        let names: Vec<_> = model.graph.unwrap().node.into_iter().map(|node| node.name).collect();
        assert_eq!(names, ["y.Like", "z"]);
    }
}
