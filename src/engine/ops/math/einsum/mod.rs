//! `ai.onnx.Einsum` (version 12): sums of products along axes that an equation names by letters.
//!
//! tract's is kept for a product of two tensors of floats, and for what only moves or sums axes of one. It takes the sum of
//! everything (`ij->`) for its operand, has no diagonals (`ii->i`), and panics where integers are multiplied.

mod equation;
mod product;

use std::collections::BTreeMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use self::equation::{Equation, Labels};
use self::product::{Operand, product_of};
use super::inputs::hangs_on_symbols;
use super::kernel::{Kernel, built};
use super::modulo::plain;
use super::stand_in::stand_in;
use super::{Built, bounded, unfit};

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let equation = Equation::parse(&node.get_attr::<String>("equation")?).context("attribute 'equation'")?;
    if equation.gives_one_number() || equation.has_diagonals() || equation.operands() > 2 {
        return built(node, Einsum { equation });
    }
    let mut for_tract = node.clone();
    let written = for_tract.attribute.iter_mut().filter(|attribute| attribute.name == "equation");
    written.for_each(|attribute| attribute.s = equation.to_string().into_bytes());
    let ranks = equation.clone();
    stand_in(context, &for_tract, Einsum { equation }, move |inputs: &[TypedFact]| {
        let given: Vec<usize> = inputs.iter().map(TypedFact::rank).collect();
        let is_number = ranks.labels(&given).is_ok_and(|(_, output)| output.is_empty());
        let is_whole = inputs.iter().any(|input| plain(input.datum_type).is_integer());
        (is_number || is_whole) && !inputs.iter().any(hangs_on_symbols)
    })
}

#[derive(Debug)]
struct Einsum {
    equation: Equation,
}

impl Kernel for Einsum {
    fn name(&self) -> &'static str {
        "Einsum"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        Ok(plain(given))
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ranks: Vec<usize> = inputs.iter().map(|input| input.rank()).collect();
        let (operands, output) = self.equation.labels(&ranks)?;
        let datum_type = inputs.first().context("Einsum of nothing")?.datum_type;
        ensure!(
            inputs.iter().all(|input| input.datum_type == datum_type),
            "Einsum of operands of different types: {:?}",
            inputs.iter().map(|input| input.datum_type).collect::<Vec<_>>()
        );
        let mut sizes: BTreeMap<usize, TDim> = BTreeMap::new();
        for (labels, input) in operands.iter().zip(inputs) {
            for (label, dim) in labels.iter().zip(&*input.shape) {
                let size = match sizes.remove(label) {
                    None => dim.clone(),
                    Some(held) => held.clone().broadcast(dim.clone()).with_context(|| {
                        format!("Einsum of axes of {held} and {dim} that attribute 'equation' calls the same")
                    })?,
                };
                sizes.insert(*label, size);
            }
        }
        let shape = output.iter().map(|label| sizes.get(label).cloned()).collect::<Option<TVec<TDim>>>();
        Ok(tvec![datum_type.fact(shape.context("an axis of no operand")?)])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        macro_rules! whole {
            ($type:ty) => {
                self.run::<$type>(inputs, 1, |sum, a, b| sum.wrapping_add(a.wrapping_mul(b)))?
            };
        }
        Ok(tvec![match inputs[0].datum_type() {
            DatumType::F32 => self.run::<f32>(inputs, 1.0, |sum, a, b| sum + a * b)?,
            DatumType::F64 => self.run::<f64>(inputs, 1.0, |sum, a, b| sum + a * b)?,
            DatumType::I8 => whole!(i8),
            DatumType::I16 => whole!(i16),
            DatumType::I32 => whole!(i32),
            DatumType::I64 => whole!(i64),
            DatumType::U8 => whole!(u8),
            DatumType::U16 => whole!(u16),
            DatumType::U32 => whole!(u32),
            DatumType::U64 => whole!(u64),
            other => bail!("Einsum of {other:?}"),
        }])
    }
}

