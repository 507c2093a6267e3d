//! Walks a forest and puts together what its leaves say.
//!
//! Several walks go on side by side, so that the processor has something to do while one waits for its next node: rows
//! through the same tree, or trees for the same row where there are few rows. What a row gets is added in the order of the
//! trees, in the floats of the trees, as ONNX Runtime does in one thread: sums, and with them labels, come out the same.

use super::forest::{Forest, Leaves, Real, Steps};

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
pub struct Scores<T> {
    pub values: Vec<T>,
    /// Whether any leaf had a weight for the output. The score is 0 where none had.
    pub scored: Vec<bool>,
}

/// Rows that go through a tree before the next tree is taken up, so that neither the tree nor the scores leave the
/// cache.
const BLOCK_ROWS: usize = 128;

/// Walks side by side.
const LANES: usize = 8;

/// Scores of rows that lie one behind the other, `width` wide.
///
/// # Panics
/// When the forest reads a feature beyond the width.
pub fn score<T: Real>(
    forest: &Forest<T>,
    rows: &[T],
    (count, width): (usize, usize),
    aggregate: Aggregate,
) -> Scores<T> {
    let add = |score: T, _: bool, weight: T| score + weight;
    match aggregate {
        Aggregate::Sum => Walk::new(forest, count, add).run(rows, width),
        Aggregate::Average => {
            let mut scores = Walk::new(forest, count, add).run(rows, width);
            let trees = forest.roots.len() as f64;
            scores.values.iter_mut().for_each(|score| *score = T::from_f64(score.to_f64() / trees));
            scores
        }
        Aggregate::Min => {
            let least = |score, scored: bool, weight| if !scored || weight < score { weight } else { score };
            Walk::new(forest, count, least).run(rows, width)
        }
        Aggregate::Max => {
            let most = |score, scored: bool, weight| if !scored || weight > score { weight } else { score };
            Walk::new(forest, count, most).run(rows, width)
        }
    }
}

/// A forest on its way through some rows. `add` gets the score so far, whether it had a weight before, and the next weight.
struct Walk<'a, T, A> {
    forest: &'a Forest<T>,
    scores: Scores<T>,
    add: A,
}

/// Rows with the column of NaN behind their features.
struct Block<T> {
    values: Vec<T>,
    stride: usize,
    /// Whether steps may be right for all rows.
    is_steppable: bool,
}

impl<'a, T: Real, A: Fn(T, bool, T) -> T> Walk<'a, T, A> {
    fn new(forest: &'a Forest<T>, count: usize, add: A) -> Self {
        let cells = count * forest.outputs;
        Self { forest, scores: Scores { values: vec![T::default(); cells], scored: vec![false; cells] }, add }
    }

    fn run(mut self, rows: &[T], width: usize) -> Scores<T> {
        let count = self.scores.values.len() / self.forest.outputs;
        for begin in (0..count).step_by(BLOCK_ROWS) {
            let end = count.min(begin + BLOCK_ROWS);
            let block = Block::new(self.forest, &rows[begin * width..end * width], end - begin, width);
            if !block.is_steppable {
                self.follow_rules(&block, begin, end);
                continue;
            }
            let together = (end - begin) / LANES * LANES;
            self.rows_together(&block, begin, begin + together);
            for row in together..end - begin {
                self.trees_together(&block, row, begin + row);
            }
        }
        self.scores
    }

    /// Some rows through each tree.
    fn rows_together(&mut self, block: &Block<T>, begin: usize, end: usize) {
        if begin == end {
            return;
        }
        for (tree, root) in self.forest.roots.iter().enumerate() {
            for row in (begin..end).step_by(LANES) {
                let starts = std::array::from_fn(|lane| (row - begin + lane) * block.stride);
                let said = descend::<T, LANES>(self.forest, [*root; LANES], &block.values, starts);
                for (lane, said) in said.into_iter().enumerate() {
                    self.put(tree, row + lane, said);
                }
            }
        }
    }

    /// One row through some trees.
    fn trees_together(&mut self, block: &Block<T>, place: usize, row: usize) {
        let start = [place * block.stride; LANES];
        for (chunk, roots) in self.forest.roots.chunks(LANES).enumerate() {
            let roots_or_last = std::array::from_fn(|lane| roots[lane.min(roots.len() - 1)]);
            let said = descend::<T, LANES>(self.forest, roots_or_last, &block.values, start);
            for (lane, said) in said.into_iter().take(roots.len()).enumerate() {
                self.put(chunk * LANES + lane, row, said);
            }
        }
    }

    /// By the file's own rules, one after the other.
    fn follow_rules(&mut self, block: &Block<T>, begin: usize, end: usize) {
        let Forest { nodes, rules, sets, roots, .. } = self.forest;
        for (tree, root) in roots.iter().enumerate() {
            for row in begin..end {
                let values = &block.values[(row - begin) * block.stride..][..block.stride];
                let mut at = *root;
                loop {
                    let node = &nodes[at as usize];
                    if node.next == at {
                        self.put(tree, row, node.threshold);
                        break;
                    }
                    let value = values[node.feature as usize];
                    at = node.next + u32::from(rules[at as usize].leads_to_second(value, sets));
                }
            }
        }
    }

    /// Adds what a tree's leaf said to a row's scores.
    #[inline(always)]
    fn put(&mut self, tree: usize, row: usize, said: T) {
        let outputs = self.forest.outputs;
        let Scores { values, scored } = &mut self.scores;
        let mut put = |cell: usize, weight: T| {
            values[cell] = (self.add)(values[cell], scored[cell], weight);
            scored[cell] = true;
        };
        match &self.forest.leaves {
            Leaves::One { outputs: of_trees } => put(row * outputs + of_trees[tree] as usize, said),
            Leaves::Each { values: weights } => {
                let begin = said.to_place() as usize * outputs;
                for (output, weight) in weights[begin..begin + outputs].iter().enumerate() {
                    put(row * outputs + output, *weight);
                }
            }
            Leaves::Lists { ranges, weights } => {
                let (begin, end) = ranges[said.to_place() as usize];
                for (output, weight) in &weights[begin as usize..end as usize] {
                    put(row * outputs + *output as usize, *weight);
                }
            }
        }
    }
}

impl<T: Real> Block<T> {
    fn new(forest: &Forest<T>, rows: &[T], count: usize, width: usize) -> Self {
        let features = forest.features;
        let mut values = Vec::with_capacity(count * (features + 1));
        for row in 0..count {
            values.extend_from_slice(&rows[row * width..][..features]);
            values.push(T::NAN);
        }
        let has_nan = || rows.iter().any(|value| value.to_f64().is_nan());
        let is_steppable = match forest.steps {
            Steps::All => true,
            Steps::WithoutNan => !has_nan(),
            Steps::None => false,
        };
        Self { values, stride: features + 1, is_steppable }
    }
}

/// What the leaves say that walks from `at` end in; each reads the row that begins at its start.
#[inline(always)]
fn descend<T: Real, const LANES: usize>(
    forest: &Forest<T>,
    mut at: [u32; LANES],
    rows: &[T],
    starts: [usize; LANES],
) -> [T; LANES] {
    let nodes = forest.nodes.as_slice();
    loop {
        let mut moved = 0;
        for lane in 0..LANES {
            let node = &nodes[at[lane] as usize];
            let value = rows[starts[lane] + node.feature as usize];
            let next = node.next + u32::from(value <= node.threshold);
            moved |= next ^ at[lane];
            at[lane] = next;
        }
        if moved == 0 {
            return at.map(|at| nodes[at as usize].threshold);
        }
    }
}
