//! `ai.onnx.ml.ZipMap`: a row of scores becomes a map from class to score.
//!
//! Served as the tensor of its scores: the protocol has no maps, and the classes are the same in every row. Which column is
//! whose is told by [`zip_map_classes`].

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;

pub fn build(_: &ParsingContext, _: &NodeProto) -> Built {
    Ok((expand(ZipMap), vec![]))
}

/// What the columns of the scores stand for: the keys that a ZipMap's maps would have, integers as decimal text. A text that
/// is no UTF-8 gets replacement characters. `None` for a node that names no classes.
pub fn zip_map_classes(node: &NodeProto) -> Option<Vec<String>> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let texts = attribute("classlabels_strings").into_iter().flat_map(|attribute| &attribute.strings);
    let integers = attribute("classlabels_int64s").into_iter().flat_map(|attribute| &attribute.ints);
    let texts: Vec<String> = texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let classes = if texts.is_empty() { integers.map(i64::to_string).collect() } else { texts };
    Some(classes).filter(|classes| !classes.is_empty())
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
    use tract_onnx::pb::AttributeProto;

    use super::super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn scores_pass_through_as_a_tensor() {
        let scores = tensor2(&[[0.25f32, 0.75], [0.5, 0.5]]);
        let node = Node::new("ZipMap").ints("classlabels_int64s", &[0, 1]);
        assert_eq!(run(node, std::slice::from_ref(&scores), 1).unwrap(), [scores]);
    }

    #[test]
    fn the_classes_of_the_columns_are_known() {
        let texts = AttributeProto {
            name: "classlabels_strings".into(),
            strings: vec![b"no".to_vec(), b"yes".to_vec()],
            ..Default::default()
        };
        let integers = AttributeProto { name: "classlabels_int64s".into(), ints: vec![3, -5], ..Default::default() };
        let classes = |attribute: Vec<AttributeProto>| {
            zip_map_classes(&NodeProto { attribute, ..Default::default() }).map(|classes| classes.join(" "))
        };
        assert_eq!(classes(vec![texts]).as_deref(), Some("no yes"));
        assert_eq!(classes(vec![integers]).as_deref(), Some("3 -5"));
        assert_eq!(classes(vec![]), None);
    }
}
