//! `ai.onnx.Tile` (version 13) of texts; tract has that of numbers.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::at_run::Open;
use super::inputs::{exactly, integers};
use super::kernel::Kernel;
use super::stand_in::stand_in;
use super::unfit::unfit;
use super::{Built, bounded};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let dims = Open::of(context);
    stand_in(context, node, Tile { dims }, |inputs| inputs[0].datum_type == DatumType::String)
}

#[derive(Debug)]
struct Tile {
    /// What the request's counts make of the axes.
    dims: Open,
}

impl Kernel for Tile {
    fn name(&self) -> &'static str {
        "Tile"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input, repeats] = exactly(inputs)?;
        let mut shape = input.shape.to_tvec();
        match &repeats.konst {
            Some(repeats) => {
                let counts = counts(repeats, shape.len())?;
                shape.iter_mut().zip(counts).for_each(|(dim, count)| *dim = dim.clone() * count.to_dim());
            }
            None => shape = (0..shape.len()).map(|axis| self.dims.axis(axis)).collect::<TractResult<_>>()?,
        }
        Ok(tvec![input.datum_type.fact(shape)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut shape = TVec::from_slice(inputs[0].shape());
        let counts = counts(&inputs[1], shape.len())?;
        let made: TVec<usize> = shape.iter().zip(&counts).map(|(dim, count)| dim.saturating_mul(*count)).collect();
        bounded::check_made("Tile", &made, DatumType::String)?;
        let mut texts = inputs[0].try_as_plain_ram()?.as_slice::<String>()?.to_vec();
        for (axis, count) in counts.into_iter().enumerate().filter(|(_, count)| *count != 1) {
            let block: usize = shape[axis..].iter().product();
            texts = match block {
                0 => vec![],
                _ => texts
                    .chunks_exact(block)
                    .flat_map(|texts| std::iter::repeat_n(texts, count).flatten())
                    .cloned()
                    .collect(),
            };
            shape[axis] *= count;
        }
        Ok(tvec![tract_ndarray::ArrayD::from_shape_vec(&*shape, texts)?.into()])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

fn counts(repeats: &Tensor, rank: usize) -> TractResult<Vec<usize>> {
    let repeats = integers(repeats)?;
    let counts = repeats.iter().map(|&count| usize::try_from(count)).collect::<Result<Vec<usize>, _>>().ok();
    let counts = counts.filter(|counts| counts.len() == rank);
    counts.ok_or_else(|| unfit(format!("Tile of {rank} axes by {repeats:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run, run_known};
    use super::*;

    fn texts(rows: &[&[&str]]) -> Tensor {
        let all: Vec<String> = rows.iter().flat_map(|row| row.iter().map(|text| (*text).to_owned())).collect();
        tensor1(&all).into_shape(&[rows.len(), rows[0].len()]).unwrap()
    }

    fn tiled(repeats: &[i64]) -> TractResult<Tensor> {
        let x = texts(&[&["a", "bé"], &["", "d"]]);
        let known = run_known(Node::new("Tile"), std::slice::from_ref(&x), &[tensor1(repeats)], 1);
        let given = run(Node::new("Tile"), &[x, tensor1(repeats)], 1);
        assert_eq!(known.is_ok(), given.is_ok(), "{known:?} and {given:?}");
        let given = given?.remove(0);
        assert_eq!(known?, std::slice::from_ref(&given));
        Ok(given)
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn texts_are_repeated_along_each_axis() {
        let row = ["a", "bé", "a", "bé", "a", "bé"];
        let below = ["", "d", "", "d", "", "d"];
        assert_eq!(tiled(&[2, 3]).unwrap(), texts(&[&row, &below, &row, &below]));
        assert_eq!(tiled(&[1, 1]).unwrap(), texts(&[&["a", "bé"], &["", "d"]]));
        assert_eq!(tiled(&[0, 2]).unwrap().shape(), [0, 4]);
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        for repeats in [&[2i64][..], &[1, 1, 1], &[-1, 1], &[1 << 40, 1 << 40], &[i64::MAX, 2]] {
            assert!(tiled(repeats).is_err(), "{repeats:?}");
        }
    }
}
