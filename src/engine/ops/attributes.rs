//! Attributes that may be written in more than one form.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{Arc, Tensor, TractErrorContext, TractResult, ensure, rctensor1};

/// A list of numbers, from the attribute `name` (floats) or `<name>_as_tensor` (float or double); `None` where the node
/// has neither. Later versions of the operators keep doubles in the second form.
pub fn numbers(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Option<Vec<f64>>> {
    if let Some(floats) = node.get_attr_opt_slice::<f32>(name)? {
        return Ok(Some(floats.iter().copied().map(f64::from).collect()));
    }
    let Some(tensor) = tensor(context, node, &format!("{name}_as_tensor"))? else { return Ok(None) };
    ensure!(tensor.datum_type().is_float(), "attribute '{name}_as_tensor' holds {:?}, not floats", tensor.datum_type());
    let doubles = tensor.cast_to::<f64>()?;
    Ok(Some(doubles.try_as_plain_ram()?.as_slice::<f64>()?.to_vec()))
}

/// A tensor attribute; `None` where the node lacks it.
pub fn tensor(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Option<Tensor>> {
    let Some(proto) = node.get_attr_opt::<&tract_onnx::pb::TensorProto>(name)? else { return Ok(None) };
    context.load_tensor(proto).map(Some).with_context(|| format!("attribute '{name}'"))
}

/// A list of texts; `None` where the node lacks it or it is empty.
pub fn texts(node: &NodeProto, name: &str) -> TractResult<Option<Arc<Tensor>>> {
    let texts = node.get_attr_opt_vec::<String>(name)?.filter(|texts| !texts.is_empty());
    Ok(texts.map(|texts| rctensor1(&texts)))
}

/// A list of integers; `None` where the node lacks it or it is empty.
pub fn integers(node: &NodeProto, name: &str) -> TractResult<Option<Arc<Tensor>>> {
    let integers = node.get_attr_opt_slice::<i64>(name)?.filter(|integers| !integers.is_empty());
    Ok(integers.map(rctensor1))
}
