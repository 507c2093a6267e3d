//! `ai.onnx.TfIdfVectorizer` (version 9): counts the n-grams of a pool in each row of texts or integers.
//!
//! Follows ONNX Runtime where ONNX is silent: the weight of an n-gram is the one at its place in the pool, wherever its
//! column is; columns that two n-grams share add up; without weights each is 1, and they are not looked at for `TF`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::attributes;
use super::super::inputs::exactly;
use super::super::kernel::{Kernel, built};
use super::ngrams::{Lengths, NGrams, Numbers};
use super::texts;

/// Most columns.
const MAX_COLUMNS: i64 = 1 << 24;
/// Longest n-gram, and most tokens that are left out between two of its own: a row's time grows with both.
const MAX_LENGTH: i64 = 1 << 10;
/// Most numbers in the output.
const MAX_NUMBERS: usize = 1 << 28;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let lengths = lengths(node)?;
    let (pool, tokens) = match (attributes::texts(node, "pool_strings")?, attributes::integers(node, "pool_int64s")?) {
        (Some(pool), None) => {
            let (row, numbers) = Numbers::of(texts(&pool)?)?;
            (row, Tokens::Texts(numbers))
        }
        (None, Some(pool)) => {
            let (row, numbers) = Numbers::of(pool.try_as_plain_ram()?.as_slice::<i64>()?)?;
            (row, Tokens::Integers(numbers))
        }
        (None, None) => bail!("neither attribute 'pool_strings' nor 'pool_int64s'"),
        (Some(_), Some(_)) => bail!("both attributes 'pool_strings' and 'pool_int64s'"),
    };
    let starts: Vec<usize> = node.get_attr_vec("ngram_counts")?;
    ensure!(starts.first() == Some(&0), "attribute 'ngram_counts' doesn't begin with 0");
    ensure!(lengths.max <= starts.len(), "attribute 'max_gram_length' is beyond 'ngram_counts'");
    let ngrams = NGrams::new(&pool, &starts, lengths)?;
    let columns = columns(node, &starts, pool.len())?;
    let weights = node.get_attr_opt_vec::<f32>("weights")?.filter(|weights| !weights.is_empty());
    if let Some(weights) = &weights {
        ensure!(
            weights.len() == columns.len(),
            "attribute 'weights' has {} for {} n-grams",
            weights.len(),
            columns.len()
        );
    }
    let count_columns = columns.iter().max().map_or(0, |last| last + 1);
    let counted = match node.get_attr::<&str>("mode")? {
        "TF" => Counted::Occurrences,
        "IDF" => Counted::Presence(weights),
        "TFIDF" => Counted::Weights(weights),
        other => bail!("attribute 'mode' is '{other}', not TF, IDF or TFIDF"),
    };
    built(node, TfIdf { lengths, ngrams, tokens, columns, count_columns, counted })
}

fn lengths(node: &NodeProto) -> TractResult<Lengths> {
    let number = |name: &str, least: i64| -> TractResult<usize> {
        let value = node.get_attr::<i64>(name)?;
        ensure!((least..=MAX_LENGTH).contains(&value), "attribute '{name}' is {value}");
        Ok(usize::try_from(value)?)
    };
    let lengths = Lengths {
        min: number("min_gram_length", 1)?,
        max: number("max_gram_length", 1)?,
        max_skip: number("max_skip_count", 0)?,
    };
    ensure!(lengths.min <= lengths.max, "attribute 'min_gram_length' is above 'max_gram_length'");
    Ok(lengths)
}

/// The column of each n-gram.
fn columns(node: &NodeProto, starts: &[usize], pool: usize) -> TractResult<Vec<usize>> {
    let one = |column: &i64| {
        ensure!((0..MAX_COLUMNS).contains(column), "attribute 'ngram_indexes' holds {column}");
        Ok(usize::try_from(*column)?)
    };
    let columns = node.get_attr_slice::<i64>("ngram_indexes")?.iter().map(one).collect::<TractResult<Vec<_>>>()?;
    let ends = starts.iter().skip(1).copied().chain([pool]);
    let ngrams: usize = starts.iter().zip(ends).zip(1..).map(|((&start, end), length)| (end - start) / length).sum();
    ensure!(columns.len() == ngrams, "attribute 'ngram_indexes' has {} for {ngrams} n-grams", columns.len());
    Ok(columns)
}

