//! Whether an answer is one that a model should give: finite, and within the range that its settings declare.

use half::{bf16, f16};

use crate::engine::closeness::is_finite;
use crate::servable::{OutputRange, Servable};
use crate::tensor::{DataType, Tensor};

/// Whether every output is finite and in its range. `outputs` are in the signature's order.
pub fn is_valid(servable: &Servable, outputs: &[Tensor]) -> bool {
    let ranges = &servable.limits.output_ranges;
    outputs.iter().all(is_finite)
        && (ranges.is_empty()
            || servable
                .signature()
                .outputs
                .iter()
                .zip(outputs)
                .all(|(spec, output)| ranges.get(&spec.name).is_none_or(|range| is_within(output, *range))))
}

/// Whether every number of a tensor is in a range, its ends included. Texts and truths have no range.
fn is_within(tensor: &Tensor, range: OutputRange) -> bool {
    let (min, max) = (range.min.unwrap_or(f64::NEG_INFINITY), range.max.unwrap_or(f64::INFINITY));
    let within = |value: f64| (min..=max).contains(&value);
    match tensor.dtype() {
        DataType::Bool | DataType::Bytes => true,
        DataType::Fp32 => tensor.elements::<f32>().map(f64::from).all(within),
        DataType::Fp64 => tensor.elements::<f64>().all(within),
        DataType::Fp16 => tensor.elements::<f16>().map(f64::from).all(within),
        DataType::Bf16 => tensor.elements::<bf16>().map(f64::from).all(within),
        DataType::Int8 => tensor.elements::<i8>().map(f64::from).all(within),
        DataType::Int16 => tensor.elements::<i16>().map(f64::from).all(within),
        DataType::Int32 => tensor.elements::<i32>().map(f64::from).all(within),
        DataType::Int64 => tensor.elements::<i64>().map(|value| value as f64).all(within),
        DataType::Uint8 => tensor.elements::<u8>().map(f64::from).all(within),
        DataType::Uint16 => tensor.elements::<u16>().map(f64::from).all(within),
        DataType::Uint32 => tensor.elements::<u32>().map(f64::from).all(within),
        DataType::Uint64 => tensor.elements::<u64>().map(|value| value as f64).all(within),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: Option<f64>, max: Option<f64>) -> OutputRange {
        OutputRange { min, max }
    }

    #[test]
    fn a_range_holds_its_ends_and_may_be_open() {
        let values = Tensor::from_elements(DataType::Fp32, vec![3], &[0.0f32, 0.5, 1.0]).unwrap();
        assert!(is_within(&values, range(Some(0.0), Some(1.0))));
        assert!(is_within(&values, range(None, None)));
        assert!(!is_within(&values, range(Some(0.1), None)));
        assert!(!is_within(&values, range(None, Some(0.9))));
    }

    #[test]
    fn numbers_of_every_datatype_have_a_range_and_texts_have_none() {
        for dtype in DataType::ALL {
            let zeros = Tensor::zeros(dtype, vec![2]);
            let has_range = !matches!(dtype, DataType::Bool | DataType::Bytes);
            assert_eq!(!is_within(&zeros, range(Some(1.0), None)), has_range, "{dtype}");
            assert!(is_within(&zeros, range(Some(-1.0), Some(0.0))), "{dtype}");
        }
    }
}
