//! FLOAT16 and BFLOAT16 as FLOAT inside the graph: tract has no fast kernels for the first on x86-64 and fails on some of
//! its operators, and doesn't know the second at all.
//!
//! The model's own inputs and outputs of FLOAT16 keep their type, with a Cast at the edge; those of BFLOAT16 become FLOAT
//! in the graph, and the engine's side converts. Where the file casts to such a type, values are rounded to it as before;
//! what is computed between is rounded no more, which only makes it more exact than ONNX Runtime's.

use std::collections::{HashMap, HashSet};

use half::{bf16, f16};
use tract_onnx::pb::tensor_proto::{DataLocation, DataType as OnnxType};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

use super::edit::{self, Names, OWN_DOMAIN, int};

/// Widens a model in which either type occurs, unless it looks at bits.
pub fn widen(model: &mut ModelProto) {
    if !mentions(model) || looks_at_bits(model) {
        return;
    }
    let mut names = Names::of(model);
    let outputs: Vec<String> = model.graph.iter().flat_map(|graph| &graph.output).map(|out| out.name.clone()).collect();
    let edges = model.graph.as_mut().map(|graph| edges(graph, &mut names)).unwrap_or_default();
    edit::each_graph(model, &mut |graph| {
        rename(graph, &edges.renamed);
        widen_graph(graph, &mut names);
    });
    if let Some(graph) = &mut model.graph {
        graph.output.iter_mut().zip(outputs).for_each(|(output, name)| output.name = name);
        graph.node.splice(0..0, edges.first);
        graph.node.extend(edges.last);
        for info in graph.input.iter_mut().chain(&mut graph.output).filter(|info| edges.kept.contains(&info.name)) {
            set_type(info, OnnxType::Float16);
        }
    }
}

/// Whether a BitCast may see how wide values of these types are: what it makes is as wide as what it takes.
fn looks_at_bits(model: &ModelProto) -> bool {
    let sixteen_bits = [OnnxType::Float16, OnnxType::Bfloat16, OnnxType::Int16, OnnxType::Uint16];
    let makes_some = |node: &&NodeProto| {
        let to = edit::int_of(node, "to");
        node.op_type == "BitCast" && sixteen_bits.iter().any(|of| to == Some(*of as i64))
    };
    edit::nodes(model).iter().any(makes_some)
}

fn is_narrow(elem_type: i32) -> bool {
    elem_type == OnnxType::Float16 as i32 || elem_type == OnnxType::Bfloat16 as i32
}

fn mentions(model: &ModelProto) -> bool {
    let of_info = |info: &ValueInfoProto| type_of(info).is_some_and(is_narrow);
    let of_graph = |graph: &GraphProto| {
        graph.input.iter().chain(&graph.output).any(of_info)
            || graph.initializer.iter().any(|tensor| is_narrow(tensor.data_type))
    };
    let of_attribute = |attribute: &AttributeProto| {
        attribute.t.as_ref().is_some_and(|tensor| is_narrow(tensor.data_type))
            || is_type(attribute) && narrow_type(attribute.i)
            || attribute.g.iter().chain(&attribute.graphs).any(of_graph)
    };
    model.graph.as_ref().is_some_and(of_graph)
        || edit::nodes(model).iter().any(|node| node.attribute.iter().any(of_attribute))
}

/// The edges of the model where its types are kept.
#[derive(Default)]
struct Edges {
    /// Values inside the graph that make room for an input or output of their name.
    renamed: HashMap<String, String>,
    kept: HashSet<String>,
    first: Vec<NodeProto>,
    last: Vec<NodeProto>,
}

fn edges(graph: &GraphProto, names: &mut Names) -> Edges {
    let initialised: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let is_half = |info: &&ValueInfoProto| type_of(info) == Some(OnnxType::Float16 as i32);
    let mut edges = Edges::default();
    for input in graph.input.iter().filter(is_half).filter(|input| !initialised.contains(input.name.as_str())) {
        let inside = names.fresh(&format!("{}.wide", input.name));
        edges.first.push(cast(&input.name, &inside, OnnxType::Float, names));
        edges.renamed.insert(input.name.clone(), inside);
        edges.kept.insert(input.name.clone());
    }
    for output in graph.output.iter().filter(is_half) {
        // An output that is an input as well is of the input's type already.
        if edges.kept.insert(output.name.clone()) {
            let inside = names.fresh(&format!("{}.wide", output.name));
            edges.last.push(cast(&inside, &output.name, OnnxType::Float16, names));
            edges.renamed.insert(output.name.clone(), inside);
        }
    }
    edges
}

