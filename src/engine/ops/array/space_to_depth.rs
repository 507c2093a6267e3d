//! `SpaceToDepth` (ONNX 13) with the `mode` that ONNX Runtime knows besides: DCR, the usual one, puts a block's places before
//! the channels, CRD after them. tract knows DCR alone and takes the other for it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let block = node.get_attr::<usize>("blocksize")?;
    ensure!(block > 0 && block.checked_mul(block).is_some(), "attribute 'blocksize' holds {block}");
    let channels_first = match node.get_attr_opt::<&str>("mode")?.unwrap_or("DCR") {
        "DCR" => false,
        "CRD" => true,
        other => bail!("attribute 'mode' holds '{other}'"),
    };
    Ok((expand(SpaceToDepth { block, channels_first }), vec![]))
}

#[derive(Debug, Clone)]
struct SpaceToDepth {
    block: usize,
    channels_first: bool,
}

impl Expansion for SpaceToDepth {
    fn name(&self) -> StaticName {
        "SpaceToDepth".into()
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
        solver.equals(&inputs[0].rank, 4)?;
        solver.equals(&outputs[0].rank, 4)?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            let block = self.block as i64;
            let made = tvec![
                shape[0].clone(),
                shape[1].clone() * (block * block),
                shape[2].clone() / block,
                shape[3].clone() / block
            ];
            solver.equals(&outputs[0].shape, made)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        ensure!(shape.len() == 4, "an input of {} axes instead of 4", shape.len());
        let block = self.block.to_dim();
        for size in shape[2..].iter().filter_map(|dim| dim.to_usize().ok()) {
            ensure!(size % self.block == 0, "blocks of {} don't divide {size}", self.block);
        }
        let (high, wide) = (shape[2].clone() / self.block, shape[3].clone() / self.block);
        let channels = shape[1].clone();
        // [N, C, H, W] -> [N, C, H/b, b, W/b, b], then the two b beside C in the mode's order.
        let split = AxisOp::Reshape(
            2,
            tvec!(shape[2].clone(), shape[3].clone()),
            tvec!(high, block.clone(), wide, block.clone()),
        );
        let (to, from) = match self.channels_first {
            true => (2, tvec!(channels.clone(), block.clone(), block.clone())),
            false => (1, tvec!(block.clone(), block.clone(), channels.clone())),
        };
        let merge = AxisOp::Reshape(1, from, tvec!(channels * block.clone() * block));
        let mut wire = inputs[0];
        for (step, op) in [split, AxisOp::Move(3, to), AxisOp::Move(5, to + 1), merge].into_iter().enumerate() {
            wire = model.wire_node(format!("{prefix}.{step}"), op, &[wire])?[0];
        }
        Ok(tvec!(wire))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn image() -> Tensor {
        // 1 image, 2 channels, 2 rows of 4
        tensor1(&(0..16).map(|i| i as f32).collect::<Vec<_>>()).into_shape(&[1, 2, 2, 4]).unwrap()
    }

    fn made(mode: &str) -> Vec<f32> {
        let y = run(Node::new("SpaceToDepth").int("blocksize", 2).text("mode", mode), &[image()], 1).unwrap();
        assert_eq!(y[0].shape(), [1, 8, 1, 2]);
        y[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn places_come_before_channels_or_after_them() {
        let dcr = [0., 2., 8., 10., 1., 3., 9., 11., 4., 6., 12., 14., 5., 7., 13., 15.];
        let crd = [0., 2., 1., 3., 4., 6., 5., 7., 8., 10., 9., 11., 12., 14., 13., 15.];
        assert_eq!(made("DCR"), dcr);
        assert_eq!(made("CRD"), crd);
    }

    #[test]
    fn what_blocks_cannot_divide_is_refused() {
        assert!(run(Node::new("SpaceToDepth").int("blocksize", 3), &[image()], 1).is_err());
        assert!(run(Node::new("SpaceToDepth").int("blocksize", 0), &[image()], 1).is_err());
        assert!(run(Node::new("SpaceToDepth").int("blocksize", 2).text("mode", "RCD"), &[image()], 1).is_err());
    }
}
