//! What a plan is made for, and is found again by.

use crate::engine::RunError;
use crate::tensor::Tensor;

/// Most bytes of values that a plan is made for: shapes, axes and sizes are few numbers.
const MAX_VALUE_BYTES: usize = 4096;

/// The shapes of all inputs, and the values of those that decide shapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlanKey {
    /// Each behind its rank.
    shapes: Box<[usize]>,
    /// With the positions of the inputs.
    values: Box<[(usize, Tensor)]>,
}

impl PlanKey {
    /// `deciding` holds the positions of the inputs whose values count.
    ///
    /// # Errors
    /// `BadInput` for more values than a plan is made for.
    pub fn of(inputs: &[Tensor], deciding: &[usize]) -> Result<Self, RunError> {
        let each = |input: &Tensor| [input.shape().len()].into_iter().chain(input.shape().iter().copied()).collect();
        let values: Box<[_]> = deciding.iter().map(|&position| (position, inputs[position].clone())).collect();
        let bytes: usize = values.iter().map(|(_, value)| value.data().len()).sum();
        if bytes > MAX_VALUE_BYTES {
            let expected =
                format!("inputs that decide shapes have at most {MAX_VALUE_BYTES} bytes, these have {bytes}");
            return Err(RunError::BadInput(expected));
        }
        Ok(Self { shapes: inputs.iter().flat_map::<Vec<usize>, _>(each).collect(), values })
    }

    /// The shape of each input.
    pub fn shapes(&self) -> Vec<&[usize]> {
        let (mut rest, mut shapes) = (&*self.shapes, vec![]);
        while let Some((&rank, after)) = rest.split_first() {
            let (shape, next) = after.split_at(rank);
            shapes.push(shape);
            rest = next;
        }
        shapes
    }

    /// The values that the plan has built in, with the positions of their inputs.
    pub fn values(&self) -> &[(usize, Tensor)] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    #[test]
    fn values_count_only_where_they_decide() {
        let tensor = |value: i64| Tensor::from_elements(DataType::Int64, vec![1], &[value]).unwrap();
        let (one, two) = ([tensor(0), tensor(1)], [tensor(0), tensor(2)]);
        let key = |inputs: &[Tensor], deciding: &[usize]| PlanKey::of(inputs, deciding).unwrap();
        assert_eq!(key(&one, &[]), key(&two, &[]));
        assert_ne!(key(&one, &[1]), key(&two, &[1]));
        assert_eq!(key(&one, &[0]), key(&two, &[0]));
        assert_eq!(key(&one, &[1]).shapes(), [[1], [1]]);
        let long = Tensor::zeros(DataType::Int64, vec![513]);
        assert!(PlanKey::of(std::slice::from_ref(&long), &[]).is_ok());
        assert!(PlanKey::of(&[long], &[0]).unwrap_err().to_string().contains("at most 4096 bytes, these have 4104"));
    }
}
