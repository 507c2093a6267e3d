//! What tract's operators take for granted of values and sizes that only a run knows.

use tract_onnx::tract_core::ops::array::{Gather, Range, Topk};
use tract_onnx::tract_hir::internal::*;

use super::super::unfit::unfit;
use super::MIN_LIMIT;

/// Refuses a run of one of tract's operators whose inputs' values would have it make something beyond all reason, or read
/// what is not there.
///
/// # Errors
/// Such values.
pub fn check_run(node: &TypedNode, inputs: &[TValue]) -> TractResult<()> {
    let op = node.op.as_op();
    if op.is::<Range>() {
        let number = |input: usize| -> TractResult<f64> {
            let input = inputs.get(input).filter(|input| input.len() > 0).context("Range lacks a number")?;
            input.cast_to_scalar::<f64>()
        };
        let count = ((number(1)? - number(0)?) / number(2)?).ceil();
        let most = (MIN_LIMIT / inputs[0].datum_type().size_of()) as f64;
        ensure!(count <= most, "Range of {count} numbers, at most {most} are made");
    } else if let Some(top) = op.downcast_ref::<Topk>() {
        let count = inputs.get(1).filter(|count| count.len() > 0).context("TopK lacks K")?.cast_to_scalar::<i64>()?;
        let there = inputs[0].shape().get(top.axis).copied().unwrap_or_default();
        let fits = usize::try_from(count).is_ok_and(|count| count <= there);
        if !fits {
            return Err(unfit(format!("TopK of {count} along an axis of {there}")));
        }
    } else if let Some(gather) = op.downcast_ref::<Gather>() {
        return check_places(gather.axis, inputs);
    }
    Ok(())
}

fn check_places(axis: usize, inputs: &[TValue]) -> TractResult<()> {
    let [data, places] = inputs else { return Ok(()) };
    let (Some(&there), true) = (data.shape().get(axis), places.datum_type() == i64::datum_type()) else {
        return Ok(());
    };
    let there = i64::try_from(there)?;
    let places = places.try_as_plain_ram()?;
    match places.as_slice::<i64>()?.iter().find(|place| !(-there..there).contains(place)) {
        // A version with a smaller table is as much to blame as the request: a rollout is to see it.
        Some(beyond) => bail!("Gather of place {beyond} of an axis of {there}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::super::testing::{Node, run};
    use super::*;

    #[test]
    fn a_place_that_an_axis_lacks_is_named() {
        let gathered = |axis: i64, places: &[i64]| {
            run(
                Node::new("Gather").int("axis", axis),
                &[tensor2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]]), tensor1(places)],
                1,
            )
        };
        assert_eq!(gathered(1, &[2, -3]).unwrap(), [tensor2(&[[3f32, 1.0], [6.0, 4.0]])]);
        for (axis, place) in [(1, 3), (1, -4), (0, 2), (0, i64::MAX), (0, i64::MIN)] {
            let error = gathered(axis, &[0, place]).unwrap_err();
            let named = format!("{error:#}").contains(&format!("Gather of place {place} of an axis of"));
            assert!(named && !is_unfit(&error), "{error:#}");
        }
    }
}