fn cast(from: &str, to: &str, kind: OnnxType, names: &mut Names) -> NodeProto {
    NodeProto {
        op_type: "Cast".into(),
        name: names.fresh(&format!("{to}.node")),
        input: vec![from.into()],
        output: vec![to.into()],
        attribute: vec![int("to", kind as i64)],
        ..NodeProto::default()
    }
}

/// Renames values inside a graph, those too that a graph inside a node gives on as they are.
fn rename(graph: &mut GraphProto, renamed: &HashMap<String, String>) {
    let used = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
    let given = graph.output.iter_mut().map(|output| &mut output.name);
    for name in used.chain(graph.initializer.iter_mut().map(|tensor| &mut tensor.name)).chain(given) {
        if let Some(inside) = renamed.get(name) {
            name.clone_from(inside);
        }
    }
}

fn widen_graph(graph: &mut GraphProto, names: &mut Names) {
    for info in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        if type_of(info).is_some_and(is_narrow) {
            set_type(info, OnnxType::Float);
        }
    }
    let mut nodes = vec![];
    for tensor in &mut graph.initializer {
        if is_narrow(tensor.data_type) && !widen_tensor(tensor) {
            nodes.push(widen_external(tensor, names));
        }
    }
    for mut node in std::mem::take(&mut graph.node) {
        let is_cast = node.op_type == "Cast";
        let mut rounds_to = None;
        for attribute in &mut node.attribute {
            if let Some(tensor) = attribute.t.as_mut().filter(|tensor| is_narrow(tensor.data_type)) {
                widen_tensor(tensor);
            }
            if is_type(attribute) && narrow_type(attribute.i) {
                rounds_to = Some(attribute.i);
                attribute.i = OnnxType::Float as i64;
            }
        }
        match rounds_to.filter(|_| is_cast && !node.output.is_empty()) {
            Some(to) => {
                let output = node.output[0].clone();
                node.output[0] = names.fresh(&format!("{output}.unrounded"));
                let round = NodeProto {
                    op_type: "HeadgateRound16".into(),
                    domain: OWN_DOMAIN.into(),
                    name: names.fresh(&format!("{output}.node")),
                    input: vec![node.output[0].clone()],
                    output: vec![output],
                    attribute: vec![int("to", to)],
                    ..NodeProto::default()
                };
                nodes.extend([node, round]);
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
}

/// Makes a tensor that lies in the file itself a FLOAT; false for one beside the file.
fn widen_tensor(tensor: &mut TensorProto) -> bool {
    if tensor.data_location == Some(DataLocation::External as i32) {
        return false;
    }
    let is_half = tensor.data_type == OnnxType::Float16 as i32;
    let wide = |bits: u16| if is_half { f16::from_bits(bits).to_f32() } else { bf16::from_bits(bits).to_f32() };
    let raw = tensor.raw_data.chunks_exact(2).map(|bytes| wide(u16::from_le_bytes([bytes[0], bytes[1]])));
    // Elements that are not raw lie in the low half of an int32 each (ONNX, TensorProto.int32_data).
    let listed = tensor.int32_data.iter().map(|&bits| wide(bits as u16));
    tensor.raw_data = raw.chain(listed).flat_map(f32::to_le_bytes).collect();
    tensor.int32_data = vec![];
    tensor.data_type = OnnxType::Float as i32;
    true
}

/// Leaves a tensor beside the file as it is and adds the node that widens it when it is loaded.
fn widen_external(tensor: &mut TensorProto, names: &mut Names) -> NodeProto {
    let inside = std::mem::take(&mut tensor.name);
    tensor.name = names.fresh(&format!("{inside}.narrow"));
    if tensor.data_type == OnnxType::Float16 as i32 {
        return cast(&tensor.name, &inside, OnnxType::Float, names);
    }
    tensor.data_type = OnnxType::Uint16 as i32;
    let (op_type, domain) = ("HeadgateWidenBf16".into(), OWN_DOMAIN.into());
    NodeProto { op_type, domain, attribute: vec![], ..cast(&tensor.name, &inside, OnnxType::Float, names) }
}

/// Whether an attribute names the type of what its node makes, or that it computes in.
fn is_type(attribute: &AttributeProto) -> bool {
    let types = ["to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision", "stash_type"];
    types.contains(&attribute.name.as_str())
}

fn narrow_type(value: i64) -> bool {
    i32::try_from(value).is_ok_and(is_narrow)
}

fn type_of(info: &ValueInfoProto) -> Option<i32> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type),
    }
}

