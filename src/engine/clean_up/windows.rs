//! What passes need to know of convolutions' and poolings' windows.

use std::collections::HashMap;

use tract_onnx::pb::{ModelProto, NodeProto};

use super::edit::{attribute, graphs, input};

/// The kernels' sizes of all weights of a model that may be a convolution's, by name.
pub struct Kernels(HashMap<String, Vec<i64>>);

impl Kernels {
    pub fn of(model: &ModelProto) -> Self {
        let initializers = graphs(model).into_iter().flat_map(|graph| &graph.initializer);
        let weights = initializers.filter(|tensor| tensor.dims.len() > 2);
        Self(weights.map(|tensor| (tensor.name.clone(), tensor.dims[2..].to_vec())).collect())
    }

    /// How far the node's window reaches along each axis, from its attributes or its weights; `None` where that is not
    /// known or out of range.
    pub fn window(&self, node: &NodeProto) -> Option<Vec<i64>> {
        let kernel = match attribute(node, "kernel_shape") {
            Some(sizes) => &sizes.ints,
            None => self.0.get(input(node, if node.op_type == "QLinearConv" { 3 } else { 1 })?)?,
        };
        let along = |(axis, size): (usize, &i64)| {
            let dilation = attribute(node, "dilations").map_or(Some(1), |held| held.ints.get(axis).copied())?;
            size.checked_sub(1)?.checked_mul(dilation)?.checked_add(1).filter(|window| *window > 0)
        };
        kernel.iter().enumerate().map(along).collect()
    }
}

/// Whether what is padded hangs on the image's size, and if so whether more of it is before the image than behind it.
pub fn same(node: &NodeProto) -> Option<bool> {
    let how = attribute(node, "auto_pad").map(|held| held.s.as_slice());
    // tract looks at these first.
    match how.filter(|_| attribute(node, "pads").is_none())? {
        b"SAME_UPPER" => Some(false),
        b"SAME_LOWER" => Some(true),
        _ => None,
    }
}
