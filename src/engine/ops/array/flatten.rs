//! `ai.onnx.Flatten` (version 13): makes a table of a tensor, the dimensions before an axis its rows and the others its
//! columns.
//!
//! In place of tract's, which takes no tensor of two dimensions that only a run tells, even if one of them goes to the
//! rows and the other to the columns, as with a text's words.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::change_axes::to_axis_ops_with_tf_rules;
use tract_onnx::tract_hir::internal::*;

use super::Built;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    Ok((expand(Flatten { axis: node.get_attr_opt::<i64>("axis")?.unwrap_or(1) }), vec![]))
}

#[derive(Debug, Clone)]
struct Flatten {
    axis: i64,
}

impl Flatten {
    fn table(&self, shape: &[TDim]) -> TractResult<TVec<TDim>> {
        let rank = i64::try_from(shape.len())?;
        let axis = if self.axis < 0 { self.axis.checked_add(rank) } else { Some(self.axis) };
        let axis = axis.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis <= shape.len());
        let axis = axis.with_context(|| format!("attribute 'axis' is {} for {rank} dimensions", self.axis))?;
        let product = |dims: &[TDim]| {
            let open = dims.iter().filter(|dim| dim.to_usize().is_err()).count();
            ensure!(open <= 1, "Flatten would multiply {open} dimensions that only a run tells");
            Ok(dims.iter().cloned().product::<TDim>())
        };
        Ok(tvec![product(&shape[..axis])?, product(&shape[axis..])?])
    }
}

impl Expansion for Flatten {
    fn name(&self) -> StaticName {
        "Flatten".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.given(&inputs[0].shape, move |solver, shape| solver.equals(&outputs[0].shape, self.table(&shape)?))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let mut wire = tvec![inputs[0]];
        for (index, op) in to_axis_ops_with_tf_rules(&shape, &self.table(&shape)?)?.into_iter().enumerate() {
            wire = model.wire_node(format!("{prefix}.{index}"), op, &wire)?;
        }
        Ok(wire)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn dimensions_before_the_axis_are_rows() {
        let x = Tensor::zero::<f32>(&[2, 3, 4]).unwrap();
        let shape = |node: Node| run(node, std::slice::from_ref(&x), 1).unwrap()[0].shape().to_vec();
        assert_eq!(shape(Node::new("Flatten")), [2, 12]);
        assert_eq!(shape(Node::new("Flatten").int("axis", 0)), [1, 24]);
        assert_eq!(shape(Node::new("Flatten").int("axis", 3)), [24, 1]);
        assert_eq!(shape(Node::new("Flatten").int("axis", -1)), [6, 4]);
        assert!(run(Node::new("Flatten").int("axis", 4), std::slice::from_ref(&x), 1).is_err());
    }

    #[test]
    fn rows_and_columns_may_each_have_one_open_dimension() {
        let scope = SymbolScope::default();
        let [n, words] = ["n", "words"].map(|name| scope.sym(name).to_dim());
        let table = Flatten { axis: 1 }.table(&[n.clone(), 1.to_dim(), words.clone()]).unwrap();
        assert_eq!(&*table, [n.clone(), words.clone()]);
        assert!(Flatten { axis: 2 }.table(&[n, words, 1.to_dim()]).is_err());
    }
}