fn set_type(info: &mut ValueInfoProto, kind: OnnxType) {
    if let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|held| held.value.as_mut()) {
        tensor.elem_type = kind as i32;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Graph, close, floats, run};
    use super::*;
    use tract_onnx::tract_hir::internal::*;

    fn halves(values: &[f32]) -> Tensor {
        tensor1(&values.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>())
    }

    #[test]
    fn inputs_and_outputs_of_float16_keep_their_type() {
        let graph = Graph::new()
            .constant("w", halves(&[1.5, -2.0]))
            .node("Mul", &["x", "w"], &["a"])
            .node("Relu", &["a"], &["y"])
            .node("Neg", &["y"], &["z"]);
        let graph = graph.declare("y", OnnxType::Float16).declare("z", OnnxType::Float16);
        let outputs = graph.run(&[("x", halves(&[2.0, 0.25]))], &["y", "z"]).unwrap();
        assert_eq!(outputs, [halves(&[3.0, 0.0]), halves(&[-3.0, 0.0])]);
    }

    #[test]
    fn a_product_with_a_bias_in_float16_runs() {
        let matrix = |values: &[f32], shape: &[usize]| halves(values).into_shape(shape).unwrap();
        let graph = Graph::new()
            .constant("w", matrix(&[1.0, 2.0, 3.0, 4.0], &[2, 2]))
            .constant("b", halves(&[0.5, 0.25]))
            .node("Cast", &["x"], &["h"])
            .int("to", OnnxType::Float16 as i64)
            .node("Gemm", &["h", "w", "b"], &["g"])
            .node("Cast", &["g"], &["y"])
            .int("to", OnnxType::Float as i64);
        let y = graph.run(&[("x", tensor2(&[[1.0f32, 10.0]]))], &["y"]).unwrap();
        assert_eq!(y, [tensor2(&[[31.5f32, 42.25]])]);
    }

    #[test]
    fn a_cast_rounds_as_the_type_does() {
        for (kind, expected) in [
            // 1/3 and 65,520 with 11 bits and a largest finite value of 65,504; with 8 bits
            (OnnxType::Float16, [0.333_251_95, f32::INFINITY]),
            (OnnxType::Bfloat16, [0.333_984_38, 65_536.0]),
        ] {
            let graph = Graph::new().node("Cast", &["x"], &["h"]).int("to", kind as i64).node("Cast", &["h"], &["y"]);
            let y = graph.int("to", 1).run(&[("x", tensor1(&[1.0f32 / 3.0, 65_520.0]))], &["y"]).unwrap();
            close(&floats(&y[0]), &expected, 0.0);
        }
    }

    #[test]
    fn bfloat16_at_the_edges_is_float_in_the_graph() {
        let graph = Graph::new().node("Neg", &["x"], &["y"]).declare("y", OnnxType::Bfloat16);
        let y = run(graph.model(&[("x", OnnxType::Bfloat16)], &["y"]), &[tensor1(&[1.5f32])]).unwrap();
        assert_eq!(y, [tensor1(&[-1.5f32])]);
    }

    #[test]
    fn weights_are_read_in_both_forms_and_constants_too() {
        let mut model = Graph::new()
            .node("Constant", &[], &["c"])
            .node("Add", &["x", "w"], &["a"])
            .node("Add", &["a", "c"], &["y"])
            .model(&[("x", OnnxType::Float)], &["y"]);
        let graph = model.graph.as_mut().unwrap();
        let narrow = |kind: OnnxType| TensorProto { data_type: kind as i32, dims: vec![1], ..TensorProto::default() };
        let listed = vec![i32::from(f16::from_f32(0.5).to_bits())];
        graph.initializer.push(TensorProto { name: "w".into(), int32_data: listed, ..narrow(OnnxType::Float16) });
        let raw_data = bf16::from_f32(8.0).to_bits().to_le_bytes().to_vec();
        let value = TensorProto { raw_data, ..narrow(OnnxType::Bfloat16) };
        let value = AttributeProto { name: "value".into(), t: Some(value), ..int("value", 0) };
        let r#type = tract_onnx::pb::attribute_proto::AttributeType::Tensor as i32;
        graph.node[0].attribute.push(AttributeProto { r#type, ..value });
        assert_eq!(run(model, &[tensor1(&[1.0f32])]).unwrap(), [tensor1(&[9.5f32])]);
    }

    #[test]
    fn a_weight_beside_the_file_is_widened_when_it_is_loaded() {
        let mut model = Graph::new().node("Add", &["x", "w"], &["y"]).model(&[("x", OnnxType::Float)], &["y"]);
        let external = TensorProto { data_location: Some(1), name: "w".into(), ..TensorProto::default() };
        for (kind, op_type, then) in [
            (OnnxType::Float16, "Cast", OnnxType::Float16),
            (OnnxType::Bfloat16, "HeadgateWidenBf16", OnnxType::Uint16),
        ] {
            let mut model = model.clone();
            let graph = model.graph.as_mut().unwrap();
            graph.initializer.push(TensorProto { data_type: kind as i32, ..external.clone() });
            widen(&mut model);
            let graph = model.graph.as_ref().unwrap();
            assert_eq!((graph.node[0].op_type.as_str(), graph.node[0].output[0].as_str()), (op_type, "w"));
            assert_eq!(graph.node[0].input[0], graph.initializer[0].name);
            assert_eq!(graph.initializer[0].data_type, then as i32);
        }
        let untouched = model.clone();
        widen(&mut model);
        assert_eq!(model, untouched);
    }

    #[test]
    fn a_branch_sees_the_wide_value_and_may_give_it_on() {
        let branch = |nodes: Graph| nodes.model(&[], &["x"]).graph.unwrap();
        let mut model = Graph::new().node("If", &["c"], &["y"]).declare("y", OnnxType::Float16);
        model = model.node("Neg", &["y"], &["z"]).declare("z", OnnxType::Float16);
        let mut model = model.model(&[("c", OnnxType::Bool), ("x", OnnxType::Float16)], &["z"]);
        let then = AttributeProto { name: "then_branch".into(), g: Some(branch(Graph::new())), ..int("", 0) };
        model.graph.as_mut().unwrap().node[0].attribute.push(then);
        widen(&mut model);
        let graph = model.graph.as_ref().unwrap();
        let wide = &graph.node[0].output[0];
        assert_eq!((graph.node[0].op_type.as_str(), wide.as_str()), ("Cast", "x.wide"));
        assert_eq!(&graph.node[1].attribute[0].g.as_ref().unwrap().output[0].name, wide);
        assert_eq!((graph.input[1].name.as_str(), graph.output[0].name.as_str()), ("x", "z"));
    }

    #[test]
    fn a_model_that_looks_at_sixteen_bits_is_left_alone() {
        let model = |to: OnnxType| {
            let graph = Graph::new().node("Relu", &["x"], &["h"]).node("BitCast", &["u"], &["y"]);
            graph.int("to", to as i64).model(&[("x", OnnxType::Float16), ("u", OnnxType::Uint32)], &["h", "y"])
        };
        for (to, is_left) in [(OnnxType::Int16, true), (OnnxType::Float, false)] {
            let mut widened = model(to);
            widen(&mut widened);
            assert_eq!(widened == model(to), is_left, "{to:?}");
        }
    }
}
