//! `ai.onnx.GatherND` (version 13): the elements or slices at the places that rows of indices name.
//!
//! In place of tract's, which takes no negative index and panics at one that is out of range.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::inputs::{exactly, hangs_on_symbols, integers, plain};
use super::kernel::Kernel;
use super::nd_places::block;
use super::stand_in::stand_in;
use super::unfit::unfit;
use super::{Built, bounded};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let batch_dims = node.get_attr_opt::<i64>("batch_dims")?.unwrap_or(0);
    let batch_dims =
        usize::try_from(batch_dims).ok().with_context(|| format!("attribute 'batch_dims' holds {batch_dims}"))?;
    stand_in(context, node, GatherNd { batch_dims }, |inputs| !inputs.iter().any(hangs_on_symbols))
}

#[derive(Debug)]
struct GatherNd {
    /// How many axes of both inputs go together.
    batch_dims: usize,
}

impl GatherNd {
    fn shape<D: DimLike>(&self, data: &[D], indices: &[D]) -> TractResult<TVec<D>> {
        let (named, rows) = indices.split_last().context("GatherND of indices without axes")?;
        let first = self.batch_dims.checked_add(named.to_usize().context("GatherND of open rows of indices")?);
        let first = first.filter(|first| *first <= data.len() && self.batch_dims <= rows.len());
        let first = first.with_context(|| format!("GatherND of {} axes by indices of {indices:?}", data.len()))?;
        Ok(rows.iter().chain(&data[first..]).cloned().collect())
    }

    fn gather<T: Datum>(&self, data: &Tensor, indices: &Tensor, shape: &[usize]) -> TractResult<Tensor> {
        let axes = &data.shape()[self.batch_dims..];
        let named = indices.shape()[indices.rank() - 1];
        let size: usize = axes[named..].iter().product();
        let of_batch: usize = axes.iter().product();
        let batches: usize = data.shape()[..self.batch_dims].iter().product();
        let rows: usize = indices.shape()[self.batch_dims..indices.rank() - 1].iter().product();
        let (data, places) = (data.try_as_plain_ram()?, integers(indices)?);
        let data = data.as_slice::<T>()?;
        let mut made: Vec<T> = Vec::with_capacity(shape.iter().product());
        for (batch, row) in (0..batches).flat_map(|batch| (0..rows).map(move |row| (batch, row))) {
            let from = (batch * rows + row) * named;
            let start = batch * of_batch + block("GatherND", &places[from..from + named], axes)? * size;
            made.extend_from_slice(&data[start..start + size]);
        }
        Ok(tract_ndarray::ArrayD::from_shape_vec(shape, made)?.into())
    }
}

impl Kernel for GatherNd {
    fn name(&self) -> &'static str {
        "GatherND"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [data, indices] = exactly(inputs)?;
        Ok(tvec![data.datum_type.fact(self.shape(&data.shape, &indices.shape)?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (data, indices) = (&inputs[0], &inputs[1]);
        let (of_data, of_indices) = (data.shape(), indices.shape());
        let shape = self.shape(of_data, of_indices).map_err(|error| unfit(error.to_string()))?;
        // Not asked before: a plan is also made for rows that an index of the file doesn't have.
        if of_data[..self.batch_dims] != of_indices[..self.batch_dims] {
            return Err(unfit(format!("GatherND of batches of {of_data:?} by indices of {of_indices:?}")));
        }
        bounded::check_made("GatherND", &shape, data.datum_type())?;
        Ok(tvec![dispatch_datum!(Self::gather(data.datum_type())(self, data, indices, &shape))?])
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::testing::{Node, run, run_known, shapes_for_any_rows};
    use super::*;

    fn table() -> Tensor {
        tensor2(&[[0f32, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
    }

    /// Known at load and with the request.
    fn gathered(batch_dims: i64, data: Tensor, indices: Tensor) -> TractResult<Tensor> {
        let node = || Node::new("GatherND").int("batch_dims", batch_dims);
        let known = run_known(node(), std::slice::from_ref(&data), std::slice::from_ref(&indices), 1);
        let given = run(node(), &[data, indices], 1);
        assert_eq!(known.is_ok(), given.is_ok(), "{known:?} and {given:?}");
        let given = given?.remove(0);
        assert_eq!(known?, std::slice::from_ref(&given));
        Ok(given)
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn negative_indices_count_from_the_end() {
        let of_table = |indices: Tensor| gathered(0, table(), indices).unwrap();
        assert_eq!(of_table(tensor2(&[[0i64, 1], [-1, -2]])), tensor1(&[1f32, 6.0]));
        assert_eq!(of_table(tensor2(&[[0i64, -1]])), tensor1(&[3f32]));
        assert_eq!(of_table(tensor2(&[[-1i64]])), tensor2(&[[4f32, 5.0, 6.0, 7.0]]));
        assert_eq!(of_table(tensor3(&[[[1i64, 0]], [[-2, -4]]])), tensor2(&[[4f32], [0.0]]));
        let of_batches = gathered(1, table(), tensor2(&[[-1i64], [-4]])).unwrap();
        assert_eq!(of_batches, tensor1(&[3f32, 4.0]));
        let cube = tensor3(&[[[0i64, 1], [2, 3]], [[4, 5], [6, 7]]]);
        let rows = tensor3(&[[[-1i64], [0]], [[0], [-2]]]);
        assert_eq!(gathered(1, cube.clone(), rows.clone()).unwrap().shape(), [2, 2, 2]);
        assert_eq!(gathered(2, cube, rows).unwrap(), tensor2(&[[1i64, 2], [4, 6]]));
        let texts = tensor2(&[["a".to_owned(), "b".to_owned()], ["c".to_owned(), "d".to_owned()]]);
        let made = run(Node::new("GatherND"), &[texts, tensor2(&[[-1i64, 0]])], 1).unwrap();
        assert_eq!(made, [tensor1(&["c".to_owned()])]);
        assert_eq!(of_table(Tensor::zero::<i64>(&[0, 2]).unwrap()).shape(), [0]);
    }

    #[test]
    fn an_index_out_of_range_is_the_requests_fault() {
        for (index, of) in [(2i64, 2), (-3, 2), (i64::MAX, 2), (i64::MIN, 2)] {
            let error = run(Node::new("GatherND"), &[table(), tensor2(&[[index]])], 1).unwrap_err();
            assert!(is_unfit(&error), "{error:#}");
            assert!(format!("{error:#}").contains(&format!("index {index} along an axis of {of}")), "{error:#}");
        }
        assert!(gathered(0, table(), tensor2(&[[0i64, 4]])).is_err());
        assert!(gathered(0, table(), tensor2(&[[0i64, 0, 0]])).is_err());
        assert!(gathered(2, table(), tensor2(&[[0i64], [0]])).is_err());
        assert!(gathered(-1, table(), tensor2(&[[0i64]])).is_err());
    }

    #[test]
    fn rows_stay_rows() {
        let node = Node::new("GatherND").int("batch_dims", 1);
        assert_eq!(shapes_for_any_rows(node, &[table(), tensor2(&[[0i64], [1]])], 1).unwrap(), ["N"]);
    }
}
