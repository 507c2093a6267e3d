//! What is changed in a file's graph before an engine sees it, where that is the simple cure for something that the engine
//! lacks or gets wrong.
//!
//! Each pass is a file of its own, leaves the meaning of the graph as it is, and does nothing to a graph that it doesn't
//! concern. They run in the order of [`apply`], once.

mod byte_pools;
mod distances;
mod edit;
mod eight_bits;
mod graphs;
mod initial_states;
mod inner_shapes;
mod loop_sequences;
mod log_softmax;
mod lp_pool;
mod nested_scans;
mod optionals;
mod quantised;
mod random_like;
mod reversed;
mod scan_8;
mod sequences;
mod sixteen_bits;
mod strided_same;
#[cfg(test)]
mod testing;
mod top_k;
mod transposed_same;
mod transposed_size;
mod upsample;
mod windows;
mod zeros_of_shape;
#[cfg(feature = "onnxruntime")]
mod zip_map;

use tract_onnx::pb::ModelProto;

pub use self::edit::OWN_DOMAIN;

/// Changes the graph in place.
pub fn apply(model: &mut ModelProto) {
    inner_shapes::apply(model);
    zeros_of_shape::write_out(model);
    random_like::apply(model);
    scan_8::modernise(model);
    optionals::apply(model);
    loop_sequences::apply(model);
    sequences::apply(model);
    sixteen_bits::widen(model);
    eight_bits::widen(model);
    quantised::expand(model);
    byte_pools::widen(model);
    distances::join(model);
    lp_pool::expand(model);
    strided_same::cut(model);
    transposed_size::cut(model);
    transposed_same::write_out(model);
    top_k::modernise(model);
    upsample::modernise(model);
    log_softmax::shift(model);
    initial_states::add(model);
    reversed::turn_round(model);
    nested_scans::fence(model);
}

/// Whether a pooling of the graph rounds the number of its windows' places up.
pub fn rounds_places_up(model: &ModelProto) -> bool {
    edit::nodes(model).iter().any(|node| edit::int_of(node, "ceil_mode").is_some_and(|mode| mode != 0))
}

/// Whether a pass puts others in the place of an operator. It may leave a node whose case it doesn't know.
pub fn replaces(domain: &str, name: &str) -> bool {
    match domain {
        quantised::DOMAIN => quantised::OPERATORS.contains(&name),
        "" | "ai.onnx" => name == lp_pool::OPERATOR,
        _ => false,
    }
}

/// Changes what the gateway itself can't serve, whatever the engine, and nothing else: for an engine that has and computes
/// everything. Says whether it changed the graph.
#[cfg(feature = "onnxruntime")]
pub fn apply_for_serving(model: &mut ModelProto) -> bool {
    zip_map::drop_zip_maps(model)
}
