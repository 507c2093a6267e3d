//! An ensemble packed for evaluation.

use super::ensemble::{Branch, Ensemble, Mode, Node};

/// The floats that trees compare and add in.
pub trait Real: Copy + Default + PartialOrd + std::ops::Add<Output = Self> + 'static {
    const NAN: Self;

    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    /// The highest number below this one.
    fn below(self) -> Self;
    /// A float with this number in its bits, which is no NaN and only kept, never computed with.
    fn from_place(place: u32) -> Self;
    fn to_place(self) -> u32;
}

impl Real for f32 {
    const NAN: Self = Self::NAN;

    fn from_f64(value: f64) -> Self {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    fn below(self) -> Self {
        self.next_down()
    }

    fn from_place(place: u32) -> Self {
        Self::from_bits(place)
    }

    fn to_place(self) -> u32 {
        self.to_bits()
    }
}

impl Real for f64 {
    const NAN: Self = Self::NAN;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }

    fn below(self) -> Self {
        self.next_down()
    }

    fn from_place(place: u32) -> Self {
        Self::from_bits(u64::from(place))
    }

    fn to_place(self) -> u32 {
        self.to_bits() as u32
    }
}

/// Trees whose nodes lie in one list, each pair of children side by side.
///
/// A step down is `next + (x <= threshold)` without a branch, whatever the node. A leaf reads a column behind the features
/// that holds NaN, so that it leads to itself, and its threshold is free for what the leaf says.
#[derive(Debug)]
pub struct Forest<T> {
    pub nodes: Vec<Packed<T>>,
    /// The place of each tree's root, in the order of the file.
    pub roots: Vec<u32>,
    pub leaves: Leaves<T>,
    pub steps: Steps,
    /// Of each node, unless the steps are always right.
    pub rules: Vec<Rule<T>>,
    /// The sets of the rules with members, sorted.
    pub sets: Vec<Vec<T>>,
    pub outputs: usize,
    /// Columns that the trees read; the next one is to hold NaN.
    pub features: usize,
}

/// Twelve bytes with FP32.
#[derive(Debug, Clone, Copy)]
pub struct Packed<T> {
    pub threshold: T,
    pub feature: u32,
    /// The place of the child where `x <= threshold` does not hold; the other one follows it.
    pub next: u32,
}

/// For which rows `next + (x <= threshold)` leads where the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    All,
    /// Those without NaN.
    WithoutNan,
    None,
}

/// The file's own words for a branch.
#[derive(Debug, Clone, Copy)]
pub struct Rule<T> {
    mode: Mode,
    threshold: T,
    nan_is_yes: bool,
    /// Which of the two children stands first.
    yes_is_first: bool,
}

/// What leaves say and where their nodes keep it, in the node's threshold.
#[derive(Debug)]
pub enum Leaves<T> {
    /// One number, kept itself; the output depends on the tree alone.
    One { outputs: Vec<u32> },
    /// A number for every output, kept as the leaf's place in `[leaves, outputs]`.
    Each { values: Vec<T> },
    /// Any weights, kept as the place of their range.
    Lists { ranges: Vec<(u32, u32)>, weights: Vec<(u32, T)> },
}

impl<T: Real> Forest<T> {
    pub fn new(ensemble: &Ensemble) -> Self {
        let sets = ensemble.sets.iter().map(|set| {
            let mut set: Vec<T> = set.iter().copied().map(T::from_f64).collect();
            set.sort_by(|a, b| a.to_f64().total_cmp(&b.to_f64()));
            set
        });
        let mut forest = Self {
            nodes: Vec::with_capacity(ensemble.nodes.len()),
            roots: Vec::with_capacity(ensemble.roots.len()),
            leaves: Leaves::of(ensemble),
            steps: Steps::All,
            rules: vec![],
            sets: sets.collect(),
            outputs: ensemble.outputs,
            features: ensemble.features,
        };
        for root in &ensemble.roots {
            forest.pack_tree(ensemble, *root);
        }
        if forest.steps == Steps::All {
            forest.rules = vec![];
        }
        forest
    }

    /// Lays a tree out so that most steps stay near: below a pair come all that are below its second child.
    fn pack_tree(&mut self, ensemble: &Ensemble, root: u32) {
        let start = self.reserve(1);
        self.roots.push(start);
        let mut open = vec![(root, start)];
        while let Some((from, to)) = open.pop() {
            let slot = to as usize;
            match &ensemble.nodes[from as usize] {
                Node::Leaf { weights } => {
                    let threshold = self.leaves.keep(ensemble, *weights);
                    self.nodes[slot] = Packed { threshold, feature: self.features as u32, next: to };
                }
                Node::Branch(branch) => {
                    let next = self.reserve(2);
                    let (threshold, rule) = self.compare(branch);
                    self.nodes[slot] = Packed { threshold, feature: branch.feature, next };
                    self.rules[slot] = rule;
                    let (first, second) =
                        if rule.yes_is_first { (branch.yes, branch.no) } else { (branch.no, branch.yes) };
                    open.extend([(first, next), (second, next + 1)]);
                }
            }
        }
    }

