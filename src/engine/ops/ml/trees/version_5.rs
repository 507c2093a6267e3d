//! Trees as `ai.onnx.ml.TreeEnsemble` (version 5) writes them: branches and leaves in lists of their own.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::ensemble::{Branch, Ensemble, Mode, Node, Weight};
use super::post_transform::PostTransform;
use super::{MAX_OUTPUTS, attributes};

/// Reads the trees, without base values, which this operator lacks.
pub fn read(context: &ParsingContext, node: &NodeProto) -> TractResult<Ensemble> {
    let outputs = node.get_attr_opt::<usize>("n_targets")?.context("attribute 'n_targets' is missing")?;
    ensure!((1..=MAX_OUTPUTS).contains(&outputs), "{outputs} targets, 1 to {MAX_OUTPUTS} are possible");
    let lists = Lists::read(context, node)?;
    let weights = leaf_weights(context, node, outputs)?;
    let (branches, leaves) = (lists.features.len(), weights.len());
    ensure!(u32::try_from(branches + leaves).is_ok(), "{} nodes", branches + leaves);
    let mut sets = member_sets(context, node)?.into_iter();
    let mut ensemble = Ensemble {
        nodes: Vec::with_capacity(branches + leaves),
        weights,
        sets: vec![],
        roots: vec![],
        outputs,
        base_values: vec![],
        post_transform: post_transform(node)?,
        features: 0,
    };
    for place in 0..branches {
        let mode = match lists.modes[place] {
            0 => Mode::Leq,
            1 => Mode::Lt,
            2 => Mode::Gte,
            3 => Mode::Gt,
            4 => Mode::Eq,
            5 => Mode::Neq,
            6 => {
                let set = sets.next().context("attribute 'membership_values' has too few sets")?;
                ensemble.sets.push(set);
                Mode::Member(ensemble.sets.len() as u32 - 1)
            }
            other => bail!("attribute 'nodes_modes' holds {other}"),
        };
        let branch = lists.branch(place, mode, leaves)?;
        ensemble.features = ensemble.features.max(branch.feature as usize + 1);
        ensemble.nodes.push(Node::Branch(branch));
    }
    ensemble.nodes.extend((0..leaves as u32).map(|leaf| Node::Leaf { weights: (leaf, leaf + 1) }));
    ensemble.roots = roots(&ensemble.nodes, node.get_attr_slice("tree_roots")?)?;
    Ok(ensemble)
}

fn post_transform(node: &NodeProto) -> TractResult<PostTransform> {
    Ok(match node.get_attr_opt::<i64>("post_transform")?.unwrap_or(0) {
        0 => PostTransform::None,
        1 => PostTransform::Softmax,
        2 => PostTransform::Logistic,
        3 => PostTransform::SoftmaxZero,
        4 => PostTransform::Probit,
        other => bail!("attribute 'post_transform' holds {other}"),
    })
}

