//! Shapes of the APIs that let clients leave dimensions out.

use crate::signature::{Dim, TensorSpec};
use crate::tensor::Tensor;

/// Where the dimensions that a client left out belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Front,
    Back,
}

/// Adds dimensions of 1 until the tensor has the rank of `spec`: on the preferred side if the shape fits there, else on
/// the other. A tensor that fits nowhere stays as it is, for the check of the request to tell.
pub fn fit(tensor: Tensor, spec: &TensorSpec, preferred: Side) -> Tensor {
    let Some(dims) = &spec.dims else { return tensor };
    let missing = dims.len().saturating_sub(tensor.shape().len());
    if missing == 0 {
        return tensor;
    }
    let ones = vec![1; missing];
    let front = [&ones, tensor.shape()].concat();
    let back = [tensor.shape(), &ones].concat();
    let order = if preferred == Side::Front { [front, back] } else { [back, front] };
    match order.into_iter().find(|shape| fits(shape, dims)) {
        Some(shape) => tensor.clone().reshaped(shape).unwrap_or(tensor),
        None => tensor,
    }
}

fn fits(shape: &[usize], dims: &[Dim]) -> bool {
    shape.iter().zip(dims).all(|(&size, dim)| !matches!(dim, Dim::Fixed(fixed) if *fixed != size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    fn fitted(shape: &[usize], dims: Vec<Dim>, side: Side) -> Vec<usize> {
        let spec = TensorSpec { name: "x".into(), dtype: DataType::Int8, dims: Some(dims), classes: vec![] };
        fit(Tensor::zeros(DataType::Int8, shape.to_vec()), &spec, side).shape().to_vec()
    }

    #[test]
    fn ones_go_where_they_fit() {
        let n = || Dim::Named("N".into());
        assert_eq!(fitted(&[], vec![n(), Dim::Fixed(1)], Side::Front), [1, 1]);
        assert_eq!(fitted(&[3], vec![n(), Dim::Fixed(3)], Side::Front), [1, 3]);
        assert_eq!(fitted(&[3], vec![n(), Dim::Fixed(1)], Side::Front), [3, 1]);
        assert_eq!(fitted(&[3], vec![n(), Dim::Unknown], Side::Back), [3, 1]);
        assert_eq!(fitted(&[3], vec![n(), Dim::Fixed(4)], Side::Back), [3]);
        assert_eq!(fitted(&[3], vec![n()], Side::Back), [3]);
    }
}