#[derive(Debug)]
struct TfIdf {
    lengths: Lengths,
    ngrams: NGrams,
    tokens: Tokens,
    /// By n-gram.
    columns: Vec<usize>,
    count_columns: usize,
    counted: Counted,
}

#[derive(Debug)]
enum Tokens {
    Texts(Numbers<String>),
    Integers(Numbers<i64>),
}

/// What a column holds; weights are by n-gram.
#[derive(Debug)]
enum Counted {
    Occurrences,
    Presence(Option<Vec<f32>>),
    Weights(Option<Vec<f32>>),
}

impl Kernel for TfIdf {
    fn name(&self) -> &'static str {
        "TfIdfVectorizer"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let fits = match self.tokens {
            Tokens::Texts(_) => input.datum_type == String::datum_type(),
            Tokens::Integers(_) => matches!(input.datum_type, DatumType::I64 | DatumType::I32 | DatumType::TDim),
        };
        ensure!(fits, "the pool's tokens are not of the input's type {:?}", input.datum_type);
        let columns = self.count_columns.to_dim();
        match &*input.shape {
            [_] => Ok(tvec![f32::fact([columns])]),
            [rows, _] => Ok(tvec![f32::fact([rows.clone(), columns])]),
            shape => bail!("TfIdfVectorizer takes [C] or [N, C], not {} dimensions", shape.len()),
        }
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let input = &inputs[0];
        let row = match &self.tokens {
            Tokens::Texts(numbers) => numbers.row(texts(input)?),
            Tokens::Integers(numbers) => numbers.row(input.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?),
        };
        let (rows, length) = match input.shape() {
            [length] => (1, *length),
            [rows, length] => (*rows, *length),
            _ => bail!("TfIdfVectorizer takes [C] or [N, C]"),
        };
        let numbers = rows.checked_mul(self.count_columns).filter(|numbers| *numbers <= MAX_NUMBERS);
        let numbers = numbers.with_context(|| format!("TfIdfVectorizer would give more than {MAX_NUMBERS} numbers"))?;
        let mut output = vec![0f32; numbers];
        if self.count_columns > 0 && length > 0 {
            for (tokens, counts) in row.chunks_exact(length).zip(output.chunks_exact_mut(self.count_columns)) {
                self.count(tokens, counts);
            }
        }
        let shape: TVec<usize> =
            input.shape()[..input.rank() - 1].iter().copied().chain([self.count_columns]).collect();
        Ok(tvec![super::tensor(&shape, output)?])
    }

    fn held_bytes(&self) -> u64 {
        let tokens = match &self.tokens {
            Tokens::Texts(numbers) => numbers.held_bytes(String::len),
            Tokens::Integers(numbers) => numbers.held_bytes(|_| 0),
        };
        let weights = match &self.counted {
            Counted::Occurrences => None,
            Counted::Presence(weights) | Counted::Weights(weights) => weights.as_ref(),
        };
        let weights = weights.map_or(0, |weights| size_of_val(weights.as_slice()));
        (tokens + weights + self.ngrams.held_bytes() + size_of_val(self.columns.as_slice())) as u64
    }
}

