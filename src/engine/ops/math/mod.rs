//! Operators on numbers.

mod bit_cast;
mod bit_shift;
mod cum_prod;
mod det;
mod dft;
mod doubles;
mod einsum;
mod equal;
mod extremes;
mod gemm;
mod modulo;
mod not_a_number;
mod power;
mod softplus;
mod spread;
mod top_k;
mod whole_div;
mod whole_product;
mod whole_square;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::tract_hir::internal::{TractResult, TypedModel};

#[cfg(test)]
use super::testing;
use super::{Built, bounded, inputs, kernel, stand_in, unfit, wide, written};

/// Puts ours in the place of tract's in an optimised graph, where tract's are wrong, slow, or not there.
///
/// # Errors
/// tract's own.
pub fn mend(model: &mut TypedModel) -> TractResult<()> {
    spread::spread(model)?;
    whole_square::square_integers(model);
    not_a_number::keep_not_a_number(model);
    Ok(())
}

pub fn register(register: &mut OnnxOpRegister) {
    register.insert("BitCast", bit_cast::build);
    register.insert("BitShift", bit_shift::build);
    register.insert("CumProd", cum_prod::build);
    register.insert("Div", whole_div::build);
    register.insert("Det", det::build);
    register.insert("DFT", dft::build);
    register.insert("Einsum", einsum::build);
    register.insert("Gemm", gemm::build);
    register.insert("IsInf", doubles::build_is_inf);
    register.insert("IsNaN", doubles::build_is_nan);
    register.insert("LeakyRelu", doubles::build_leaky_relu);
    register.insert("MatMul", whole_product::build);
    register.insert("Equal", equal::build);
    register.insert("ArgMax", extremes::build_places);
    register.insert("ArgMin", extremes::build_places);
    register.insert("Hardmax", extremes::build_hardmax);
    register.insert("ReduceLogSumExp", extremes::build_values);
    register.insert("ReduceMax", extremes::build_values);
    register.insert("ReduceMean", extremes::build_values);
    register.insert("ReduceMin", extremes::build_values);
    register.insert("ReduceProd", extremes::build_values);
    register.insert("ReduceSum", extremes::build_values);
    register.insert("Mod", modulo::build);
    register.insert("Pow", power::build);
    register.insert("Round", doubles::build_round);
    register.insert("Sigmoid", doubles::build_sigmoid);
    register.insert("Softplus", softplus::build);
    register.insert("TopK", top_k::build);
}
