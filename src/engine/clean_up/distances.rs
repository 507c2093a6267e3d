//! A Scan that subtracts each of its rows from all others and sums the squares, which is how scikit-learn exports write the distances
//! of nearest neighbours and of Gaussian processes, as one operator: the distances of all rows at once.

use tract_onnx::pb::tensor_proto::DataType as OnnxType;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

use super::edit::{self, attribute, input, int_of, output};

/// Replaces such Scans wherever they occur.
pub fn join(model: &mut ModelProto) {
    edit::replace_nodes(model, is_scan_of_distances, |node, steps| {
        let (all, each) = (input(node, 0)?, input(node, 1)?);
        if let Some(state) = output(node, 0) {
            steps.add_to("Identity", &[all], &[state], vec![]);
        }
        if let Some(distances) = output(node, 1) {
            steps.add_to("HeadgateDistances", &[all, each], &[distances], vec![]);
        }
        Some(())
    });
}

fn is_scan_of_distances(node: &NodeProto) -> bool {
    // What isn't among these changes which axes are gone along, or in which direction.
    let known = ["body", "num_scan_inputs"];
    node.op_type == "Scan"
        && node.input.len() == 2
        && node.output.len() == 2
        && node.attribute.iter().all(|attribute| known.contains(&attribute.name.as_str()))
        && int_of(node, "num_scan_inputs") == Some(1)
        && attribute(node, "body").and_then(|body| body.g.as_ref()).is_some_and(|body| sums_squares(body) == Some(true))
}

/// Whether the body gives back what it has, and the sums over columns of the squares of that less the row.
fn sums_squares(body: &GraphProto) -> Option<bool> {
    let ([all, row], [kept, sums]) = (&*body.input, &*body.output) else { return None };
    if !is_floats(all, 2) || !is_floats(row, 1) || body.node.len() > MOST_NODES {
        return None;
    }
    let made_by = |name: &str| body.node.iter().find(|node| node.output.iter().any(|output| output == name));
    // The value that some Identities pass on.
    let passed_on = |mut name: String| {
        for _ in 0..MOST_NODES {
            match made_by(&name).filter(|node| node.op_type == "Identity") {
                Some(node) => name = input(node, 0)?.to_owned(),
                None => break,
            }
        }
        Some(name)
    };
    let sum = passed_on(sums.name.clone())?;
    let sum = made_by(&sum).filter(|node| node.op_type == "ReduceSumSquare")?;
    let difference = made_by(input(sum, 0)?).filter(|node| node.op_type == "Sub")?;
    let (left, right) = (passed_on(input(difference, 0)?.to_owned())?, passed_on(input(difference, 1)?.to_owned())?);
    let is_difference = (&left, &right) == (&all.name, &row.name) || (&left, &right) == (&row.name, &all.name);
    let by_columns = columns(sum, body)? == [1] && int_of(sum, "keepdims") == Some(0);
    Some(passed_on(kept.name.clone())? == all.name && is_difference && by_columns)
}

/// Most nodes of such a body.
const MOST_NODES: usize = 8;

/// The axes that are summed over.
fn columns(sum: &NodeProto, body: &GraphProto) -> Option<Vec<i64>> {
    let Some(name) = input(sum, 1) else { return Some(attribute(sum, "axes")?.ints.clone()) };
    let axes = body.initializer.iter().find(|tensor| tensor.name == name)?;
    match (&*axes.int64_data, &*axes.raw_data) {
        ([], bytes) => Some(vec![i64::from_le_bytes(bytes.try_into().ok()?)]),
        (axes, _) => Some(axes.to_vec()),
    }
}

fn is_floats(info: &ValueInfoProto, rank: usize) -> bool {
    let value = info.r#type.as_ref().and_then(|of| of.value.as_ref());
    let Some(Value::TensorType(tensor)) = value else { return false };
    tensor.elem_type == OnnxType::Float as i32 && tensor.shape.as_ref().is_some_and(|shape| shape.dim.len() == rank)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats};
    use super::*;
    use tract_onnx::pb::attribute_proto::AttributeType;
    use tract_onnx::pb::{AttributeProto, TensorShapeProto};
    use tract_onnx::tract_hir::internal::*;

    fn scan(reduce: &str) -> ModelProto {
        let body = Graph::new()
            .constant("axes", tensor1(&[1i64]))
            .node("Identity", &["all"], &["kept"])
            .node("Sub", &["all", "row"], &["difference"])
            .node(reduce, &["difference", "axes"], &["sum"])
            .int("keepdims", 0)
            .node("Identity", &["sum"], &["sums"])
            .model(&[("all", OnnxType::Float), ("row", OnnxType::Float)], &["kept", "sums"]);
        let mut body = body.graph.unwrap();
        for (input, rank) in body.input.iter_mut().zip([2, 1]) {
            if let Some(Value::TensorType(tensor)) = &mut input.r#type.as_mut().unwrap().value {
                tensor.shape = Some(TensorShapeProto { dim: vec![Default::default(); rank] });
            }
        }
        let graph = Graph::new().node("Scan", &["x", "rows"], &["state", "distances"]).int("num_scan_inputs", 1);
        let mut model =
            graph.opset(18).model(&[("x", OnnxType::Float), ("rows", OnnxType::Float)], &["state", "distances"]);
        let kind = AttributeType::Graph as i32;
        let body = AttributeProto { name: "body".into(), r#type: kind, g: Some(body), ..Default::default() };
        model.graph.as_mut().unwrap().node[0].attribute.push(body);
        model
    }

    #[test]
    fn a_scan_that_sums_squares_of_differences_gives_distances() {
        let mut model = scan("ReduceSumSquare");
        join(&mut model);
        assert!(edit::nodes(&model).iter().all(|node| node.op_type != "Scan"));
        let x = tensor2(&[[1.0f32, 2.0], [0.0, 0.0], [3.0, -1.0]]);
        let rows = tensor2(&[[1.0f32, 0.0], [0.5, 0.5]]);
        let outputs = super::super::testing::run(model, &[x.clone(), rows]).unwrap();
        assert_eq!(outputs[0], x);
        assert_eq!(outputs[1].shape(), [2, 3]);
        close(&floats(&outputs[1]), &[4.0, 1.0, 5.0, 2.5, 0.5, 8.5], 1e-6);
    }

    #[test]
    fn another_scan_stays() {
        for mut model in [scan("ReduceSum"), {
            let mut model = scan("ReduceSumSquare");
            model.graph.as_mut().unwrap().node[0].attribute.push(edit::int_list("scan_input_axes", &[1]));
            model
        }] {
            let before = model.clone();
            join(&mut model);
            assert_eq!(model, before);
        }
    }
}
