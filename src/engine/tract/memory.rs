//! How many bytes a model's plans hold.
//!
//! Counted are the constants of the parsed file and of every plan, the packed weights among them, each tensor once
//! however many plans share it; the packed weights that matrix products hold themselves; and the trees of this crate's own
//! operators. A packed matrix counts as what its format says a matrix of its size takes. Not counted: the nodes themselves, the tables that convolutions compute for their
//! shapes, what the allocator adds, and the memory of a run. So this is a floor, near the truth where weights are most
//! of a model.

use std::collections::HashMap;

use tract_onnx::prelude::{Arc, InferenceModel, Tensor, TypedModel};
use tract_onnx::tract_core::internal::ExoticFact;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::matmul::optimized::{MatMulOperand, OptMatMul, ProtoFusedSpec};
use tract_onnx::tract_core::ops::scan::OptScan;
use tract_onnx::tract_core::prelude::tract_linalg::mmm::{EagerPackedInput, MMMInputValue};
use tract_onnx::tract_hir::infer::Factoid;

use crate::engine::ops;

/// What was counted so far: bytes by the address where they are kept.
#[derive(Default)]
pub struct Memory(HashMap<usize, u64>);

impl Memory {
    pub fn bytes(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds the constants of a parsed file, those of the graphs inside its nodes included.
    pub fn add_parsed(&mut self, model: &InferenceModel) {
        for node in &model.nodes {
            if let Some(constant) = node.op_as::<Const>() {
                self.add_tensor(constant.val());
            }
            ops::control::parsed_graphs(&*node.op).into_iter().for_each(|graph| self.add_parsed(graph));
            for output in &node.outputs {
                output.fact.value.concretize().iter().for_each(|value| self.add_tensor(value));
            }
        }
    }

    /// Adds the constants of a plan, those of the graphs inside its operators, and what our operators hold.
    pub fn add_optimised(&mut self, model: &TypedModel) {
        for node in &model.nodes {
            if let Some(constant) = node.op_as::<Const>() {
                self.add_tensor(constant.val());
            }
            if let Some(scan) = node.op_as::<OptScan>() {
                self.add_optimised(scan.plan.model());
            }
            ops::control::graphs(&*node.op).into_iter().for_each(|graph| self.add_optimised(graph));
            if let Some(product) = node.op_as::<OptMatMul>() {
                product.micro_ops.iter().for_each(|step| self.add_step(step));
            }
            if let Some((address, bytes)) = ops::held_bytes(&*node.op) {
                self.0.insert(address, bytes);
            }
            for output in &node.outputs {
                output.fact.konst.iter().for_each(|value| self.add_tensor(value));
            }
        }
    }

    /// A step of a matrix product may hold its weights.
    fn add_step(&mut self, step: &ProtoFusedSpec) {
        let ProtoFusedSpec::AddMatMul { a, b, .. } = step else { return };
        for operand in [a, b] {
            if let MatMulOperand::Const(packed) = operand {
                self.0.insert(packed_address(&**packed), packed_bytes(packed.exotic_fact()));
            }
        }
    }

    fn add_tensor(&mut self, tensor: &Arc<Tensor>) {
        self.0.entry(Arc::as_ptr(tensor) as usize).or_insert_with(|| tensor_bytes(tensor));
    }
}

fn tensor_bytes(tensor: &Tensor) -> u64 {
    if tensor.is_plain() {
        return (tensor.len() * tensor.datum_type().size_of()) as u64;
    }
    tensor.exotic_fact().ok().flatten().map_or(0, |fact| packed_bytes(&*fact))
}

fn packed_bytes(fact: &dyn ExoticFact) -> u64 {
    fact.mem_size().to_i64().ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

/// Where a packed matrix lies: copies of an operator share it.
fn packed_address(packed: &dyn MMMInputValue) -> usize {
    match packed.downcast_ref::<EagerPackedInput>() {
        Some(eager) => Arc::as_ptr(&eager.packed) as usize,
        None => std::ptr::from_ref(packed).addr(),
    }
}