impl Einsum {
    /// The operands are multiplied two at a time, in their order; an axis that no later one and no output has is summed as
    /// soon as it can be. `add` gives the sum with a product.
    fn run<T: Datum + Copy + Default>(
        &self,
        inputs: &[TValue],
        one: T,
        add: impl Fn(T, T, T) -> T + Copy,
    ) -> TractResult<Tensor> {
        let ranks: Vec<usize> = inputs.iter().map(|input| input.rank()).collect();
        let (labels, output) = self.equation.labels(&ranks)?;
        let one = Operand { labels: Labels::new(), shape: tvec![], elements: vec![one].into() };
        // Those of the output, and those of the operands from one on.
        let wanted =
            |from: usize, label: &usize| output.contains(label) || labels[from..].iter().flatten().any(|l| l == label);
        let mut whole: Option<Operand<T>> = None;
        for (place, (labels, input)) in labels.iter().zip(inputs).enumerate() {
            let elements = input.try_as_plain_ram()?.as_slice::<T>()?.into();
            let mut operand = Operand { labels: labels.clone(), shape: input.shape().into(), elements };
            let of_others = |label: &usize| {
                wanted(place + 1, label) || whole.as_ref().is_some_and(|whole| whole.labels.contains(label))
            };
            let mut kept: Labels = labels.iter().copied().filter(of_others).collect();
            kept.sort_unstable();
            kept.dedup();
            if whole.is_none() && place + 1 == inputs.len() {
                kept.clone_from(&output);
            }
            if kept != operand.labels {
                operand = product_of(&operand, &one, kept, add)?;
            }
            whole = Some(match whole {
                None => operand,
                Some(whole) if place + 1 == inputs.len() => product_of(&whole, &operand, output.clone(), add)?,
                Some(whole) => {
                    let mut kept: Labels = whole.labels.iter().chain(&operand.labels).copied().collect();
                    kept.retain(|label| wanted(place + 1, label));
                    kept.sort_unstable();
                    kept.dedup();
                    product_of(&whole, &operand, kept, add)?
                }
            });
        }
        let whole = whole.context("Einsum of nothing")?;
        tensor1(&whole.elements).into_shape(&whole.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run, shapes_for_any_rows};
    use super::*;

    fn sum(equation: &str, operands: &[Tensor]) -> TractResult<Tensor> {
        Ok(run(Node::new("Einsum").text("equation", equation), operands, 1)?.remove(0))
    }

    fn x() -> Tensor {
        tensor2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]])
    }

    fn square<T: Datum + From<i8>>() -> Tensor {
        tensor2(&[[1, -2, 3], [4, 5, -6], [7, 8, 9]].map(|row: [i8; 3]| row.map(T::from)))
    }

    /// Expected values are ONNX Runtime 1.31.1's, here and below.
    #[test]
    fn an_output_without_axes_is_the_sum_of_everything() {
        assert_eq!(sum("ij->", &[x()]).unwrap(), tensor0(21f32));
        assert_eq!(sum("i->", &[tensor1(&[1.5f64, 2.0])]).unwrap(), tensor0(3.5f64));
        assert_eq!(sum("ijk->", &[tensor3(&[[[1i64, 2], [3, -4]]])]).unwrap(), tensor0(2i64));
        assert_eq!(sum("ij,kl->", &[x(), tensor2(&[[1f32, -3.0]])]).unwrap(), tensor0(-42f32));
        assert_eq!(sum("i...->...", &[tensor1(&[1f32, 2.0])]).unwrap(), tensor0(3f32));
        assert_eq!(sum("i...,i...->...", &[x(), x()]).unwrap(), tensor1(&[17f32, 29.0, 45.0]));
        let none = Tensor::zero::<f32>(&[0, 3]).unwrap();
        assert_eq!(sum("ij->", &[none]).unwrap(), tensor0(0f32));
    }

    #[test]
    fn a_letter_twice_in_an_operand_is_a_diagonal() {
        assert_eq!(sum("ii->i", &[square::<f32>()]).unwrap(), tensor1(&[1f32, 5.0, 9.0]));
        assert_eq!(sum("ii", &[square::<i64>()]).unwrap(), tensor0(15i64));
        assert_eq!(sum("iij->ji", &[tensor3(&[[[1f32], [2.0]], [[3.0], [4.0]]])]).unwrap(), tensor2(&[[1f32, 4.0]]));
        assert!(sum("ii->i", &[x()]).is_err());
    }

    #[test]
    fn integers_are_multiplied() {
        let y = tensor2(&[[1i64, 0], [-1, 2], [3, 1]]);
        let x = tensor2(&[[1i64, 2, 3], [4, 5, 6]]);
        assert_eq!(sum("ij,jk->ik", &[x.clone(), y.clone()]).unwrap(), tensor2(&[[8i64, 7], [17, 16]]));
        assert_eq!(sum("ij,jk", &[x.clone(), y.clone()]).unwrap(), tensor2(&[[8i64, 7], [17, 16]]));
        assert_eq!(sum("ij,jk->ki", &[x.clone(), y.clone()]).unwrap(), tensor2(&[[8i64, 17], [7, 16]]));
        assert_eq!(sum("ij,ij->ij", &[x.clone(), x.clone()]).unwrap(), tensor2(&[[1i64, 4, 9], [16, 25, 36]]));
        assert_eq!(sum("i,j->ij", &[tensor1(&[1i32, 2]), tensor1(&[3i32])]).unwrap(), tensor2(&[[3i32], [6]]));
        assert_eq!(sum("ij,jk,k->i", &[x.clone(), y, tensor1(&[1i64, 10])]).unwrap(), tensor1(&[78i64, 177]));
        assert_eq!(sum("ji", &[x]).unwrap(), tensor2(&[[1i64, 4], [2, 5], [3, 6]]));
    }

    #[test]
    fn products_of_floats_and_their_ellipses_are_as_they_were() {
        let y = tensor2(&[[1f32, 0.0], [-1.0, 2.0], [3.0, 1.0]]);
        assert_eq!(sum(" i j , jk -> ik", &[x(), y.clone()]).unwrap(), tensor2(&[[8f32, 7.0], [17.0, 16.0]]));
        assert_eq!(sum("...j,jk", &[x(), y]).unwrap(), tensor2(&[[8f32, 7.0], [17.0, 16.0]]));
        assert_eq!(sum("...ij->...ji", &[x()]).unwrap(), tensor2(&[[1f32, 4.0], [2.0, 5.0], [3.0, 6.0]]));
        assert_eq!(
            sum("ij,jk,k->i", &[x(), square::<f32>(), tensor1(&[1f32, 0.0, 1.0])]).unwrap(),
            tensor1(&[48f32, 102.0])
        );
    }

    #[test]
    fn what_is_no_equation_is_refused() {
        for equation in
            ["ij->ii", "ij->k", "...i->i", "i->ij", "i-j", "i1->i", "..i->i", "i......->i", "i->i->i", "", "i,j->ij"]
        {
            assert!(sum(equation, &[x()]).is_err(), "{equation}");
        }
        assert!(sum("ii,ij->j", &[square::<f32>(), x()]).is_err());
        assert!(sum("ijk->", &[x()]).is_err());
    }

    #[test]
    fn rows_stay_rows() {
        let node = || Node::new("Einsum").text("equation", "bii->b");
        let x = Tensor::zero::<f32>(&[2, 3, 3]).unwrap();
        assert_eq!(shapes_for_any_rows(node(), &[x], 1).unwrap(), ["N"]);
    }
}
