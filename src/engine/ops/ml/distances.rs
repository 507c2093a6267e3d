//! Squared distances of all rows to all others, which a pass writes into a graph (see `clean_up::distances`).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::dense::Rows;
use super::inputs::exactly;
use super::kernel::{Kernel, built};
use super::written::written;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, Distances)
}

/// Takes rows and others, both of FP32; gives for each of the others its squared distances to all rows.
#[derive(Debug)]
struct Distances;

impl Kernel for Distances {
    fn name(&self) -> &'static str {
        "Distances"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [rows, others] = exactly(inputs)?;
        for fact in [rows, others] {
            ensure!(fact.datum_type == DatumType::F32 && fact.rank() == 2, "{fact:?} instead of rows of FLOAT");
        }
        ensure!(
            rows.shape[1].compatible_with(&others.shape[1]),
            "rows of {} and of {}",
            rows.shape[1],
            others.shape[1]
        );
        Ok(tvec![f32::fact([others.shape[0].clone(), rows.shape[0].clone()])])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (rows, others) = (&inputs[0], &inputs[1]);
        let (width, shape) = (rows.shape()[1], [others.shape()[0], rows.shape()[0]]);
        ensure!(width > 0 && others.shape()[1] == width, "rows of {width} and of {}", others.shape()[1]);
        let packed = Rows::new(rows.try_as_plain_ram()?.as_slice::<f32>()?, width);
        let others = others.try_as_plain_ram()?.as_slice::<f32>()?;
        let distances = written::<f32>(&shape, |to| {
            let mut to = to.chunks_exact_mut(shape[1].max(1));
            packed.squared_distances(others, |distances| {
                if let Some(to) = to.next() {
                    to.copy_from_slice(distances);
                }
            });
            Ok(())
        })?;
        Ok(tvec![distances])
    }
}
