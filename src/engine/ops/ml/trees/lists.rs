//! Trees as the operators of versions 1 to 3 write them: parallel lists of nodes, and of the weights of leaves.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::MAX_OUTPUTS;
use super::attributes::numbers;
use super::ensemble::{Branch, Ensemble, Mode, Node, Weight};
use super::post_transform::PostTransform;

/// Reads a node. `prefix` is that of the leaves' lists, `class` or `target`.
pub fn read(context: &ParsingContext, node: &NodeProto, prefix: &str, outputs: usize) -> TractResult<Ensemble> {
    ensure!((1..=MAX_OUTPUTS).contains(&outputs), "{outputs} classes or targets, 1 to {MAX_OUTPUTS} are possible");
    let lists = NodeLists::read(context, node)?;
    let places = lists.places()?;
    let mut leaves = leaf_weights(context, node, prefix, &places, outputs)?;
    let mut ensemble = Ensemble {
        nodes: Vec::with_capacity(lists.ids.len()),
        weights: vec![],
        sets: vec![],
        roots: vec![],
        outputs,
        base_values: numbers(context, node, "base_values")?.unwrap_or_default(),
        post_transform: PostTransform::parse(node.get_attr_opt::<&str>("post_transform")?)?,
        features: 0,
    };
    for (place, weights) in leaves.iter_mut().enumerate() {
        match lists.branch(place, &places)? {
            Some(branch) => {
                ensemble.features = ensemble.features.max(branch.feature as usize + 1);
                ensemble.nodes.push(Node::Branch(branch));
            }
            None => {
                let begin = ensemble.weights.len() as u32;
                ensemble.weights.append(weights);
                ensemble.nodes.push(Node::Leaf { weights: (begin, ensemble.weights.len() as u32) });
            }
        }
    }
    ensemble.roots = roots(&ensemble.nodes, lists.trees)?;
    Ok(ensemble)
}

/// The parallel lists `nodes_*`.
struct NodeLists<'a> {
    trees: &'a [i64],
    ids: &'a [i64],
    features: &'a [i64],
    modes: TVec<&'a str>,
    thresholds: Vec<f64>,
    yes: &'a [i64],
    no: &'a [i64],
    nan_is_yes: &'a [i64],
}

impl<'a> NodeLists<'a> {
    fn read(context: &ParsingContext, node: &'a NodeProto) -> TractResult<Self> {
        let ints = |name: &str| node.get_attr_slice::<i64>(name);
        let thresholds = numbers(context, node, "nodes_values")?.context("attribute 'nodes_values' is missing")?;
        let lists = Self {
            trees: ints("nodes_treeids")?,
            ids: ints("nodes_nodeids")?,
            features: ints("nodes_featureids")?,
            modes: node.get_attr_tvec("nodes_modes")?,
            thresholds,
            yes: ints("nodes_truenodeids")?,
            no: ints("nodes_falsenodeids")?,
            nan_is_yes: node.get_attr_opt_slice("nodes_missing_value_tracks_true")?.unwrap_or_default(),
        };
        let count = lists.ids.len();
        ensure!(u32::try_from(count).is_ok(), "{count} nodes");
        let lengths = [
            ("nodes_treeids", lists.trees.len()),
            ("nodes_featureids", lists.features.len()),
            ("nodes_modes", lists.modes.len()),
            ("nodes_values", lists.thresholds.len()),
            ("nodes_truenodeids", lists.yes.len()),
            ("nodes_falsenodeids", lists.no.len()),
        ];
        for (name, length) in lengths {
            ensure!(length == count, "attribute '{name}' has {length} entries for {count} nodes");
        }
        let tracks = lists.nan_is_yes.len();
        ensure!(
            tracks == 0 || tracks == count,
            "attribute 'nodes_missing_value_tracks_true' has {tracks} entries for {count} nodes"
        );
        Ok(lists)
    }

    /// Where each node, by tree and id, is in the lists.
    fn places(&self) -> TractResult<HashMap<(i64, i64), u32>> {
        let mut places = HashMap::with_capacity(self.ids.len());
        for (place, key) in self.trees.iter().copied().zip(self.ids.iter().copied()).enumerate() {
            ensure!(places.insert(key, place as u32).is_none(), "node {} of tree {} occurs twice", key.1, key.0);
        }
        Ok(places)
    }

