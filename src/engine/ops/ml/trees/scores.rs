//! Walks a forest and puts together what its leaves say.

use super::forest::{Forest, Real};

/// How the leaves' weights for one output become its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    /// The sum divided by the number of trees.
    Average,
    Min,
    Max,
}

/// Scores `[rows, outputs]`.
#[derive(Debug, PartialEq)]
pub struct Scores {
    pub values: Vec<f64>,
    /// Whether any leaf had a weight for the output. The score is 0 where none had.
    pub scored: Vec<bool>,
}

/// Rows that go through a tree before the next tree is taken up, so that neither the tree nor the scores leave the
/// cache.
const BLOCK_ROWS: usize = 128;

/// Scores of rows that lie one behind the other; `shape` is their number and width.
///
/// # Panics
/// When the forest reads a feature beyond the width.
pub fn score<T: Real>(forest: &Forest<T>, rows: &[T], shape: (usize, usize), aggregate: Aggregate) -> Scores {
    match aggregate {
        Aggregate::Sum => walk(forest, rows, shape, |score, _, weight| *score += weight),
        Aggregate::Average => {
            let mut scores = walk(forest, rows, shape, |score, _, weight| *score += weight);
            let trees = forest.roots.len() as f64;
            scores.values.iter_mut().for_each(|score| *score /= trees);
            scores
        }
        Aggregate::Min => walk(forest, rows, shape, |score, scored, weight| {
            if !scored || weight < *score {
                *score = weight;
            }
        }),
        Aggregate::Max => walk(forest, rows, shape, |score, scored, weight| {
            if !scored || weight > *score {
                *score = weight;
            }
        }),
    }
}

/// `add` gets the score so far, whether it had a weight before, and the next weight.
fn walk<T: Real>(forest: &Forest<T>, rows: &[T], shape: (usize, usize), add: impl Fn(&mut T, bool, T)) -> Scores {
    match forest.simple {
        true => walk_as::<T, true>(forest, rows, shape, add),
        false => walk_as::<T, false>(forest, rows, shape, add),
    }
}

fn walk_as<T: Real, const SIMPLE: bool>(
    forest: &Forest<T>,
    rows: &[T],
    (count, width): (usize, usize),
    add: impl Fn(&mut T, bool, T),
) -> Scores {
    let outputs = forest.outputs;
    let mut values = vec![T::default(); count * outputs];
    let mut scored = vec![false; count * outputs];
    for block in (0..count).step_by(BLOCK_ROWS) {
        for &root in &forest.roots {
            for row in block..count.min(block + BLOCK_ROWS) {
                for &(output, weight) in forest.leaf::<SIMPLE>(root, &rows[row * width..][..width]) {
                    let cell = row * outputs + output as usize;
                    add(&mut values[cell], scored[cell], weight);
                    scored[cell] = true;
                }
            }
        }
    }
    Scores { values: values.into_iter().map(T::to_f64).collect(), scored }
}