impl TfIdf {
    fn count(&self, tokens: &[u32], counts: &mut [f32]) {
        self.ngrams.find(tokens, self.lengths, |ngram| {
            let (ngram, weight) = (ngram as usize, |weights: &Option<Vec<f32>>| {
                weights.as_ref().map_or(1.0, |weights| weights[ngram as usize])
            });
            let count = &mut counts[self.columns[ngram]];
            match &self.counted {
                Counted::Occurrences => *count += 1.0,
                Counted::Presence(weights) => *count = weight(weights),
                Counted::Weights(weights) => *count += weight(weights),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn node(mode: &str) -> Node {
        Node::new("TfIdfVectorizer")
            .int("min_gram_length", 1)
            .int("max_gram_length", 2)
            .int("max_skip_count", 0)
            .ints("ngram_counts", &[0, 2])
            .ints("ngram_indexes", &[2, 0, 3, 1])
            .texts("pool_strings", &["a", "b", "a", "b", "c", "d"])
            .text("mode", mode)
    }

    fn text(values: &[&str]) -> Tensor {
        tensor1(&values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
    }

    fn row(node: Node) -> Tensor {
        run(node, &[text(&["a", "b", "c", "d", "a"])], 1).unwrap().remove(0)
    }

    // The expected values are what ONNX Runtime 1.31.1 gives for the same.

    #[test]
    fn each_mode_counts_in_its_way() {
        let weights = [10.0, 20.0, 30.0, 40.0];
        let expected = |mode: &str| match mode {
            "TF" => ([1f32, 1.0, 2.0, 1.0], [1f32, 1.0, 2.0, 1.0]),
            "IDF" => ([1.0, 1.0, 1.0, 1.0], [20.0, 40.0, 10.0, 30.0]),
            _ => ([1.0, 1.0, 2.0, 1.0], [20.0, 40.0, 20.0, 30.0]),
        };
        for mode in ["TF", "IDF", "TFIDF"] {
            let (plain, weighted) = expected(mode);
            assert_eq!(row(node(mode)), tensor1(&plain));
            assert_eq!(row(node(mode).floats("weights", &weights)), tensor1(&weighted));
        }
    }

    #[test]
    fn tables_are_counted() {
        let input = [text(&["a"])];
        let plan = super::super::super::testing::planned(node("TF").into_graph(&input, 1), &input).unwrap();
        let held = plan.model().nodes.iter().find_map(|node| super::super::super::held_bytes(&*node.op)).unwrap();
        assert!((100..1000).contains(&held.1), "{}", held.1);
    }

    #[test]
    fn rows_count_each_for_itself_and_columns_may_be_shared_or_empty() {
        let rows = tensor2(&[["a".to_owned(), "b".to_owned()], ["c".to_owned(), "d".to_owned()]]);
        let counts = run(node("TF"), &[rows], 1).unwrap().remove(0);
        assert_eq!(counts, tensor2(&[[1f32, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]]));
        let shared = node("TF").ints("ngram_indexes", &[2, 0, 2, 5]);
        assert_eq!(row(shared), tensor1(&[1f32, 0.0, 3.0, 0.0, 0.0, 1.0]));
        assert_eq!(run(node("TF"), &[text(&[])], 1).unwrap(), [tensor1(&[0f32; 4])]);
    }

    /// `test_tfidfvectorizer_tf_uniandbigrams_skip5` of ONNX's node tests.
    #[test]
    fn tokens_may_be_skipped_within_an_ngram() {
        let node = Node::new("TfIdfVectorizer")
            .int("min_gram_length", 1)
            .int("max_gram_length", 2)
            .int("max_skip_count", 5)
            .ints("ngram_counts", &[0, 4])
            .ints("ngram_indexes", &[0, 1, 2, 3, 4, 5, 6])
            .ints("pool_int64s", &[2, 3, 5, 4, 5, 6, 7, 8, 6, 7])
            .text("mode", "TF");
        let x = tensor1(&[1i64, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8]);
        assert_eq!(run(node, &[x], 1).unwrap(), [tensor1(&[0f32, 3.0, 1.0, 0.0, 1.0, 3.0, 1.0])]);
    }

    #[test]
    fn attributes_that_contradict_each_other_are_refused_by_name() {
        let refused = |node: Node, name: &str| {
            let error = format!("{:#}", run(node, &[text(&["a"])], 1).unwrap_err());
            assert!(error.contains(name), "{error}");
        };
        refused(node("TF").ints("ngram_indexes", &[0]), "ngram_indexes");
        refused(node("TF").ints("ngram_indexes", &[0, 1, 2, -1]), "ngram_indexes");
        refused(node("TF").ints("ngram_indexes", &[0, 1, 2, i64::MAX]), "ngram_indexes");
        refused(node("TF").ints("ngram_counts", &[0, 9]), "ngram_counts");
        refused(node("TF").ints("ngram_counts", &[0, 1]), "ngram_counts");
        refused(node("TF").int("max_gram_length", 3), "max_gram_length");
        refused(node("TF").int("max_skip_count", 1 << 20), "max_skip_count");
        refused(node("TF").floats("weights", &[1.0]), "weights");
        refused(node("XF"), "mode");
        refused(node("TF").texts("pool_strings", &["a", "a", "a", "b", "c", "d"]), "twice");
    }
}