    /// The branch at a place; `None` for a leaf.
    fn branch(&self, place: usize, places: &HashMap<(i64, i64), u32>) -> TractResult<Option<Branch>> {
        let mode = match self.modes[place] {
            "LEAF" => return Ok(None),
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Gte,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            other => bail!("attribute 'nodes_modes' holds '{other}'"),
        };
        let (tree, id) = (self.trees[place], self.ids[place]);
        let child = |child: i64| {
            let found = places.get(&(tree, child)).copied();
            found.with_context(|| format!("node {id} of tree {tree} leads to node {child}, which is not there"))
        };
        // The packed form keeps the highest number for leaves.
        let feature = u32::try_from(self.features[place]).ok().filter(|feature| *feature < u32::MAX);
        Ok(Some(Branch {
            mode,
            feature: feature
                .with_context(|| format!("node {id} of tree {tree} reads feature {}", self.features[place]))?,
            threshold: self.thresholds[place],
            nan_is_yes: self.nan_is_yes.get(place).is_some_and(|tracks| *tracks != 0),
            yes: child(self.yes[place])?,
            no: child(self.no[place])?,
        }))
    }
}

/// The weights of each node, by its place.
fn leaf_weights(
    context: &ParsingContext,
    node: &NodeProto,
    prefix: &str,
    places: &HashMap<(i64, i64), u32>,
    outputs: usize,
) -> TractResult<Vec<Vec<Weight>>> {
    let ints = |name: &str| node.get_attr_slice::<i64>(&format!("{prefix}_{name}"));
    let (trees, nodes, ids) = (ints("treeids")?, ints("nodeids")?, ints("ids")?);
    let values = numbers(context, node, &format!("{prefix}_weights"))?
        .with_context(|| format!("attribute '{prefix}_weights' is missing"))?;
    let count = values.len();
    ensure!(u32::try_from(count).is_ok(), "{count} weights");
    for (name, length) in [("treeids", trees.len()), ("nodeids", nodes.len()), ("ids", ids.len())] {
        ensure!(length == count, "attribute '{prefix}_{name}' has {length} entries for {count} weights");
    }
    let mut leaves = vec![vec![]; places.len()];
    for (index, value) in values.into_iter().enumerate() {
        let (tree, id) = (trees[index], nodes[index]);
        let place = places.get(&(tree, id));
        let place = *place.with_context(|| format!("a weight is for node {id} of tree {tree}, which is not there"))?;
        let output = usize::try_from(ids[index]).ok().filter(|output| *output < outputs);
        let output = output.with_context(|| format!("attribute '{prefix}_ids' holds {} of {outputs}", ids[index]))?;
        leaves[place as usize].push(Weight { output: output as u32, value });
    }
    Ok(leaves)
}

/// The root of each tree, in the order of the file, once it is certain that every node hangs from one.
fn roots(nodes: &[Node], trees: &[i64]) -> TractResult<Vec<u32>> {
    let mut has_parent = vec![false; nodes.len()];
    for node in nodes {
        let Node::Branch(Branch { yes, no, .. }) = node else { continue };
        for child in [*yes as usize, *no as usize] {
            ensure!(!has_parent[child], "a node of tree {} has two parents", trees[child]);
            has_parent[child] = true;
        }
    }
    let roots: Vec<u32> = (0..nodes.len() as u32).filter(|&place| !has_parent[place as usize]).collect();
    let mut rooted = std::collections::HashSet::new();
    for &root in &roots {
        let tree = trees[root as usize];
        ensure!(rooted.insert(tree), "tree {tree} has two roots");
    }
    // With one parent each and the roots without, what is reached is free of cycles; what is not reached is a cycle.
    let (mut reached, mut open) = (0, roots.clone());
    while let Some(place) = open.pop() {
        reached += 1;
        if let Node::Branch(Branch { yes, no, .. }) = &nodes[place as usize] {
            open.extend([*yes, *no]);
        }
    }
    ensure!(reached == nodes.len(), "{} nodes lead in a circle", nodes.len() - reached);
    Ok(roots)
}
