//! `ai.onnx.ml.Imputer` (version 1): a value that stands for a missing one is replaced, feature by feature.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::inputs::exactly;
use super::kernel::{Kernel, built};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let floats: Vec<f32> = node.get_attr_opt_vec("imputed_value_floats")?.unwrap_or_default();
    let integers: Vec<i64> = node.get_attr_opt_vec("imputed_value_int64s")?.unwrap_or_default();
    let (missing_float, missing_integer) =
        (node.get_attr_opt("replaced_value_float")?, node.get_attr_opt("replaced_value_int64")?);
    let imputer = match (floats.is_empty(), integers.is_empty()) {
        (false, true) => Imputer::Floats { missing: missing_float.unwrap_or(0.0), values: floats },
        (true, false) => Imputer::Integers { missing: missing_integer.unwrap_or(0), values: integers },
        _ => bail!("it needs one of the attributes 'imputed_value_floats' and 'imputed_value_int64s'"),
    };
    built(node, imputer)
}

/// What is replaced, and by what: one value for all features, or one for each.
#[derive(Debug)]
enum Imputer {
    Floats { missing: f32, values: Vec<f32> },
    Integers { missing: i64, values: Vec<i64> },
}

impl Imputer {
    fn count(&self) -> usize {
        match self {
            Self::Floats { values, .. } => values.len(),
            Self::Integers { values, .. } => values.len(),
        }
    }
}

/// Replaces what `is_missing` among elements that lie one row of features behind the other.
fn replace<T: Datum + Copy>(input: &mut Tensor, values: &[T], is_missing: impl Fn(T) -> bool) -> TractResult<()> {
    let features = input.shape().last().copied().unwrap_or(1).max(1);
    let mut view = input.try_as_plain_ram_mut()?;
    for row in view.as_slice_mut::<T>()?.chunks_exact_mut(features) {
        for (place, x) in row.iter_mut().enumerate().filter(|(_, x)| is_missing(**x)) {
            *x = values[if values.len() == 1 { 0 } else { place }];
        }
    }
    Ok(())
}

impl Kernel for Imputer {
    fn name(&self) -> &'static str {
        "Imputer"
    }

    fn input_type(&self, _: usize, given: DatumType) -> TractResult<DatumType> {
        let fits = match self {
            Self::Floats { .. } => matches!(given, DatumType::F32 | DatumType::F64),
            Self::Integers { .. } => matches!(given, DatumType::I32 | DatumType::I64),
        };
        ensure!(fits, "its values are not of the input's type {given:?}");
        Ok(given)
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = exactly(inputs)?;
        let (count, features) = (self.count(), input.shape.last().cloned().unwrap_or_else(|| 1.to_dim()));
        let fits = count == 1 || features.to_i64().map_or(true, |features| features == count as i64);
        ensure!(fits, "{count} imputed values for {features} features");
        Ok(tvec!(input.without_value()))
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let mut output = inputs[0].clone().into_tensor();
        let features = output.shape().last().copied().unwrap_or(1);
        ensure!(self.count() == 1 || self.count() == features, "{} imputed values for {features}", self.count());
        match (self, output.datum_type()) {
            (Self::Floats { missing, values }, DatumType::F32) => {
                replace(&mut output, values, |x| x == *missing || (x.is_nan() && missing.is_nan()))?;
            }
            (Self::Floats { missing, values }, _) => {
                let (missing, values): (f64, Vec<f64>) =
                    (f64::from(*missing), values.iter().copied().map(f64::from).collect());
                replace(&mut output, &values, |x| x == missing || (x.is_nan() && missing.is_nan()))?;
            }
            (Self::Integers { missing, values }, DatumType::I64) => replace(&mut output, values, |x| x == *missing)?,
            (Self::Integers { missing, values }, _) => {
                let narrow = |value: &i64| i32::try_from(*value).with_context(|| format!("{value} is no INT32"));
                let values = values.iter().map(narrow).collect::<TractResult<Vec<i32>>>()?;
                replace(&mut output, &values, |x| i64::from(x) == *missing)?;
            }
        }
        Ok(tvec!(output))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    fn floats(values: &[f32], missing: f32) -> Node {
        Node::new("Imputer").floats("imputed_value_floats", values).float("replaced_value_float", missing)
    }

    /// Expected values are ONNX Runtime 1.31.1's; it has no FP64 and INT32 here.
    #[test]
    fn missing_values_are_replaced_by_that_of_their_feature() {
        let x = tensor2(&[[1.0f32, f32::NAN], [f32::NAN, 2.0]]);
        let y = run(floats(&[8.0, 9.0], f32::NAN), &[x], 1).unwrap();
        assert_eq!(y, [tensor2(&[[1.0f32, 9.0], [8.0, 2.0]])]);
        let y = run(floats(&[5.0], -1.0), &[tensor2(&[[1.0f64, -1.0], [-1.0, 2.0]])], 1).unwrap();
        assert_eq!(y, [tensor2(&[[1.0f64, 5.0], [5.0, 2.0]])]);
    }

    #[test]
    fn integers_are_replaced_by_integers() {
        let node = || Node::new("Imputer").ints("imputed_value_int64s", &[7, 8, 9]).int("replaced_value_int64", -1);
        assert_eq!(run(node(), &[tensor2(&[[-1i64, 0, -1]])], 1).unwrap(), [tensor2(&[[7i64, 0, 9]])]);
        assert_eq!(run(node(), &[tensor2(&[[-1i32, 0, -1]])], 1).unwrap(), [tensor2(&[[7i32, 0, 9]])]);
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let refused = |node: Node| format!("{:#}", run(node, &[tensor2(&[[1.0f32, 2.0, 3.0]])], 1).unwrap_err());
        assert!(refused(floats(&[1.0, 2.0], 0.0)).contains("2 imputed values for 3 features"));
        assert!(refused(Node::new("Imputer")).contains("one of the attributes"));
        assert!(refused(Node::new("Imputer").ints("imputed_value_int64s", &[1])).contains("not of the input's type"));
    }
}
