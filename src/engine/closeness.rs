//! Whether two tensors say the same, up to rounding.

use half::{bf16, f16};

use crate::tensor::{DataType, Element, Tensor};

/// Whether `got` equals `expected`: datatype, shape and every element. Floats may differ by `tolerance` times the
/// largest finite magnitude in `expected`, because rounding errors scale with what was summed; NaN equals NaN, and an
/// infinity only itself. Every other datatype must agree exactly.
pub fn is_close(got: &Tensor, expected: &Tensor, tolerance: f64) -> bool {
    if got.dtype() != expected.dtype() || got.shape() != expected.shape() {
        return false;
    }
    let (Some(got_values), Some(expected_values)) = (floats(got), floats(expected)) else {
        return got == expected;
    };
    let scale = expected_values.iter().copied().filter(|value| value.is_finite()).map(f64::abs).fold(0.0, f64::max);
    let allowed = tolerance * scale;
    got_values
        .iter()
        .zip(&expected_values)
        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= allowed)
}

/// Whether a tensor holds neither NaN nor an infinity.
pub fn is_finite(tensor: &Tensor) -> bool {
    match tensor.dtype() {
        DataType::Fp32 => all_in_blocks(tensor, f32::is_finite),
        DataType::Fp64 => all_in_blocks(tensor, f64::is_finite),
        DataType::Fp16 => all_in_blocks(tensor, f16::is_finite),
        DataType::Bf16 => all_in_blocks(tensor, bf16::is_finite),
        _ => true,
    }
}

/// Asks every element of a block before it looks at what they said: without a branch for each, many are asked at once.
fn all_in_blocks<T: Element>(tensor: &Tensor, is_fine: impl Fn(T) -> bool) -> bool {
    const BLOCK: usize = 4096;
    let block = |bytes: &[u8]| bytes.chunks_exact(size_of::<T>()).fold(true, |fine, le| fine & is_fine(T::read_le(le)));
    tensor.data().chunks(BLOCK).all(block)
}

/// The elements of a float tensor; `None` for any other datatype.
pub fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.dtype() {
        DataType::Fp32 => tensor.elements::<f32>().map(f64::from).collect(),
        DataType::Fp64 => tensor.elements::<f64>().collect(),
        DataType::Fp16 => tensor.elements::<f16>().map(f64::from).collect(),
        DataType::Bf16 => tensor.elements::<bf16>().map(f64::from).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> Tensor {
        Tensor::from_elements(DataType::Fp32, vec![values.len()], values).unwrap()
    }

    #[test]
    fn infinities_and_nan_are_not_finite() {
        assert!(is_finite(&f32s(&[0.0, -1.0, f32::MAX])));
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!is_finite(&f32s(&[0.0, poison])));
            let mut many = vec![1.0; 5000];
            many[4321] = poison;
            assert!(!is_finite(&f32s(&many)));
        }
        assert!(is_finite(&Tensor::zeros(DataType::Int64, vec![2])));
        let halves = [f16::NAN, f16::ONE];
        assert!(!is_finite(&Tensor::from_elements(DataType::Fp16, vec![2], &halves).unwrap()));
        assert!(!is_finite(&Tensor::from_elements(DataType::Bf16, vec![1], &[bf16::INFINITY]).unwrap()));
        assert!(!is_finite(&Tensor::from_elements(DataType::Fp64, vec![1], &[f64::NAN]).unwrap()));
    }

    #[test]
    fn floats_may_differ_by_rounding_at_the_scale_of_the_tensor() {
        assert!(is_close(&f32s(&[1000.0, 0.01]), &f32s(&[1000.0, 0.02]), 1e-4));
        assert!(!is_close(&f32s(&[1.0, 0.01]), &f32s(&[1.0, 0.02]), 1e-4));
        assert!(!is_close(&f32s(&[0.0]), &f32s(&[1e-9]), 1e-4), "a tensor of tiny numbers has a tiny scale");
    }

    #[test]
    fn nan_equals_nan_and_infinity_only_itself() {
        let odd = f32s(&[f32::NAN, f32::INFINITY, 1.0]);
        assert!(is_close(&odd, &odd, 1e-4));
        assert!(!is_close(&f32s(&[1.0, f32::INFINITY, 1.0]), &odd, 1e-4));
        assert!(!is_close(&f32s(&[f32::NAN, f32::NEG_INFINITY, 1.0]), &odd, 1e-4));
    }

    #[test]
    fn other_datatypes_agree_exactly_or_not_at_all() {
        let ints = |values: &[i64]| Tensor::from_elements(DataType::Int64, vec![values.len()], values).unwrap();
        assert!(is_close(&ints(&[1, 2]), &ints(&[1, 2]), 1.0));
        assert!(!is_close(&ints(&[1, 2]), &ints(&[1, 3]), 1.0));
        assert!(!is_close(&ints(&[1]), &f32s(&[1.0]), 1.0));
    }
}
