//! The protocol's classification extension: the top classes of an output as text.

use bytes::BytesMut;

use crate::error::{Error, Result};
use crate::servable::Servable;
use crate::tensor::{DataType, Tensor, push_byte_element};

/// The top `k` classes of `tensor`, output `name` of a model: BYTES `<value>:<index>[:<label>]` in falling order.
///
/// The shape is `[rows, min(k, n)]` where the output has a proven batch axis in front, else `[min(k, n)]`; the classes
/// of a row are all its elements. NaN ranks below every number.
///
/// # Errors
/// `Invalid` for `k` = 0 and for outputs that are not numbers.
pub fn classify(servable: &Servable, position: usize, name: &str, tensor: &Tensor, k: usize) -> Result<Tensor> {
    if k == 0 {
        return Err(Error::invalid(format!("classification of output '{name}' expects at least 1 class, got 0")));
    }
    let values = numbers(tensor).ok_or_else(|| {
        let dtype = tensor.dtype();
        Error::invalid(format!("classification of output '{name}' expects a numeric output, got {dtype}"))
    })?;
    let batched = servable.signature().batch_axes().is_some_and(|axes| axes.outputs[position] == Some(0));
    let labels = servable.limits.class_labels.get(name).map(Vec::as_slice).unwrap_or_default();
    let rows = if batched { tensor.shape()[0] } else { 1 };
    let classes = values.len().checked_div(rows).unwrap_or(0);
    let kept = k.min(classes);
    let mut data = BytesMut::new();
    for row in values.chunks(classes.max(1)) {
        for &index in &top(row, kept) {
            let text = match labels.get(index) {
                Some(label) => format!("{:.6}:{index}:{label}", row[index]),
                None => format!("{:.6}:{index}", row[index]),
            };
            push_byte_element(&mut data, text.as_bytes());
        }
    }
    let shape = if batched { vec![rows, kept] } else { vec![kept] };
    Tensor::from_raw(DataType::Bytes, shape, data.freeze())
        .map_err(|source| Error::Internal(format!("classification of output '{name}': {source}")))
}

/// Indices of the `k` largest values, ties by the lower index.
fn top(row: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    let rank = |value: f64| if value.is_nan() { f64::NEG_INFINITY } else { value };
    order.sort_by(|&a, &b| rank(row[b]).total_cmp(&rank(row[a])).then(a.cmp(&b)));
    order.truncate(k);
    order
}

fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.dtype() {
        DataType::Bytes | DataType::Bool => return None,
        DataType::Int8 => tensor.elements::<i8>().map(f64::from).collect(),
        DataType::Int16 => tensor.elements::<i16>().map(f64::from).collect(),
        DataType::Int32 => tensor.elements::<i32>().map(f64::from).collect(),
        DataType::Int64 => tensor.elements::<i64>().map(|v| v as f64).collect(),
        DataType::Uint8 => tensor.elements::<u8>().map(f64::from).collect(),
        DataType::Uint16 => tensor.elements::<u16>().map(f64::from).collect(),
        DataType::Uint32 => tensor.elements::<u32>().map(f64::from).collect(),
        DataType::Uint64 => tensor.elements::<u64>().map(|v| v as f64).collect(),
        DataType::Fp16 => tensor.elements::<half::f16>().map(f64::from).collect(),
        DataType::Bf16 => tensor.elements::<half::bf16>().map(f64::from).collect(),
        DataType::Fp32 => tensor.elements::<f32>().map(f64::from).collect(),
        DataType::Fp64 => tensor.elements::<f64>().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_nan_last() {
        assert_eq!(top(&[0.1, f64::NAN, 0.7, 0.7], 4), [2, 3, 0, 1]);
        assert_eq!(top(&[1.0, 2.0], 1), [1]);
    }
}
