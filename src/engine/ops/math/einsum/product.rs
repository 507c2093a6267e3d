//! The product of two tensors whose axes have names, summed along those that are not kept.

use std::borrow::Cow;

use tract_onnx::tract_hir::internal::*;

use super::equation::Labels;
use super::{bounded, unfit::unfit};

#[derive(Debug)]
pub struct Operand<'a, T: Clone> {
    /// One for each axis; one that occurs twice is gone along at once.
    pub labels: Labels,
    pub shape: TVec<usize>,
    /// Row by row.
    pub elements: Cow<'a, [T]>,
}

/// How one axis of the product is gone along: its size, and how far the next element is in either operand.
#[derive(Debug, Clone, Copy)]
struct Along {
    size: usize,
    steps: [usize; 2],
}

/// The product with the axes of `kept`, in that order. An axis of one place is repeated along the other operand's.
///
/// # Errors
/// `Unfit` for axes of the same name that don't go together, and for a product that is too large.
pub fn product_of<T: Datum + Copy + Default>(
    x: &Operand<T>,
    y: &Operand<T>,
    kept: Labels,
    add: impl Fn(T, T, T) -> T,
) -> TractResult<Operand<'static, T>> {
    let kept_axes = kept.iter().map(|label| along(x, y, *label)).collect::<TractResult<Vec<Along>>>()?;
    let mut summed: Labels = x.labels.iter().chain(&y.labels).copied().filter(|label| !kept.contains(label)).collect();
    summed.sort_unstable();
    summed.dedup();
    let mut summed_axes = summed.iter().map(|label| along(x, y, *label)).collect::<TractResult<Vec<Along>>>()?;
    let inner = summed_axes.pop().unwrap_or(Along { size: 1, steps: [0; 2] });
    let shape: TVec<usize> = kept_axes.iter().map(|axis| axis.size).collect();
    bounded::check_made("Einsum", &shape, T::datum_type())?;
    let mut elements = Vec::with_capacity(shape.iter().product());
    walk(&kept_axes, |[at_x, at_y]| {
        let mut sum = T::default();
        walk(&summed_axes, |[more_x, more_y]| {
            let (mut place_x, mut place_y) = (at_x + more_x, at_y + more_y);
            for _ in 0..inner.size {
                sum = add(sum, x.elements[place_x], y.elements[place_y]);
                (place_x, place_y) = (place_x + inner.steps[0], place_y + inner.steps[1]);
            }
        });
        elements.push(sum);
    });
    Ok(Operand { labels: kept, shape, elements: elements.into() })
}

fn along<T: Clone>(x: &Operand<T>, y: &Operand<T>, label: usize) -> TractResult<Along> {
    let mut along = Along { size: 1, steps: [0; 2] };
    for (operand, step) in [x, y].into_iter().zip(&mut along.steps) {
        let mut own = None;
        let mut stride = 1;
        for (held, &size) in operand.labels.iter().zip(&operand.shape).rev() {
            if *held == label {
                if let Some(other) = own.replace(size).filter(|other| *other != size) {
                    return Err(unfit(format!("Einsum of a diagonal of axes of {size} and {other}")));
                }
                *step += stride;
            }
            stride *= size;
        }
        match own {
            None => {}
            Some(1) => *step = 0,
            Some(size) if along.size == 1 || along.size == size => along.size = size,
            Some(size) => return Err(unfit(format!("Einsum of axes of {} and {size} that go together", along.size))),
        }
    }
    Ok(along)
}

/// Calls `each` for every place along the axes, the last of which goes fastest, with where it is in either operand.
fn walk(axes: &[Along], mut each: impl FnMut([usize; 2])) {
    if axes.iter().any(|axis| axis.size == 0) {
        return;
    }
    let mut places: TVec<usize> = tvec![0; axes.len()];
    let mut at = [0; 2];
    loop {
        each(at);
        let mut axis = axes.len();
        loop {
            let Some(before) = axis.checked_sub(1) else { return };
            axis = before;
            let Along { size, steps } = axes[axis];
            places[axis] += 1;
            at = [at[0] + steps[0], at[1] + steps[1]];
            if places[axis] < size {
                break;
            }
            at = [at[0] - size * steps[0], at[1] - size * steps[1]];
            places[axis] = 0;
        }
    }
}