    /// Room for nodes; `Ensemble` keeps their number within `u32`.
    fn reserve(&mut self, count: usize) -> u32 {
        let place = self.nodes.len();
        self.nodes.resize(place + count, Packed { threshold: T::NAN, feature: 0, next: 0 });
        let leaf = Rule { mode: Mode::Leq, threshold: T::NAN, nan_is_yes: false, yes_is_first: false };
        self.rules.resize(place + count, leaf);
        place as u32
    }

    /// The number that `x <= number` is asked of instead of the file's question, and the rule of the file.
    fn compare(&mut self, branch: &Branch) -> (T, Rule<T>) {
        let given = T::from_f64(branch.threshold);
        let (threshold, yes_is_first) = match branch.mode {
            Mode::Leq => (given, false),
            Mode::Gt => (given, true),
            Mode::Lt => (given.below(), false),
            Mode::Gte => (given.below(), true),
            Mode::Eq | Mode::Neq | Mode::Member(_) => (given, false),
        };
        let is_ordered = matches!(branch.mode, Mode::Leq | Mode::Gt | Mode::Lt | Mode::Gte);
        // There is nothing below the lowest number, and NaN has no order.
        let is_exact = branch.mode == Mode::Leq || given.to_f64() > f64::NEG_INFINITY;
        self.steps = match self.steps {
            _ if !is_ordered || !is_exact => Steps::None,
            Steps::All if branch.nan_is_yes != yes_is_first => Steps::WithoutNan,
            steps => steps,
        };
        let Branch { mode, nan_is_yes, .. } = *branch;
        (threshold, Rule { mode, threshold: given, nan_is_yes, yes_is_first })
    }

    /// Bytes of its lists.
    pub fn bytes(&self) -> usize {
        let leaves = match &self.leaves {
            Leaves::One { outputs } => size_of_val(outputs.as_slice()),
            Leaves::Each { values } => size_of_val(values.as_slice()),
            Leaves::Lists { ranges, weights } => size_of_val(ranges.as_slice()) + size_of_val(weights.as_slice()),
        };
        let sets: usize = self.sets.iter().map(|set| size_of_val(set.as_slice())).sum();
        let nodes = size_of_val(self.nodes.as_slice()) + size_of_val(self.rules.as_slice());
        nodes + size_of_val(self.roots.as_slice()) + leaves + sets
    }
}

impl<T: Real> Leaves<T> {
    /// The form that the ensemble's leaves allow, still empty but for the trees' outputs.
    fn of(ensemble: &Ensemble) -> Self {
        let weights = |leaf: &Node| match leaf {
            Node::Leaf { weights: (begin, end) } => Some(&ensemble.weights[*begin as usize..*end as usize]),
            Node::Branch(_) => None,
        };
        let is_each = |weights: &[super::ensemble::Weight]| {
            weights.len() == ensemble.outputs && (0..).zip(weights).all(|(place, weight)| weight.output == place)
        };
        if let Some(outputs) = ensemble.outputs_of_trees() {
            return Self::One { outputs };
        }
        match ensemble.nodes.iter().filter_map(weights).all(is_each) {
            true => Self::Each { values: vec![] },
            false => Self::Lists { ranges: vec![], weights: vec![] },
        }
    }

    /// Takes a leaf's weights in and gives what its node keeps.
    fn keep(&mut self, ensemble: &Ensemble, (begin, end): (u32, u32)) -> T {
        let given = &ensemble.weights[begin as usize..end as usize];
        match self {
            Self::One { .. } => T::from_f64(given[0].value),
            Self::Each { values } => {
                let place = values.len() / ensemble.outputs;
                values.extend(given.iter().map(|weight| T::from_f64(weight.value)));
                T::from_place(place as u32)
            }
            Self::Lists { ranges, weights } => {
                let place = ranges.len();
                let begin = weights.len() as u32;
                weights.extend(given.iter().map(|weight| (weight.output, T::from_f64(weight.value))));
                ranges.push((begin, weights.len() as u32));
                T::from_place(place as u32)
            }
        }
    }
}

impl<T: Real> Rule<T> {
    /// Whether the second of the two children is the next.
    pub fn leads_to_second(&self, value: T, sets: &[Vec<T>]) -> bool {
        let threshold = self.threshold;
        let compared = match self.mode {
            Mode::Leq => value <= threshold,
            Mode::Lt => value < threshold,
            Mode::Gte => value >= threshold,
            Mode::Gt => value > threshold,
            Mode::Eq => value == threshold,
            Mode::Neq => value != threshold,
            Mode::Member(set) => {
                let set = &sets[set as usize];
                set.get(set.partition_point(|member| *member < value)).is_some_and(|member| *member == value)
            }
        };
        let holds = compared || (self.nan_is_yes && value.to_f64().is_nan());
        holds != self.yes_is_first
    }
}
