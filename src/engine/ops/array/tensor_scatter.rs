//! `TensorScatter` (ONNX 24): writes an update into a cache of each row, from the row's own place on.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::tract_ndarray::Axis;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::integers;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let circular = match node.get_attr_opt::<&str>("mode")?.unwrap_or("linear") {
        "linear" => false,
        "circular" => true,
        other => bail!("attribute 'mode' holds '{other}'"),
    };
    built(node, TensorScatter { axis: node.get_attr_opt("axis")?.unwrap_or(-2), circular })
}

#[derive(Debug)]
struct TensorScatter {
    axis: i64,
    /// Whether what goes beyond the end goes on at the beginning; an error otherwise.
    circular: bool,
}

impl TensorScatter {
    /// The axis of the places, which is never that of the rows.
    fn axis(&self, rank: usize) -> TractResult<usize> {
        let axis = if self.axis < 0 { self.axis + rank as i64 } else { self.axis };
        let axis = usize::try_from(axis).ok().filter(|axis| (1..rank).contains(axis));
        axis.with_context(|| format!("attribute 'axis' holds {} for {rank} axes", self.axis))
    }

    fn scatter<T: Datum + Copy>(&self, inputs: &[TValue], starts: &[i64]) -> TractResult<Tensor> {
        let mut cache = inputs[0].to_plain_array_view::<T>()?.to_owned();
        let update = inputs[1].to_plain_array_view::<T>()?;
        // Rows are gone from the axes of one row.
        let axis = Axis(self.axis(cache.ndim())? - 1);
        for ((mut cache, update), &start) in cache.outer_iter_mut().zip(update.outer_iter()).zip(starts) {
            let (places, count) = (cache.len_of(axis), update.len_of(axis));
            let start = usize::try_from(start).with_context(|| format!("'write_indices' holds {start}"))?;
            let end = start.checked_add(count).filter(|end| self.circular || *end <= places);
            ensure!(end.is_some() && count <= places, "{count} places from {start} on, of {places}");
            for at in 0..count {
                let place = (start + at) % places;
                cache.index_axis_mut(axis, place).assign(&update.index_axis(axis, at));
            }
        }
        Ok(cache.into())
    }
}

impl Kernel for TensorScatter {
    fn name(&self) -> &'static str {
        "TensorScatter"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ([cache, update] | [cache, update, _]) = inputs else { bail!("{} inputs instead of 2 or 3", inputs.len()) };
        ensure!(cache.datum_type == update.datum_type, "{:?} into {:?}", update.datum_type, cache.datum_type);
        let axis = self.axis(cache.rank())?;
        ensure!(cache.rank() == update.rank(), "{} axes into {}", update.rank(), cache.rank());
        let mut sizes = cache.shape.iter().zip(update.shape.iter()).enumerate();
        let fits = sizes.all(|(at, (a, b))| at == axis || a.compatible_with(b));
        ensure!(fits, "an update of {:?} into {:?}", update.shape, cache.shape);
        Ok(tvec!(cache.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let rows = inputs[0].shape()[0];
        let axis = self.axis(inputs[0].rank())?;
        let sizes = inputs[0].shape().iter().zip(inputs[1].shape()).enumerate();
        let fits = sizes.into_iter().all(|(at, (a, b))| at == axis || a == b);
        ensure!(fits, "an update of {:?} into {:?}", inputs[1].shape(), inputs[0].shape());
        let starts = match inputs.get(2) {
            Some(starts) => integers(starts)?,
            None => vec![0; rows],
        };
        ensure!(starts.len() == rows, "'write_indices' of {} for {rows} rows", starts.len());
        let made = match inputs[0].datum_type() {
            DatumType::F32 => self.scatter::<f32>(inputs, &starts)?,
            DatumType::F64 => self.scatter::<f64>(inputs, &starts)?,
            DatumType::I64 => self.scatter::<i64>(inputs, &starts)?,
            DatumType::I32 => self.scatter::<i32>(inputs, &starts)?,
            DatumType::I8 => self.scatter::<i8>(inputs, &starts)?,
            DatumType::U8 => self.scatter::<u8>(inputs, &starts)?,
            DatumType::Bool => self.scatter::<bool>(inputs, &starts)?,
            other => bail!("a cache of {other:?}"),
        };
        Ok(tvec!(made))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn scattered(mode: &str, starts: [i64; 2]) -> TractResult<Vec<Tensor>> {
        let cache = tensor3(&[[[1.0f32], [2.0], [3.0]], [[4.0], [5.0], [6.0]]]);
        let update = tensor3(&[[[10.0f32], [20.0]], [[30.0], [40.0]]]);
        run(Node::new("TensorScatter").text("mode", mode), &[cache, update, tensor1(&starts)], 1)
    }

    #[test]
    fn each_row_is_written_from_its_own_place() {
        let made = scattered("linear", [0, 1]).unwrap();
        assert_eq!(made, [tensor3(&[[[10.0f32], [20.0], [3.0]], [[4.0], [30.0], [40.0]]])]);
        let made = scattered("circular", [2, 1]).unwrap();
        assert_eq!(made, [tensor3(&[[[20.0f32], [2.0], [10.0]], [[4.0], [30.0], [40.0]]])]);
    }

    #[test]
    fn what_goes_beyond_the_end_is_refused() {
        assert!(scattered("linear", [0, 2]).is_err());
        assert!(scattered("linear", [0, i64::MAX]).is_err());
        assert!(scattered("circular", [-1, 0]).is_err());
        assert!(scattered("round", [0, 0]).is_err());
    }
}
