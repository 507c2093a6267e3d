//! `ai.onnx.ml.ArrayFeatureExtractor` (version 1): columns of the last dimension by their places.
//!
//! tract has it, but panics on a place that is not there and gives one dimension where ONNX Runtime gives two.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(node, ArrayFeatureExtractor)
}

/// Inputs: data `[.., columns]` of any type, and places of any shape. Output `[.., places]`; as in ONNX Runtime,
/// `[1, places]` for data of one dimension.
#[derive(Debug)]
struct ArrayFeatureExtractor;

fn pick<T: Datum + Clone>(data: &Tensor, places: &[usize], shape: &[usize]) -> TractResult<Tensor> {
    let columns = data.shape().last().copied().unwrap_or(1).max(1);
    let view = data.try_as_plain_ram()?;
    let rows = view.as_slice::<T>()?.chunks_exact(columns);
    let picked: Vec<T> = rows.flat_map(|row| places.iter().map(|place| row[*place].clone())).collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, picked)?.into())
}

fn output_shape<D: Clone + From<usize>>(data: &[D], places: D) -> TractResult<TVec<D>> {
    Ok(match data {
        [] => bail!("the data has no dimensions"),
        [_] => tvec!(D::from(1), places),
        [front @ .., _] => front.iter().cloned().chain([places]).collect(),
    })
}

impl Kernel for ArrayFeatureExtractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn input_type(&self, input: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(if input == 0 && given != TDim::datum_type() { given } else { i64::datum_type() })
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [data, places] = exactly(inputs)?;
        let places = places.shape.iter().product();
        Ok(tvec!(data.datum_type.fact(output_shape(&data.shape, places)?)))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let data = &inputs[0];
        let shape = output_shape(data.shape(), inputs[1].len())?;
        let columns = data.shape().last().copied().unwrap_or_default();
        let view = inputs[1].try_as_plain_ram()?;
        let within = |place: &i64| usize::try_from(*place).ok().filter(|place| *place < columns);
        let place = |place: &i64| within(place).with_context(|| format!("there is no column {place} of {columns}"));
        let places = view.as_slice::<i64>()?.iter().map(place).collect::<TractResult<Vec<usize>>>()?;
        let picked = match data.datum_type() {
            DatumType::String => pick::<String>(data, &places, &shape)?,
            DatumType::F32 => pick::<f32>(data, &places, &shape)?,
            DatumType::F64 => pick::<f64>(data, &places, &shape)?,
            DatumType::I64 => pick::<i64>(data, &places, &shape)?,
            DatumType::I32 => pick::<i32>(data, &places, &shape)?,
            other => bail!("it takes no {other:?}"),
        };
        Ok(tvec!(picked))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn extracted(data: Tensor, places: Tensor) -> TractResult<Tensor> {
        Ok(run(Node::new("ArrayFeatureExtractor"), &[data, places], 1)?.remove(0))
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn columns_are_picked_in_the_order_of_their_places() {
        let data = || tensor2(&[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(extracted(data(), tensor1(&[2i64, 0])).unwrap(), tensor2(&[[3.0f32, 1.0], [6.0, 4.0]]));
        assert_eq!(extracted(data(), tensor2(&[[1i64], [1]])).unwrap(), tensor2(&[[2.0f32, 2.0], [5.0, 5.0]]));
        let texts = tensor1(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(extracted(texts, tensor1(&[1i64])).unwrap(), tensor2(&[["b".to_owned()]]));
    }

    #[test]
    fn a_place_that_is_not_there_is_an_error() {
        for place in [3, -1] {
            let error = extracted(tensor2(&[[1i64, 2, 3]]), tensor1(&[place])).unwrap_err();
            assert!(format!("{error:#}").contains("no column"), "{error:#}");
        }
    }
}
