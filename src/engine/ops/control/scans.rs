//! What tract's Scan, which its recurrences are made of too, is not to carry from one run to the next.

use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_hir::internal::TypedModel;

/// Has every Scan of the graph, and of those inside it, begin with the state that it is given, each time that it runs. As
/// tract makes them one goes on where it ended, which inside another is at each turn of that one.
pub fn begin_anew(model: &mut TypedModel) {
    // A file's graphs nest no deeper than its decoder lets them.
    for scan in model.nodes.iter_mut().filter_map(|node| node.op_as_mut::<Scan>()) {
        scan.reset_every_turn = true;
        begin_anew(&mut scan.body);
    }
}
