//! `ai.onnx.ml.ZipMap`: a row of scores becomes a map from class to score.
//!
//! Served as the tensor of its scores: the protocol has no maps, and the classes are the same in every row. Which column is
//! whose is told by [`class_labels`].

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};
use tract_onnx::tract_hir::internal::*;

use super::Built;

pub fn build(_: &ParsingContext, _: &NodeProto) -> Built {
    Ok((expand(ZipMap), vec![]))
}

/// The classes that the columns of an output stand for, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassLabels {
    Texts(Vec<String>),
    Integers(Vec<i64>),
}

/// The outputs of a graph that a ZipMap gives, by name, with the labels that its maps would have as keys. A text that is no
/// UTF-8 gets replacement characters; a ZipMap without labels is left out.
pub fn class_labels(graph: &GraphProto) -> Vec<(String, ClassLabels)> {
    let labelled = |output: &String| {
        let node = graph.node.iter().find(|node| node.op_type == "ZipMap" && node.output.first() == Some(output))?;
        Some((output.clone(), labels_of(node)?))
    };
    graph.output.iter().filter_map(|output| labelled(&output.name)).collect()
}

fn labels_of(node: &NodeProto) -> Option<ClassLabels> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let texts = |attribute: &AttributeProto| {
        attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>()
    };
    match (attribute("classlabels_strings").map(texts), attribute("classlabels_int64s")) {
        (Some(texts), _) if !texts.is_empty() => Some(ClassLabels::Texts(texts)),
        (_, Some(attribute)) if !attribute.ints.is_empty() => Some(ClassLabels::Integers(attribute.ints.clone())),
        _ => None,
    }
}

#[derive(Debug, Clone)]
struct ZipMap;

impl Expansion for ZipMap {
    fn name(&self) -> StaticName {
        "ZipMap".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, _: &str, _: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        Ok(tvec!(inputs[0]))
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::ValueInfoProto;

    use super::super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn scores_pass_through_as_a_tensor() {
        let scores = tensor2(&[[0.25f32, 0.75], [0.5, 0.5]]);
        let node = Node::new("ZipMap").ints("classlabels_int64s", &[0, 1]);
        assert_eq!(run(node, std::slice::from_ref(&scores), 1).unwrap(), [scores]);
    }

    #[test]
    fn the_labels_of_each_output_are_known() {
        let zip_map = |output: &str, attribute: AttributeProto| NodeProto {
            op_type: "ZipMap".into(),
            output: vec![output.into()],
            attribute: vec![attribute],
            ..Default::default()
        };
        let texts = AttributeProto {
            name: "classlabels_strings".into(),
            strings: vec![b"no".to_vec(), b"yes".to_vec()],
            ..Default::default()
        };
        let integers = AttributeProto { name: "classlabels_int64s".into(), ints: vec![3, 5], ..Default::default() };
        let info = |name: &str| ValueInfoProto { name: name.into(), ..Default::default() };
        let graph = GraphProto {
            node: vec![zip_map("a", texts), zip_map("b", integers), zip_map("c", AttributeProto::default())],
            output: ["label", "b", "a", "c"].map(info).to_vec(),
            ..Default::default()
        };
        let expected = [
            ("b".to_owned(), ClassLabels::Integers(vec![3, 5])),
            ("a".to_owned(), ClassLabels::Texts(vec!["no".into(), "yes".into()])),
        ];
        assert_eq!(class_labels(&graph), expected);
    }
}
