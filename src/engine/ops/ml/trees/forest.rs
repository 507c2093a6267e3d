//! An ensemble packed for evaluation.

use std::ops::Range;

use super::ensemble::{Branch, Ensemble, Mode, Node};

/// The floats that trees compare and add in.
pub trait Real: Copy + Default + PartialOrd + std::ops::AddAssign + 'static {
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}

/// The feature of a leaf.
const LEAF: u32 = u32::MAX;

#[derive(Debug)]
pub struct Forest<T> {
    nodes: Vec<Packed<T>>,
    /// Of each node, where `simple` is false.
    rules: Vec<Rule>,
    weights: Vec<(u32, T)>,
    pub roots: Vec<u32>,
    pub outputs: usize,
    /// Every branch asks `x <= t` and sends NaN the other way.
    pub simple: bool,
}

/// Sixteen bytes with FP32. A leaf keeps the range of its weights where a branch has its children.
#[derive(Debug, Clone, Copy)]
struct Packed<T> {
    threshold: T,
    feature: u32,
    yes: u32,
    no: u32,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    mode: Mode,
    nan_is_yes: bool,
}

impl<T: Real> Forest<T> {
    pub fn new(ensemble: &Ensemble) -> Self {
        let packed = |node: &Node| match node {
            Node::Leaf { weights: (begin, end) } => {
                Packed { threshold: T::default(), feature: LEAF, yes: *begin, no: *end }
            }
            Node::Branch(branch) => Packed {
                threshold: T::from_f64(branch.threshold),
                feature: branch.feature,
                yes: branch.yes,
                no: branch.no,
            },
        };
        let rule = |node: &Node| match node {
            Node::Branch(Branch { mode, nan_is_yes, .. }) => Rule { mode: *mode, nan_is_yes: *nan_is_yes },
            Node::Leaf { .. } => Rule { mode: Mode::Leq, nan_is_yes: false },
        };
        let rules: Vec<Rule> = ensemble.nodes.iter().map(rule).collect();
        let simple = rules.iter().all(|rule| rule.mode == Mode::Leq && !rule.nan_is_yes);
        Self {
            nodes: ensemble.nodes.iter().map(packed).collect(),
            rules: if simple { vec![] } else { rules },
            weights: ensemble.weights.iter().map(|weight| (weight.output, T::from_f64(weight.value))).collect(),
            roots: ensemble.roots.clone(),
            outputs: ensemble.outputs,
            simple,
        }
    }

    /// Bytes of its lists.
    pub fn bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.rules.as_slice())
            + size_of_val(self.weights.as_slice())
            + size_of_val(self.roots.as_slice())
    }

    /// The weights of the leaf that a row of features leads to. `SIMPLE` is the forest's `simple`.
    #[inline]
    pub fn leaf<const SIMPLE: bool>(&self, root: u32, row: &[T]) -> &[(u32, T)] {
        let mut place = root as usize;
        loop {
            let node = &self.nodes[place];
            if node.feature == LEAF {
                return &self.weights[Range { start: node.yes as usize, end: node.no as usize }];
            }
            let value = row[node.feature as usize];
            let holds = if SIMPLE { value <= node.threshold } else { self.rules[place].holds(value, node.threshold) };
            place = if holds { node.yes } else { node.no } as usize;
        }
    }
}

impl Rule {
    fn holds<T: Real>(self, value: T, threshold: T) -> bool {
        let compared = match self.mode {
            Mode::Leq => value <= threshold,
            Mode::Lt => value < threshold,
            Mode::Gte => value >= threshold,
            Mode::Gt => value > threshold,
            Mode::Eq => value == threshold,
            Mode::Neq => value != threshold,
        };
        compared || (self.nan_is_yes && value.to_f64().is_nan())
    }
}
