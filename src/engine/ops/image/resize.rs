//! `Upsample` (ONNX 7 and 9) and `Resize` of ONNX 10 as the `Resize` of today, which tract has: both take the pixel at or
//! before a place, where today's default is the nearest. Where `Resize` of ONNX 10 makes an axis shorter, ONNX Runtime takes
//! the pixel at or behind it, and so do we.
//!
//! tract reads a `Resize` of ONNX 10 with the default of today; ours goes when that is mended there.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::*;

use super::Built;

/// What tract's own operator is called beside ours.
const TRACTS: &str = "HeadgateTractResize";

/// The first version of ONNX whose Resize says all that is needed here.
const MODERN_OPSET: i64 = 13;

/// Puts ours in the place of tract's, and that under another name.
pub fn register(register: &mut OnnxOpRegister) {
    if let Some(tracts) = register.0.get("Resize").copied() {
        register.insert(TRACTS, tracts);
    }
    register.insert("Resize", resize);
    register.insert("Upsample", upsample);
}

fn resize(context: &ParsingContext, node: &NodeProto) -> Built {
    let is_nearest = node.get_attr_opt::<&str>("mode")?.unwrap_or("nearest") == "nearest";
    if context.onnx_operator_set_version != 10 || !is_nearest {
        return tracts(context, node);
    }
    let scales = node.input.get(1).and_then(|name| constant(context, name));
    let scales = scales.context("expected the scales of a Resize of opset 10 as a constant")??;
    let scales = scales.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let shrinks = scales.iter().any(|&scale| scale < 1.0);
    ensure!(!shrinks || scales.iter().all(|&scale| scale <= 1.0), "scales that shrink and stretch at once: {scales:?}");
    let mut modern = node.clone();
    modern.attribute.push(text("nearest_mode", if shrinks { "ceil" } else { "floor" }));
    tracts(context, &modern)
}

fn upsample(context: &ParsingContext, node: &NodeProto) -> Built {
    let [x, scales] = &*node.input else { bail!("{} inputs instead of 2", node.input.len()) };
    let mode = match node.get_attr_opt::<&str>("mode")?.unwrap_or("nearest") {
        "nearest" => "nearest",
        "linear" | "bilinear" => "linear",
        other => bail!("attribute 'mode' holds '{other}'"),
    };
    let modern = NodeProto {
        op_type: "Resize".into(),
        input: vec![x.clone(), String::new(), scales.clone()],
        attribute: vec![
            text("mode", mode),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ],
        ..node.clone()
    };
    tracts(&ParsingContext { onnx_operator_set_version: MODERN_OPSET, ..context.clone() }, &modern)
}

fn tracts(context: &ParsingContext, node: &NodeProto) -> Built {
    let tracts = context.framework.op_register.0.get(TRACTS).context("tract's Resize is missing")?;
    tracts(context, node)
}

/// A value that the file itself holds.
fn constant(context: &ParsingContext, name: &str) -> Option<TractResult<Tensor>> {
    let find = |graph: &&tract_onnx::pb::GraphProto| -> Option<TensorProto> {
        let held = graph.initializer.iter().find(|tensor| tensor.name == name);
        let made =
            || graph.node.iter().find(|node| node.op_type == "Constant" && node.output.iter().any(|out| out == name));
        held.cloned().or_else(|| made()?.attribute.iter().find_map(|attribute| attribute.t.clone()))
    };
    context.parent_graphs.iter().find_map(find).map(|tensor| context.load_tensor(&tensor))
}

fn text(name: &str, value: &str) -> AttributeProto {
    let r#type = AttributeType::String as i32;
    AttributeProto { name: name.into(), r#type, s: value.as_bytes().to_vec(), ..AttributeProto::default() }
}