/// A tensor attribute as FP64; empty where the node lacks it.
fn numbers(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Vec<f64>> {
    let Some(tensor) = attributes::tensor(context, node, name)? else { return Ok(vec![]) };
    ensure!(tensor.datum_type().is_number(), "attribute '{name}' holds {:?}, not numbers", tensor.datum_type());
    let wide = tensor.cast_to::<f64>()?;
    Ok(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// One weight a leaf.
fn leaf_weights(context: &ParsingContext, node: &NodeProto, outputs: usize) -> TractResult<Vec<Weight>> {
    let values = numbers(context, node, "leaf_weights")?;
    let targets = node.get_attr_slice::<i64>("leaf_targetids")?;
    let count = values.len();
    ensure!(targets.len() == count, "attribute 'leaf_targetids' has {} entries for {count} leaves", targets.len());
    let weight = |(target, value): (&i64, f64)| {
        let output = usize::try_from(*target).ok().filter(|output| *output < outputs);
        let output = output.with_context(|| format!("attribute 'leaf_targetids' holds {target} of {outputs}"))?;
        Ok(Weight { output: output as u32, value })
    };
    targets.iter().zip(values).map(weight).collect()
}

/// The sets of the branches with members, in their order. NaN ends a set; behind the last it may be missing.
fn member_sets(context: &ParsingContext, node: &NodeProto) -> TractResult<Vec<Vec<f64>>> {
    let values = numbers(context, node, "membership_values")?;
    let mut sets: Vec<Vec<f64>> = values.split(|value| value.is_nan()).map(<[f64]>::to_vec).collect();
    if sets.last().is_some_and(Vec::is_empty) {
        sets.pop();
    }
    Ok(sets)
}

/// The parallel lists `nodes_*`.
struct Lists<'a> {
    features: &'a [i64],
    modes: Vec<i64>,
    thresholds: Vec<f64>,
    yes: &'a [i64],
    no: &'a [i64],
    yes_is_leaf: &'a [i64],
    no_is_leaf: &'a [i64],
    nan_is_yes: &'a [i64],
}

impl<'a> Lists<'a> {
    fn read(context: &ParsingContext, node: &'a NodeProto) -> TractResult<Self> {
        let ints = |name: &str| node.get_attr_slice::<i64>(name);
        let lists = Self {
            features: ints("nodes_featureids")?,
            modes: numbers(context, node, "nodes_modes")?.into_iter().map(|mode| mode as i64).collect(),
            thresholds: numbers(context, node, "nodes_splits")?,
            yes: ints("nodes_truenodeids")?,
            no: ints("nodes_falsenodeids")?,
            yes_is_leaf: ints("nodes_trueleafs")?,
            no_is_leaf: ints("nodes_falseleafs")?,
            nan_is_yes: node.get_attr_opt_slice("nodes_missing_value_tracks_true")?.unwrap_or_default(),
        };
        let count = lists.features.len();
        let tracks = lists.nan_is_yes.len();
        for (name, length) in [
            ("nodes_modes", lists.modes.len()),
            ("nodes_splits", lists.thresholds.len()),
            ("nodes_truenodeids", lists.yes.len()),
            ("nodes_falsenodeids", lists.no.len()),
            ("nodes_trueleafs", lists.yes_is_leaf.len()),
            ("nodes_falseleafs", lists.no_is_leaf.len()),
            ("nodes_missing_value_tracks_true", if tracks == 0 { count } else { tracks }),
        ] {
            ensure!(length == count, "attribute '{name}' has {length} entries for {count} nodes");
        }
        Ok(lists)
    }

    fn branch(&self, place: usize, mode: Mode, leaves: usize) -> TractResult<Branch> {
        let count = self.features.len();
        let child = |child: i64, is_leaf: bool| {
            let limit = if is_leaf { leaves } else { count };
            let found = usize::try_from(child).ok().filter(|child| *child < limit);
            let found = found.with_context(|| format!("node {place} leads to {child} of {limit}"))?;
            TractResult::Ok(if is_leaf { count + found } else { found } as u32)
        };
        // The highest number stays free for the column behind the features.
        let feature = u32::try_from(self.features[place]).ok().filter(|feature| *feature < u32::MAX);
        Ok(Branch {
            mode,
            feature: feature.with_context(|| format!("node {place} reads feature {}", self.features[place]))?,
            threshold: self.thresholds[place],
            nan_is_yes: self.nan_is_yes.get(place).is_some_and(|tracks| *tracks != 0),
            yes: child(self.yes[place], self.yes_is_leaf[place] != 0)?,
            no: child(self.no[place], self.no_is_leaf[place] != 0)?,
        })
    }
}

/// The roots, once it is certain that no branch is reached twice.
fn roots(nodes: &[Node], roots: &[i64]) -> TractResult<Vec<u32>> {
    let mut open = vec![];
    for root in roots {
        let place = usize::try_from(*root).ok().filter(|place| matches!(nodes.get(*place), Some(Node::Branch(_))));
        open.push(place.with_context(|| format!("attribute 'tree_roots' holds {root}, which is no node"))? as u32);
    }
    let roots = open.clone();
    let mut reached = vec![false; nodes.len()];
    while let Some(place) = open.pop() {
        if let Node::Branch(Branch { yes, no, .. }) = &nodes[place as usize] {
            ensure!(!reached[place as usize], "node {place} is reached in two ways");
            reached[place as usize] = true;
            open.extend([*yes, *no]);
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::testing::{Node, assert_close, run, shapes_for_any_rows};
    use super::*;

    /// Two trees: `x <= 1`, and `x in {2, 5}` below `x > 0`.
    fn node() -> Node {
        Node::new("TreeEnsemble")
            .int("n_targets", 2)
            .ints("tree_roots", &[0, 1])
            .ints("nodes_featureids", &[0, 0, 0])
            .bytes("nodes_modes", &[0, 3, 6])
            .floats_tensor("nodes_splits", &[1.0, 0.0, 0.0])
            .ints("nodes_truenodeids", &[0, 2, 2])
            .ints("nodes_trueleafs", &[1, 0, 1])
            .ints("nodes_falsenodeids", &[1, 3, 4])
            .ints("nodes_falseleafs", &[1, 1, 1])
            .floats_tensor("membership_values", &[2.0, 5.0, f32::NAN])
            .floats_tensor("leaf_weights", &[1.0, 2.0, 10.0, 20.0, 30.0])
            .ints("leaf_targetids", &[0, 0, 1, 1, 0])
    }

    fn rows() -> Tensor {
        tensor2(&[[-1.0f32], [0.5], [2.0], [5.0], [6.0], [f32::NAN]])
    }

    /// Expected values are ONNX Runtime 1.31.1's.
    #[test]
    fn sets_have_members_and_leaves_targets() {
        let expected = [1.0, 20.0, 31.0, 0.0, 2.0, 10.0, 2.0, 10.0, 32.0, 0.0, 2.0, 20.0];
        assert_close(&run(node(), &[rows()], 1).unwrap()[0], &expected);
        let tracked = node().ints("nodes_missing_value_tracks_true", &[1, 1, 1]);
        assert_close(&run(tracked, &[tensor2(&[[f32::NAN]])], 1).unwrap()[0], &[1.0, 10.0]);
    }

    /// ONNX Runtime takes 1 for LOGISTIC and 2 for SOFTMAX; ONNX and its reference say otherwise.
    #[test]
    fn transforms_are_numbered_as_onnx_says() {
        let input = || tensor2(&[[2.0f32]]);
        let light = || node().floats_tensor("leaf_weights", &[1.0, 0.5, -0.5, 0.0, 0.0]);
        assert_close(&run(light().int("post_transform", 1), &[input()], 1).unwrap()[0], &[0.731059, 0.268941]);
        assert_close(&run(light().int("post_transform", 2), &[input()], 1).unwrap()[0], &[0.622459, 0.377541]);
    }

    #[test]
    fn the_output_is_of_the_inputs_type() {
        let doubled = run(node(), &[tensor2(&[[2.0f64]])], 1).unwrap();
        assert_eq!(doubled, [tensor2(&[[2.0f64, 10.0]])]);
        assert_eq!(shapes_for_any_rows(node(), &[rows()], 1).unwrap(), ["N,2"]);
    }

    #[test]
    fn malformed_trees_are_refused() {
        let refused = |node: Node| format!("{:#}", run(node, &[rows()], 1).unwrap_err());
        assert!(refused(node().bytes("nodes_modes", &[0, 3, 7])).contains("'nodes_modes' holds 7"));
        assert!(refused(node().ints("nodes_truenodeids", &[0, 1, 2])).contains("reached in two ways"));
        assert!(refused(node().ints("nodes_truenodeids", &[9, 2, 2])).contains("node 0 leads to 9 of 5"));
        assert!(refused(node().ints("nodes_falseleafs", &[1, 1])).contains("'nodes_falseleafs' has 2 entries"));
        assert!(refused(node().ints("tree_roots", &[0, 3])).contains("'tree_roots' holds 3"));
        assert!(refused(node().ints("tree_roots", &[1, 2])).contains("reached in two ways"));
        assert!(refused(node().ints("leaf_targetids", &[0, 0, 1, 2, 0])).contains("'leaf_targetids' holds 2 of 2"));
        assert!(refused(node().without("membership_values")).contains("too few sets"));
        assert!(refused(node().ints("nodes_featureids", &[0, -1, 0])).contains("reads feature -1"));
        assert!(refused(node().int("n_targets", i64::MAX)).contains("targets"));
    }
}
