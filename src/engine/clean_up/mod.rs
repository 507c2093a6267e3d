//! What is changed in a file's graph before an engine sees it, where that is the simple cure for something that the engine
//! lacks or gets wrong.
//!
//! Each pass is a file of its own, leaves the meaning of the graph as it is, and does nothing to a graph that it doesn't
//! concern. They run in the order of [`apply`], once.

mod graphs;
mod inner_shapes;
mod random_like;
mod sequences;

use tract_onnx::pb::ModelProto;

/// Changes the graph in place.
pub fn apply(model: &mut ModelProto) {
    inner_shapes::apply(model);
    random_like::apply(model);
    sequences::apply(model);
}
