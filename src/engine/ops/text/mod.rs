//! Operators on texts.
//!
//! A text is UTF-8 of any length and may hold NUL; what is not UTF-8 never gets here. Lengths come from requests, so
//! what grows beyond them has a bound.

pub mod cast;
pub mod concat;
pub mod full_match;
mod ngrams;
pub mod normalizer;
mod pattern;
pub mod split;
pub mod tfidf;
pub mod tokenizer;

use tract_onnx::tract_hir::internal::*;

use super::inputs::exactly;

/// Most texts that an operator makes of its input: the size of a table is the product of its rows and its longest row.
const MAX_TEXTS: usize = 1 << 22;

/// The texts of a tensor, by row.
fn texts(tensor: &Tensor) -> TractResult<&[String]> {
    tensor.try_as_plain_ram()?.as_slice::<String>()
}

/// Refuses an input that holds no texts.
fn ensure_text(operator: &str, fact: &TypedFact) -> TractResult<()> {
    ensure!(fact.datum_type == String::datum_type(), "{operator} takes texts, not {:?}", fact.datum_type);
    Ok(())
}

/// The only input, which must hold texts.
fn only_text<'a>(operator: &str, inputs: &[&'a TypedFact]) -> TractResult<&'a TypedFact> {
    let [input] = exactly(inputs)?;
    ensure_text(operator, input)?;
    Ok(input)
}

fn tensor<T: Datum>(shape: &[usize], values: Vec<T>) -> TractResult<Tensor> {
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into())
}

/// A table of the rows, each filled up to the longest; its shape is `outer` and that length.
///
/// # Errors
/// Where the table would hold more than `MAX_TEXTS`.
fn table(outer: &[usize], rows: Vec<Vec<String>>, filling: &str) -> TractResult<Tensor> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    ensure!(
        rows.len().checked_mul(width).is_some_and(|texts| texts <= MAX_TEXTS),
        "{} rows of up to {width} texts; at most {MAX_TEXTS} texts are made of one input",
        rows.len()
    );
    let mut all = Vec::with_capacity(rows.len() * width);
    for row in rows {
        let missing = width - row.len();
        all.extend(row);
        all.extend(std::iter::repeat_n(filling.to_owned(), missing));
    }
    let shape: TVec<usize> = outer.iter().copied().chain([width]).collect();
    tensor(&shape, all)
}
