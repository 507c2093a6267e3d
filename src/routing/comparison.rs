//! How far a copy's outputs are from the primary's.

use super::ShadowTolerance;
use crate::engine::closeness::floats;
use crate::servable::Servable;
use crate::tensor::Tensor;

/// What two answers to one request differ in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Over all float outputs; `f64::MAX` where one of the two is not finite.
    pub max_abs: f64,
    /// |a - b| over the larger magnitude of the two, hence at most 2; `f64::MAX` likewise.
    pub max_rel: f64,
    pub disagrees: bool,
    /// Whether every row has the same class in both; `None` where no output has classes.
    pub same_class: Option<bool>,
}

impl Difference {
    const NONE: Self = Self { max_abs: 0.0, max_rel: 0.0, disagrees: false, same_class: None };
}

/// Which outputs have classes along their last axis: those with class names, and float matrices of several columns.
pub fn has_classes(servable: &Servable, outputs: &[Tensor]) -> Vec<bool> {
    let specs = &servable.signature().outputs;
    let named =
        |position: usize| specs.get(position).is_some_and(|spec| servable.limits.class_labels.contains_key(&spec.name));
    let has_classes = |(position, tensor): (usize, &Tensor)| {
        let columns = tensor.shape().last().copied().unwrap_or(0);
        columns > 1 && (tensor.shape().len() == 2 || named(position))
    };
    outputs.iter().enumerate().map(has_classes).collect()
}

/// Compares two answers, output by output; `classes` tells which outputs have classes, where they are floats. `None`
/// where the answers differ in number, datatype or shape, so that there is nothing to compare.
pub fn compare(
    primary: &[Tensor],
    copy: &[Tensor],
    classes: &[bool],
    tolerance: ShadowTolerance,
) -> Option<Difference> {
    let alike = |(a, b): (&Tensor, &Tensor)| a.dtype() == b.dtype() && a.shape() == b.shape();
    if primary.len() != copy.len() || !primary.iter().zip(copy).all(alike) {
        return None;
    }
    let mut found = Difference::NONE;
    for (position, (a, b)) in primary.iter().zip(copy).enumerate() {
        let (Some(a_values), Some(b_values)) = (floats(a), floats(b)) else {
            found.disagrees |= a != b;
            continue;
        };
        for (&a, &b) in a_values.iter().zip(&b_values) {
            found.add(a, b, tolerance);
        }
        let columns = a.shape().last().copied().unwrap_or(0);
        if classes.get(position) == Some(&true) && columns > 1 {
            let same = a_values.chunks(columns).zip(b_values.chunks(columns)).all(|(a, b)| top(a) == top(b));
            found.same_class = Some(found.same_class.unwrap_or(true) && same);
        }
    }
    Some(found)
}

impl Difference {
    fn add(&mut self, a: f64, b: f64, tolerance: ShadowTolerance) {
        if a == b || (a.is_nan() && b.is_nan()) {
            return;
        }
        let difference = (a - b).abs();
        if !difference.is_finite() {
            *self = Self { max_abs: f64::MAX, max_rel: f64::MAX, disagrees: true, ..*self };
            return;
        }
        self.max_abs = self.max_abs.max(difference);
        self.max_rel = self.max_rel.max(difference / a.abs().max(b.abs()));
        self.disagrees |= difference > tolerance.atol + tolerance.rtol * a.abs();
    }
}

/// Position of the largest value, the first of equals; NaN ranks below every number.
fn top(row: &[f64]) -> usize {
    let rank = |value: f64| if value.is_nan() { f64::NEG_INFINITY } else { value };
    let better = |best: usize, at: usize| if rank(row[at]) > rank(row[best]) { at } else { best };
    (0..row.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    const TOLERANCE: ShadowTolerance = ShadowTolerance { atol: 0.01, rtol: 0.1 };

    fn matrix(columns: usize, values: &[f32]) -> Tensor {
        Tensor::from_elements(DataType::Fp32, vec![values.len() / columns, columns], values).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> Difference {
        compare(std::slice::from_ref(a), std::slice::from_ref(b), &[true], TOLERANCE).unwrap()
    }

    #[test]
    fn equal_answers_do_not_differ() {
        let odd = matrix(2, &[f32::NAN, 1.0, f32::INFINITY, -2.0]);
        assert_eq!(difference(&odd, &odd), Difference { same_class: Some(true), ..Difference::NONE });
    }

    #[test]
    fn the_largest_difference_counts_and_the_tolerance_decides() {
        let near = difference(&matrix(2, &[1.0, 10.0]), &matrix(2, &[1.0625, 10.5]));
        assert_eq!((near.max_abs, near.disagrees), (0.5, false), "0.5 <= 0.01 + 0.1 * 10");
        assert!((near.max_rel - 0.0625 / 1.0625).abs() < 1e-12, "{}", near.max_rel);
        let far = difference(&matrix(2, &[1.0, 10.0]), &matrix(2, &[1.25, 10.0]));
        assert_eq!((far.max_abs, far.disagrees, far.same_class), (0.25, true, Some(true)));
    }

    #[test]
    fn what_is_not_finite_on_one_side_is_as_far_as_can_be() {
        for value in [f32::NAN, f32::INFINITY] {
            let found = difference(&matrix(2, &[1.0, 2.0]), &matrix(2, &[1.0, value]));
            assert_eq!((found.max_abs, found.max_rel, found.disagrees), (f64::MAX, f64::MAX, true));
        }
    }

    #[test]
    fn classes_are_the_largest_of_each_row() {
        let a = matrix(3, &[0.1, 0.7, 0.2, 0.5, 0.5, 0.0]);
        let same = matrix(3, &[0.2, 0.5, 0.3, 0.4, 0.3, 0.3]);
        let other = matrix(3, &[0.1, 0.7, 0.2, 0.4, 0.5, 0.1]);
        assert_eq!(difference(&a, &same).same_class, Some(true));
        assert_eq!(difference(&a, &other).same_class, Some(false));
        let unclassed = compare(std::slice::from_ref(&a), &[other], &[false], TOLERANCE).unwrap();
        assert_eq!(unclassed.same_class, None);
    }

    #[test]
    fn whole_numbers_and_texts_are_equal_or_not() {
        let ints = |values: &[i64]| Tensor::from_elements(DataType::Int64, vec![values.len()], values).unwrap();
        let found = compare(&[ints(&[1, 2])], &[ints(&[1, 3])], &[false], TOLERANCE).unwrap();
        assert_eq!(found, Difference { disagrees: true, ..Difference::NONE });
        let text = |text: &str| Tensor::from_byte_elements(vec![1], &[text]).unwrap();
        assert!(!compare(&[text("a")], &[text("a")], &[false], TOLERANCE).unwrap().disagrees);
    }

    #[test]
    fn answers_of_different_form_cannot_be_compared() {
        let a = matrix(2, &[0.0; 4]);
        let double = Tensor::zeros(DataType::Fp64, vec![2, 2]);
        for other in [vec![], vec![matrix(4, &[0.0; 4])], vec![double], vec![a.clone(), a.clone()]] {
            assert_eq!(compare(std::slice::from_ref(&a), &other, &[true], TOLERANCE), None);
        }
    }
}
