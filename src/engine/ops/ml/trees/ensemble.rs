//! A tree ensemble, read and checked, however it was written down.

use super::post_transform::PostTransform;

/// Trees whose nodes are known to hang together: every child exists and every branch has one parent or is a root, so that a
/// walk from a root ends, and the walks to all leaves together are no longer than twice the number of nodes.
#[derive(Debug)]
pub struct Ensemble {
    pub nodes: Vec<Node>,
    /// Of all leaves; each leaf has a range of them.
    pub weights: Vec<Weight>,
    /// The members that `Mode::Member` looks among.
    pub sets: Vec<Vec<f64>>,
    pub roots: Vec<u32>,
    /// Classes or targets.
    pub outputs: usize,
    /// None, or one for each output, or a single one where the operator allows it.
    pub base_values: Vec<f64>,
    pub post_transform: PostTransform,
    /// Columns that an input must have at least.
    pub features: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Leaf {
        /// Range of `Ensemble::weights`.
        weights: (u32, u32),
    },
    Branch(Branch),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    pub mode: Mode,
    pub feature: u32,
    pub threshold: f64,
    /// Where NaN goes the way of a comparison that holds.
    pub nan_is_yes: bool,
    pub yes: u32,
    pub no: u32,
}

/// How a feature `x` is compared with the threshold `t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `x <= t`, which all common exporters write.
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// `x` is a member of a set of `Ensemble::sets`.
    Member(u32),
}

/// What a leaf adds to one of the outputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    pub output: u32,
    pub value: f64,
}

impl Ensemble {
    /// Bytes of its lists.
    pub fn bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.weights.as_slice())
            + size_of_val(self.roots.as_slice())
            + self.sets.iter().map(|set| size_of_val(set.as_slice())).sum::<usize>()
            + size_of_val(self.base_values.as_slice())
    }

    /// For each tree, in the order of the roots, the output of all its weights; `None` unless every leaf has one weight
    /// and each tree a single output.
    pub fn outputs_of_trees(&self) -> Option<Vec<u32>> {
        let of_tree = |root: &u32| {
            let (mut output, mut open) = (None, vec![*root]);
            while let Some(place) = open.pop() {
                match &self.nodes[place as usize] {
                    Node::Branch(branch) => open.extend([branch.yes, branch.no]),
                    Node::Leaf { weights: (begin, end) } => {
                        let [weight] = &self.weights[*begin as usize..*end as usize] else { return None };
                        if *output.get_or_insert(weight.output) != weight.output {
                            return None;
                        }
                    }
                }
            }
            output
        };
        self.roots.iter().map(of_tree).collect()
    }
}
