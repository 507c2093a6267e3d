//! Corrects the output shapes that a file declares by those that runs have shown.

use crate::signature::{Batching, Dim, TensorSpec};

/// Makes every output dimension that a run contradicts one that varies, and gives the batch axis its name.
///
/// Exporters declare such things as `[1]` for a label of `[N]`. `observed` holds the shapes of all outputs, run by run.
pub fn correct(outputs: &mut [TensorSpec], observed: &[Vec<Vec<usize>>], batching: &Batching, batch_dim: Option<&str>) {
    for (output, spec) in outputs.iter_mut().enumerate() {
        for shape in observed.iter().filter_map(|run| run.get(output)) {
            spec.dims = Some(agree(spec.dims.take(), shape));
        }
        let Batching::Proven(axes) = batching else { continue };
        let batch_axis = axes.outputs.get(output).copied().flatten();
        let dims = spec.dims.as_mut();
        if let Some(dim) = batch_axis.zip(dims).and_then(|(axis, dims)| dims.get_mut(axis)) {
            match (&dim, batch_dim) {
                (Dim::Named(_), _) => {}
                (_, Some(name)) => *dim = Dim::Named(name.to_owned()),
                (_, None) => *dim = Dim::Unknown,
            }
        }
    }
}

fn agree(declared: Option<Vec<Dim>>, shape: &[usize]) -> Vec<Dim> {
    match declared {
        Some(dims) if dims.len() == shape.len() => {
            let agreed = |(dim, size): (Dim, &usize)| match dim {
                Dim::Fixed(fixed) if fixed != *size => Dim::Unknown,
                dim => dim,
            };
            dims.into_iter().zip(shape).map(agreed).collect()
        }
        _ => vec![Dim::Unknown; shape.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::BatchAxes;
    use crate::tensor::DataType;

    fn corrected(dims: Option<Vec<Dim>>, observed: &[&[usize]], axis: Option<usize>) -> Option<Vec<Dim>> {
        let mut outputs = [TensorSpec { name: "y".into(), dtype: DataType::Fp32, dims, classes: vec![] }];
        let runs: Vec<Vec<Vec<usize>>> = observed.iter().map(|shape| vec![shape.to_vec()]).collect();
        let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![axis] };
        correct(&mut outputs, &runs, &Batching::Proven(axes), Some("N"));
        outputs[0].dims.clone()
    }

    #[test]
    fn a_declared_size_that_lies_becomes_one_that_varies() {
        let named = |name: &str| Dim::Named(name.into());
        assert_eq!(corrected(Some(vec![Dim::Fixed(1)]), &[&[1], &[3]], Some(0)), Some(vec![named("N")]));
        assert_eq!(corrected(Some(vec![Dim::Fixed(2)]), &[&[5]], None), Some(vec![Dim::Unknown]));
        assert_eq!(
            corrected(Some(vec![named("B"), Dim::Fixed(7)]), &[&[1, 7]], Some(0)),
            Some(vec![named("B"), Dim::Fixed(7)])
        );
    }

    #[test]
    fn another_rank_than_declared_keeps_only_the_rank() {
        assert_eq!(corrected(Some(vec![Dim::Fixed(10)]), &[&[1, 10]], None), Some(vec![Dim::Unknown; 2]));
        assert_eq!(corrected(None, &[&[1, 10]], Some(0)), Some(vec![Dim::Named("N".into()), Dim::Unknown]));
    }
}
