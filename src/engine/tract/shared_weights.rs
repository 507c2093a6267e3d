//! Weights that several plans of one model need alike, held once.
//!
//! Each plan is optimised by itself: tract folds constants and packs the matrices of products anew for it, though plans for other
//! shapes often come to the same. What a new plan holds is therefore looked for among what earlier plans of the model hold, and
//! let go where it is there already. While a plan is made its own copies exist; what is inside the body of a Scan is left alone.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tract_onnx::prelude::{Tensor, TypedModel};
use tract_onnx::tract_core::dyn_clone::clone_box;
use tract_onnx::tract_core::internal::Blob;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::matmul::optimized::{MatMulOperand, OptMatMul, ProtoFusedSpec};
use tract_onnx::tract_core::prelude::tract_linalg::mmm::{
    EagerPackedInput, MMMInputValue, PackedExoticFact, PackedMatrixStorage,
};
use tract_onnx::tract_hir::internal::TractResult;

use crate::engine::ops::{self, Kernel};

/// Smaller constants are not worth looking for.
const WORTH_SHARING_BYTES: usize = 4096;

/// What the plans of one model hold, as long as one of them does.
#[derive(Default)]
pub struct SharedWeights(Mutex<Known>);

#[derive(Default)]
struct Known {
    tensors: Vec<Weak<Tensor>>,
    matrices: Vec<KnownMatrix>,
    kernels: Vec<Weak<dyn Kernel>>,
}

/// A packed matrix without its bytes.
struct KnownMatrix {
    fact: PackedExoticFact,
    packed: Weak<Blob>,
    panel_bytes: usize,
    mn: usize,
}

impl SharedWeights {
    /// Puts what earlier plans hold in the place of what is equal to it in this plan and remembers the rest.
    ///
    /// # Errors
    /// tract's own, for a constant that it does not take back.
    pub fn share(&self, model: &mut TypedModel) -> TractResult<()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.tensors.retain(|tensor| tensor.strong_count() > 0);
        known.matrices.retain(|matrix| matrix.packed.strong_count() > 0);
        known.kernels.retain(|kernel| kernel.strong_count() > 0);
        for node in &mut model.nodes {
            if let Some(constant) = node.op_as::<Const>() {
                let held = known.tensor(constant.val());
                let exotic = constant.exotic_fact().map(clone_box);
                for output in node.outputs.iter_mut().filter(|output| output.fact.konst.is_some()) {
                    output.fact.konst = Some(held.clone());
                }
                node.op = Box::new(Const::new_with_opt_exotic_fact(held, exotic)?);
            } else if let Some(product) = node.op_as_mut::<OptMatMul>() {
                product.micro_ops.iter_mut().for_each(|step| known.share_operands(step));
            } else {
                ops::hold_once(&mut *node.op, &mut known.kernels);
            }
        }
        Ok(())
    }
}

impl Known {
    fn share_operands(&mut self, step: &mut ProtoFusedSpec) {
        let ProtoFusedSpec::AddMatMul { a, b, .. } = step else { return };
        for operand in [a, b] {
            let MatMulOperand::Const(packed) = operand else { continue };
            if let Some(packed) = packed.downcast_mut::<EagerPackedInput>() {
                *packed = self.matrix(packed);
            }
        }
    }

    /// The equal one that is held already, or this one, which is from now on.
    fn tensor(&mut self, new: &Arc<Tensor>) -> Arc<Tensor> {
        if let Some(held) = self.tensors.iter().filter_map(Weak::upgrade).find(|held| is_same_tensor(held, new)) {
            return held;
        }
        self.tensors.push(Arc::downgrade(new));
        new.clone()
    }

    fn matrix(&mut self, new: &EagerPackedInput) -> EagerPackedInput {
        let held = self.matrices.iter().filter_map(KnownMatrix::held).find(|held| is_same_matrix(held, new));
        held.unwrap_or_else(|| {
            let EagerPackedInput { fact, packed, panel_bytes, mn } = new.clone();
            self.matrices.push(KnownMatrix { fact, packed: Arc::downgrade(&packed), panel_bytes, mn });
            new.clone()
        })
    }
}

impl KnownMatrix {
    fn held(&self) -> Option<EagerPackedInput> {
        let packed = self.packed.upgrade()?;
        Some(EagerPackedInput { fact: self.fact.clone(), packed, panel_bytes: self.panel_bytes, mn: self.mn })
    }
}

/// By their bytes, for 0 and -0 are equal numbers.
fn is_same_tensor(one: &Tensor, other: &Tensor) -> bool {
    if one.datum_type() != other.datum_type() || one.shape() != other.shape() {
        return false;
    }
    match (one.storage_as::<PackedMatrixStorage>(), other.storage_as::<PackedMatrixStorage>()) {
        (Some(one), Some(other)) => {
            let mut pairs = one.values().iter().zip(other.values());
            one.batch_shape() == other.batch_shape() && pairs.all(|(one, other)| is_same_matrix(&**one, &**other))
        }
        (None, None) if one.is_plain() && other.is_plain() && one.datum_type().is_copy() => {
            one.as_bytes().len() >= WORTH_SHARING_BYTES && one.as_bytes() == other.as_bytes()
        }
        _ => false,
    }
}

/// By their elements: what lies between them to fill a panel is whatever was in memory. Matrices of other numbers than floats
/// are never found to be the same.
fn is_same_matrix(one: &dyn MMMInputValue, other: &dyn MMMInputValue) -> bool {
    let (k, mn) = (one.k(), one.mn());
    if k != other.k() || mn != other.mn() || k * mn * 4 < WORTH_SHARING_BYTES || !one.format().dyn_eq(other.format()) {
        return false;
    }
    let (mut ours, mut theirs) = (vec![0f32; k], vec![0f32; k]);
    let is_same_line = |line: usize| {
        let read = one.extract_at_mn_f32(line, &mut ours).and_then(|()| other.extract_at_mn_f32(line, &mut theirs));
        read.is_ok() && ours.iter().zip(&theirs).all(|(ours, theirs)| ours.to_bits() == theirs.to_bits())
    };
    (0..mn).all(is_same_line)
}
