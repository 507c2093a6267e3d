//! What is changed in a file's graph before an engine sees it, where that is the simple cure for something that the engine
//! lacks or gets wrong.
//!
//! Each pass is a file of its own, leaves the meaning of the graph as it is, and does nothing to a graph that it doesn't
//! concern. They run in the order of [`apply`], once.

#[cfg(feature = "onnxruntime")]
mod zip_map;

use tract_onnx::pb::ModelProto;

/// Changes the graph in place.
pub fn apply(_model: &mut ModelProto) {}

/// Changes what the gateway itself can't serve, whatever the engine, and nothing else: for an engine that has and computes
/// everything. Says whether it changed the graph.
#[cfg(feature = "onnxruntime")]
pub fn apply_for_serving(model: &mut ModelProto) -> bool {
    zip_map::drop_zip_maps(model)
}
