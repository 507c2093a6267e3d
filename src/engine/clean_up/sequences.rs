//! Turns sequences of tensors into the tensors: tract has no sequences, and exporters use them where the graph itself
//! fixes which tensor is at which place.
//!
//! A graph is changed where every sequence in it can be followed to its last use, and else left as it is.

use std::collections::HashMap;

use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};

use super::edit::OWN_DOMAIN;
use super::graphs::{
    attribute, each_graph, input, integer, integers, is_onnx, node, opset, small_integers, with_integer, with_integers,
};

/// The version of ONNX in which Unsqueeze and Split take their lists as inputs.
const LISTS_ARE_INPUTS: i64 = 13;
/// Most tensors of one sequence.
const MAX_ITEMS: usize = 1024;
/// Most tensors of all sequences of a graph: each step on the way of one holds all its names.
const MAX_ITEMS_IN_ALL: usize = 1 << 16;

pub fn apply(model: &mut ModelProto) {
    let opset = opset(model);
    each_graph(model, &mut |graph| {
        let trail = Trail { opset, known: HashMap::new(), sequences: HashMap::new(), items_in_all: 0, nodes: vec![] };
        if let Some(nodes) = graph.node.iter().any(makes_sequence).then(|| trail.followed(graph)).flatten() {
            graph.node = nodes;
        }
    });
}

fn makes_sequence(node: &NodeProto) -> bool {
    ["SequenceConstruct", "SequenceEmpty", "SplitToSequence"].iter().any(|op_type| is_onnx(node, op_type))
}

/// Whether the node, or a graph inside it, takes one of these values.
fn uses(node: &NodeProto, is_one: &dyn Fn(&str) -> bool) -> bool {
    let inside = |graph: &GraphProto| {
        graph.node.iter().any(|node| uses(node, is_one)) || graph.output.iter().any(|output| is_one(&output.name))
    };
    node.input.iter().any(|name| is_one(name))
        || node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)).any(inside)
}

/// What is in a sequence.
#[derive(Clone)]
enum Sequence {
    /// Tensors by name.
    Items(Vec<String>),
    /// Pieces of equal size along an axis, as many as there happen to be.
    Pieces { tensor: String, axis: i64, size: i64, keeps_axis: bool },
}

struct Trail {
    opset: i64,
    /// Small constants, and whether each is a scalar.
    known: HashMap<String, (Vec<i64>, bool)>,
    sequences: HashMap<String, Sequence>,
    items_in_all: usize,
    /// What the graph will consist of.
    nodes: Vec<NodeProto>,
}

impl Trail {
    /// The graph's nodes without sequences; `None` where one can't be followed.
    fn followed(mut self, graph: &GraphProto) -> Option<Vec<NodeProto>> {
        let constants = graph.initializer.iter();
        self.known.extend(constants.filter_map(|tensor| Some((tensor.name.clone(), small_integers(tensor)?))));
        for node in &graph.node {
            self.follow(node)?;
        }
        let is_sequence = |name: &str| self.sequences.contains_key(name);
        let leaves = graph.output.iter().any(|output| is_sequence(&output.name));
        (!leaves && !self.nodes.iter().any(|node| uses(node, &is_sequence))).then_some(self.nodes)
    }

    fn follow(&mut self, node: &NodeProto) -> Option<()> {
        let output = node.output.first().cloned().unwrap_or_default();
        let sequence = match node.op_type.as_str() {
            _ if !is_onnx(node, &node.op_type) => return self.keep(node),
            "SequenceConstruct" => Sequence::Items(node.input.clone()),
            "SequenceEmpty" => Sequence::Items(vec![]),
            "SplitToSequence" => self.split(node, &output)?,
            "SequenceInsert" => self.inserted(node)?,
            "SequenceErase" => self.erased(node)?,
            "Identity" if self.sequences.contains_key(input(node, 0)?) => self.sequences.get(input(node, 0)?)?.clone(),
            "SequenceAt" => return self.at(node, &output),
            "SequenceLength" => return self.length(node, &output),
            "ConcatFromSequence" => return self.concat(node, &output),
            _ => return self.keep(node),
        };
        if let Sequence::Items(items) = &sequence {
            self.items_in_all += items.len();
            if items.len() > MAX_ITEMS || self.items_in_all > MAX_ITEMS_IN_ALL {
                return None;
            }
        }
        self.sequences.insert(output, sequence);
        Some(())
    }

    fn keep(&mut self, node: &NodeProto) -> Option<()> {
        if let (true, Some(output)) = (is_onnx(node, "Constant"), node.output.first())
            && let Some(value) = attribute(node, "value").and_then(|value| small_integers(value.t.as_ref()?))
        {
            self.known.insert(output.clone(), value);
        }
        let mut node = node.clone();
        if uses(&node, &|name| self.sequences.contains_key(name)) {
            for graph in node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut()) {
                graph.node = self.inside().followed(graph)?;
            }
        }
        self.nodes.push(node);
        Some(())
    }

    /// What a graph inside a node sees.
    fn inside(&self) -> Self {
        let (known, sequences) = (self.known.clone(), self.sequences.clone());
        Self { opset: self.opset, known, sequences, items_in_all: self.items_in_all, nodes: vec![] }
    }

    fn items(&self, node: &NodeProto) -> Option<&Vec<String>> {
        match self.sequences.get(input(node, 0)?)? {
            Sequence::Items(items) => Some(items),
            Sequence::Pieces { .. } => None,
        }
    }

    /// The only number of a constant.
    fn number(&self, name: &str) -> Option<i64> {
        match self.known.get(name)?.0.as_slice() {
            [number] => Some(*number),
            _ => None,
        }
    }

    fn split(&mut self, node: &NodeProto, output: &str) -> Option<Sequence> {
        let (tensor, axis) = (input(node, 0)?.to_owned(), integer(node, "axis", 0));
        let Some(split) = input(node, 1) else {
            let keeps_axis = integer(node, "keepdims", 1) != 0;
            return Some(Sequence::Pieces { tensor, axis, size: 1, keeps_axis });
        };
        let (sizes, is_scalar) = self.known.get(split)?.clone();
        if is_scalar {
            let size = sizes.first().copied().filter(|size| *size > 0)?;
            return Some(Sequence::Pieces { tensor, axis, size, keeps_axis: true });
        }
        if sizes.len() > MAX_ITEMS {
            return None;
        }
        let items: Vec<String> = (0..sizes.len()).map(|index| format!("{output}.item{index}")).collect();
        let outputs: Vec<&str> = items.iter().map(String::as_str).collect();
        let made = if self.opset >= LISTS_ARE_INPUTS {
            super::graphs::node("Split", &[&tensor, split], &outputs)
        } else {
            with_integers(super::graphs::node("Split", &[&tensor], &outputs), "split", &sizes)
        };
        self.nodes.push(with_integer(made, "axis", axis));
        Some(Sequence::Items(items))
    }

    /// Where the node points: from 0 to `length` inclusive; negative positions count from the end.
    fn place(&self, node: &NodeProto, index: usize, length: usize) -> Option<usize> {
        let position = self.number(input(node, index)?)?;
        let from_end = if position < 0 { position.checked_add(i64::try_from(length).ok()?)? } else { position };
        usize::try_from(from_end).ok().filter(|place| *place <= length)
    }

    fn inserted(&self, node: &NodeProto) -> Option<Sequence> {
        let mut items = self.items(node)?.clone();
        let place = if input(node, 2).is_some() { self.place(node, 2, items.len())? } else { items.len() };
        items.insert(place, input(node, 1)?.to_owned());
        Some(Sequence::Items(items))
    }

    fn erased(&self, node: &NodeProto) -> Option<Sequence> {
        let mut items = self.items(node)?.clone();
        let last = items.len().checked_sub(1)?;
        let place = if input(node, 1).is_some() { self.place(node, 1, items.len())? } else { last };
        (place <= last).then(|| items.remove(place))?;
        Some(Sequence::Items(items))
    }

    fn at(&mut self, at: &NodeProto, output: &str) -> Option<()> {
        let made = match self.sequences.get(input(at, 0)?)?.clone() {
            Sequence::Items(items) => {
                let place = self.place(at, 1, items.len())?;
                vec![node("Identity", &[items.get(place)?], &[output])]
            }
            Sequence::Pieces { tensor, axis, size: 1, keeps_axis } if self.number(input(at, 1)?).is_none() => {
                let (place, one) = (format!("{output}.place"), format!("{output}.one"));
                // An index that is a list of one keeps the axis.
                let dims = if keeps_axis { integers(&one, &[1], &[1]) } else { integers(&one, &[], &[0]) };
                let gather = node("Gather", &[&tensor, &place], &[output]);
                vec![dims, node("Reshape", &[input(at, 1)?, &one], &[&place]), with_integer(gather, "axis", axis)]
            }
            Sequence::Pieces { tensor, axis, size, keeps_axis } => {
                let position = self.number(input(at, 1)?)?;
                let [from, to, along] = ["from", "to", "along"].map(|part| format!("{output}.{part}"));
                if keeps_axis {
                    // The last piece ends where the tensor does; where it begins is known for pieces of 1 alone.
                    let begin = if position >= 0 || size == 1 { position.checked_mul(size)? } else { return None };
                    let end = if position == -1 { i64::MAX } else { begin.checked_add(size)? };
                    vec![
                        integers(&from, &[begin], &[1]),
                        integers(&to, &[end], &[1]),
                        integers(&along, &[axis], &[1]),
                        node("Slice", &[&tensor, &from, &to, &along], &[output]),
                    ]
                } else {
                    let gather = with_integer(node("Gather", &[&tensor, &from], &[output]), "axis", axis);
                    vec![integers(&from, &[position], &[]), gather]
                }
            }
        };
        self.nodes.extend(made);
        Some(())
    }

    fn length(&mut self, length: &NodeProto, output: &str) -> Option<()> {
        let made = match self.sequences.get(input(length, 0)?)?.clone() {
            Sequence::Items(items) => vec![integers(output, &[i64::try_from(items.len()).ok()?], &[])],
            Sequence::Pieces { tensor, axis, size: 1, .. } => {
                let (shape, along) = (format!("{output}.shape"), format!("{output}.along"));
                vec![
                    node("Shape", &[&tensor], &[&shape]),
                    integers(&along, &[axis], &[]),
                    with_integer(node("Gather", &[&shape, &along], &[output]), "axis", 0),
                ]
            }
            Sequence::Pieces { .. } => return None,
        };
        if let [constant] = made.as_slice() {
            return self.keep(constant);
        }
        self.nodes.extend(made);
        Some(())
    }

    fn concat(&mut self, concat: &NodeProto, output: &str) -> Option<()> {
        let axis = attribute(concat, "axis")?.i;
        let is_new = integer(concat, "new_axis", 0) != 0;
        let mut items = match self.sequences.get(input(concat, 0)?)?.clone() {
            Sequence::Items(items) if !items.is_empty() => items,
            // The pieces put together again as they were.
            Sequence::Pieces { tensor, axis: of, keeps_axis, .. }
                if of == axis && axis >= 0 && keeps_axis != is_new =>
            {
                self.nodes.push(node("Identity", &[&tensor], &[output]));
                return Some(());
            }
            Sequence::Pieces { tensor, axis: 0, keeps_axis: false, .. } => {
                let joined = NodeProto { domain: OWN_DOMAIN.into(), ..node("HeadgateJoin", &[&tensor], &[output]) };
                self.nodes.push(with_integer(with_integer(joined, "axis", axis), "new_axis", i64::from(is_new)));
                return Some(());
            }
            _ => return None,
        };
        if is_new {
            let along = format!("{output}.along");
            if self.opset >= LISTS_ARE_INPUTS {
                self.nodes.push(integers(&along, &[axis], &[1]));
            }
            for (index, item) in items.iter_mut().enumerate() {
                let raised = format!("{output}.item{index}");
                self.nodes.push(if self.opset >= LISTS_ARE_INPUTS {
                    node("Unsqueeze", &[item, &along], &[&raised])
                } else {
                    with_integers(node("Unsqueeze", &[item], &[&raised]), "axes", &[axis])
                });
                *item = raised;
            }
        }
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        self.nodes.push(with_integer(node("Concat", &items, &[output]), "axis", axis));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::{OperatorSetIdProto, ValueInfoProto};

    /// The nodes of a graph with output `y` after the pass, each as its operator and inputs.
    fn after(nodes: Vec<NodeProto>) -> Vec<String> {
        let output = vec![ValueInfoProto { name: "y".into(), ..Default::default() }];
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
        let graph = GraphProto { node: nodes, output, ..Default::default() };
        let mut model = ModelProto { graph: Some(graph), opset_import, ..Default::default() };
        apply(&mut model);
        let shown = |node: &NodeProto| format!("{}({})={}", node.op_type, node.input.join(","), node.output.join(","));
        model.graph.unwrap().node.iter().filter(|node| node.op_type != "Constant").map(shown).collect()
    }

    fn concat(new_axis: i64) -> NodeProto {
        with_integer(with_integer(node("ConcatFromSequence", &["s"], &["y"]), "axis", 1), "new_axis", new_axis)
    }

    #[test]
    fn what_is_put_in_is_joined_without_the_sequence() {
        let made = node("SequenceConstruct", &["a", "b"], &["s"]);
        assert_eq!(after(vec![made.clone(), concat(0)]), ["Concat(a,b)=y"]);
        let raised = ["Unsqueeze(a,y.along)=y.item0", "Unsqueeze(b,y.along)=y.item1", "Concat(y.item0,y.item1)=y"];
        assert_eq!(after(vec![made, concat(1)]), raised);
    }

    #[test]
    fn what_is_inserted_and_erased_is_followed() {
        let nodes = vec![
            integers("first", &[0], &[]),
            integers("last", &[-1], &[]),
            node("SequenceEmpty", &[], &["s0"]),
            node("SequenceInsert", &["s0", "a"], &["s1"]),
            node("SequenceInsert", &["s1", "b", "first"], &["s2"]),
            node("SequenceInsert", &["s2", "c"], &["s3"]),
            node("SequenceErase", &["s3", "last"], &["s4"]),
            node("SequenceAt", &["s4", "last"], &["y"]),
        ];
        assert_eq!(after(nodes), ["Identity(a)=y"]);
    }

    #[test]
    fn pieces_are_cut_where_they_are_used() {
        let split = |keepdims| with_integer(node("SplitToSequence", &["x"], &["s"]), "keepdims", keepdims);
        let at = || vec![integers("i", &[-1], &[]), node("SequenceAt", &["s", "i"], &["y"])];
        let with = |first: NodeProto, rest: Vec<NodeProto>| [vec![first], rest].concat();
        assert_eq!(after(with(split(0), at())), ["Gather(x,y.from)=y"]);
        assert_eq!(after(with(split(1), at())), ["Slice(x,y.from,y.to,y.along)=y"]);
        let length = vec![node("SequenceLength", &["s"], &["y"])];
        assert_eq!(after(with(split(1), length)), ["Shape(x)=y.shape", "Gather(y.shape,y.along)=y"]);
        let sized = vec![
            integers("sizes", &[2, 3], &[2]),
            node("SplitToSequence", &["x", "sizes"], &["s"]),
            node("SequenceLength", &["s"], &["n"]),
            node("SequenceAt", &["s", "n.none"], &["y"]),
        ];
        assert_eq!(after(sized).len(), 3, "a position that only a run tells leaves the graph as it is");
    }

    #[test]
    fn a_sequence_that_leaves_the_graph_stays() {
        let nodes = vec![node("SequenceConstruct", &["a"], &["y"])];
        assert_eq!(after(nodes), ["SequenceConstruct(a)=y"]);
        let odd = vec![node("SequenceConstruct", &["a"], &["s"]), node("SequenceMap", &["s"], &["y"])];
        assert_eq!(after(odd).len(), 2);
    }
}
