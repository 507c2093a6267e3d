//! Finds the axis along which the rows of a batch lie, and proves it.
//!
//! A graph that takes `[N, 4]` and gives `[N, 4]` may still mix its rows (a softmax over axis 0, the mean of a column),
//! and then answers would depend on whose requests happen to share a batch. Reading the graph does not settle it, so
//! the model is asked: three different rows, alone and together, several times over, must give the same outputs. The
//! names of dimensions only say where to look.

use std::cell::Cell;
use std::collections::HashSet;

use fastrand::Rng;

use super::RunError;
use super::closeness::is_close;
use super::rows::{concat_rows, slice_rows};
use super::sample::{self, Sizes, Style};
use crate::signature::{BatchAxes, Batching, Dim, NOTHING_VARIES, TensorSpec};
use crate::tensor::{Tensor, shape_text};

/// Where the rows of each input may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file's name for the dimension; `None` where it has none.
    pub dim: Option<String>,
    /// The axis in each input; `None` for an input that all rows share.
    pub axes: Vec<Option<usize>>,
}

/// Runs the model; after a run that was stopped no more are asked for. The error's text is not looked at.
pub type Runner<'a> = dyn FnMut(&[Tensor]) -> Result<Vec<Tensor>, RunError> + 'a;

const ROWS: usize = 3;
/// Each round draws its values in another style, so that a branch taken by the data is met on both sides.
const ROUNDS: [Style; 4] = [Style::Signed, Style::Unit, Style::Wide, Style::Signed];
/// Rounds that a proof needs; the others may fail on values that the model doesn't take, or find no time.
const MIN_ROUNDS: usize = 2;
/// Differences that come from summing in another order, relative to the tensor's largest magnitude. Mixing rows gives
/// differences of the magnitude itself.
const TOLERANCE: f64 = 1e-4;

/// Why nothing is proven of a model whose runs take so long.
const OUT_OF_TIME: &str = "its runs on made-up inputs took too long to find out";

/// Where rows may lie, the likeliest first: a dimension by the name that exporters give a batch, then the others in the
/// order of the inputs' axes, then the first unnamed dimension of each input.
pub fn candidates(inputs: &[TensorSpec]) -> Vec<Candidate> {
    let mut seen = HashSet::new();
    let names = inputs.iter().flat_map(dims).filter_map(|dim| match dim {
        Dim::Named(name) if seen.insert(name) => Some(name),
        _ => None,
    });
    let mut found: Vec<Candidate> = names.filter_map(|name| named_candidate(inputs, name)).collect();
    found.sort_by_key(|candidate| !candidate.dim.as_deref().is_some_and(is_batch_name));
    let axes: Vec<Option<usize>> =
        inputs.iter().map(|input| dims(input).position(|dim| *dim == Dim::Unknown)).collect();
    if axes.iter().any(Option::is_some) {
        found.push(Candidate { dim: None, axes });
    }
    found
}

/// Tries the candidates one after the other; the first that proves itself is the batch axis. `other` is the size of the
/// remaining dimensions that vary. Runs the model up to sixteen times for each candidate.
pub fn prove(
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    other: usize,
    run: &mut Runner,
) -> (Batching, Option<String>) {
    let mut first_reason = None;
    for candidate in candidates(inputs) {
        let proof = Proof { inputs, outputs, candidate: &candidate, other };
        match proof.run(run) {
            Ok(outputs) => {
                return (Batching::Proven(BatchAxes { inputs: candidate.axes, outputs }), candidate.dim);
            }
            Err(reason) => drop(first_reason.get_or_insert(reason)),
        }
    }
    let reason = first_reason.unwrap_or_else(|| NOTHING_VARIES.into());
    (Batching::Unproven(reason), None)
}

fn dims(spec: &TensorSpec) -> impl Iterator<Item = &Dim> {
    spec.dims.iter().flatten()
}

fn named_candidate(inputs: &[TensorSpec], name: &str) -> Option<Candidate> {
    let is_it = |dim: &Dim| matches!(dim, Dim::Named(named) if named == name);
    // A tensor with the dimension on two axes, such as a distance matrix, has no rows of its own.
    if inputs.iter().any(|input| dims(input).filter(|dim| is_it(dim)).count() > 1) {
        return None;
    }
    let axes = inputs.iter().map(|input| dims(input).position(is_it)).collect();
    Some(Candidate { dim: Some(name.to_owned()), axes })
}

fn is_batch_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "n" | "b" | "bs") || name.contains("batch")
}

struct Proof<'a> {
    inputs: &'a [TensorSpec],
    outputs: &'a [TensorSpec],
    candidate: &'a Candidate,
    other: usize,
}

/// Outputs of the rows alone and of all of them together.
struct Round {
    alone: Vec<Vec<Tensor>>,
    together: Vec<Tensor>,
}

impl Proof<'_> {
    /// The batch axis of each output, or why there is none.
    fn run(&self, run: &mut Runner) -> Result<Vec<Option<usize>>, String> {
        let mut proven: Option<Vec<Option<usize>>> = None;
        let (mut rounds, is_stopped) = (0, Cell::new(false));
        let run = &mut |rows: &[Tensor]| {
            let ran = run(rows);
            is_stopped.set(is_stopped.get() || matches!(ran, Err(RunError::Stopped)));
            ran
        };
        for (seed, style) in ROUNDS.into_iter().enumerate() {
            let round = self.round(&mut Rng::with_seed(seed as u64), style, run);
            if is_stopped.get() {
                break;
            }
            let Some(round) = round? else { continue };
            let axes = self.compare(&round)?;
            if proven.as_ref().is_some_and(|before| *before != axes) {
                return Err("the outputs' shapes depend on the inputs' values".into());
            }
            proven = Some(axes);
            rounds += 1;
        }
        match proven {
            Some(axes) if rounds >= MIN_ROUNDS && axes.iter().any(Option::is_some) => Ok(axes),
            Some(_) if rounds >= MIN_ROUNDS => Err(format!("no output grows with {}", self.dim())),
            _ if is_stopped.get() => Err(OUT_OF_TIME.into()),
            _ => Err("the model did not run on made-up inputs".into()),
        }
    }

    /// `None` if the model takes no row of these values, alone or in company.
    fn round(&self, rng: &mut Rng, style: Style, run: &mut Runner) -> Result<Option<Round>, String> {
        let rows = self.rows(rng, style);
        let alone: Vec<Vec<Tensor>> = rows.iter().filter_map(|row| run(row).ok()).collect();
        let batch: Vec<Tensor> = (0..self.inputs.len())
            .map(|input| match self.candidate.axes[input] {
                None => rows[0][input].clone(),
                Some(axis) => {
                    let parts: Vec<Tensor> = rows.iter().map(|row| row[input].clone()).collect();
                    concat_rows(&parts, axis).expect("rows of one shape were made")
                }
            })
            .collect();
        match (alone.len(), run(&batch)) {
            (ROWS, Ok(together)) => Ok(Some(Round { alone, together })),
            (ROWS, Err(_)) => Err(format!("{ROWS} rows along {} run alone but not together", self.dim())),
            (0, Err(_)) => Ok(None),
            (_, _) => Err(format!("some of {ROWS} rows along {} fail alone", self.dim())),
        }
    }

    /// Inputs of one row each: the shared ones the same, the others all different.
    fn rows(&self, rng: &mut Rng, style: Style) -> Vec<Vec<Tensor>> {
        let sizes = Sizes { rows: 1, other: self.other };
        let each = |axis: Option<usize>, spec: &TensorSpec, rng: &mut Rng| {
            sample::tensor(rng, spec.dtype, sample::shape(spec, axis, sizes), style)
        };
        let paired = || self.inputs.iter().zip(&self.candidate.axes);
        let first: Vec<Tensor> = paired().map(|(spec, axis)| each(*axis, spec, rng)).collect();
        let mut rows = vec![first.clone()];
        for _ in 1..ROWS {
            let row = paired().zip(&first).map(|((spec, axis), shared)| match axis {
                Some(_) => each(*axis, spec, rng),
                None => shared.clone(),
            });
            rows.push(row.collect());
        }
        rows
    }

    fn compare(&self, round: &Round) -> Result<Vec<Option<usize>>, String> {
        (0..round.together.len()).map(|output| self.compare_output(round, output)).collect()
    }

    fn compare_output(&self, round: &Round, output: usize) -> Result<Option<usize>, String> {
        let name = self.outputs.get(output).map_or("?", |spec| &spec.name);
        let together = &round.together[output];
        let alone: Vec<&Tensor> = round.alone.iter().map(|outputs| &outputs[output]).collect();
        let axis = match row_axis(alone[0].shape(), together.shape()) {
            Some(axis) => axis,
            None if alone.iter().all(|row| is_close(row, together, TOLERANCE)) => return Ok(None),
            None => {
                return Err(format!(
                    "output '{name}' is {} for one row along {} and {} for {ROWS}",
                    shape_text(alone[0].shape()),
                    self.dim(),
                    shape_text(together.shape())
                ));
            }
        };
        let same =
            |(row, expected): (usize, &&Tensor)| is_close(&slice_rows(together, axis, row, 1), expected, TOLERANCE);
        match alone.iter().enumerate().all(same) {
            true => Ok(Some(axis)),
            false => Err(format!("output '{name}' of a row depends on the other rows along {}", self.dim())),
        }
    }

    fn dim(&self) -> String {
        match &self.candidate.dim {
            Some(dim) => format!("dimension '{dim}'"),
            None => "the unnamed dimension".into(),
        }
    }
}

/// The one axis that has a row alone and `ROWS` together.
fn row_axis(alone: &[usize], together: &[usize]) -> Option<usize> {
    if alone.len() != together.len() {
        return None;
    }
    let mut differing = (0..alone.len()).filter(|&axis| alone[axis] != together[axis]);
    let axis = differing.next()?;
    (differing.next().is_none() && alone[axis] == 1 && together[axis] == ROWS).then_some(axis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    fn spec(name: &str, dims: &[&str]) -> TensorSpec {
        let dim = |text: &&str| match (text.parse(), *text) {
            (Ok(size), _) => Dim::Fixed(size),
            (_, "?") => Dim::Unknown,
            (_, name) => Dim::Named(name.into()),
        };
        TensorSpec {
            name: name.into(),
            dtype: DataType::Fp32,
            dims: Some(dims.iter().map(dim).collect()),
            classes: vec![],
        }
    }

    /// Applies `each` to every element along with the sum of all of them.
    fn map(input: &Tensor, each: impl Fn(f32, f32) -> f32) -> Tensor {
        let values: Vec<f32> = input.elements().collect();
        let sum = values.iter().sum();
        let mapped: Vec<f32> = values.into_iter().map(|value| each(value, sum)).collect();
        Tensor::from_elements(DataType::Fp32, input.shape().to_vec(), &mapped).unwrap()
    }

    fn proven(inputs: &[TensorSpec], run: &mut Runner) -> Batching {
        prove(inputs, &[spec("y", &["N"])], 4, run).0
    }

    fn reason(batching: Batching) -> String {
        match batching {
            Batching::Unproven(reason) => reason,
            Batching::Proven(axes) => panic!("proven with {axes:?}"),
        }
    }

    #[test]
    fn rows_that_go_their_own_ways_are_proven_on_any_axis() {
        let inputs = [spec("x", &["T", "N", "2"]), spec("k", &["1"])];
        let run = &mut |inputs: &[Tensor]| Ok(vec![map(&inputs[0], |value, _| value * 2.0), inputs[1].clone()]);
        let axes = BatchAxes { inputs: vec![Some(1), None], outputs: vec![Some(1), None] };
        assert_eq!(proven(&inputs, run), Batching::Proven(axes));
    }

    #[test]
    fn rows_that_look_at_each_other_are_found_out() {
        let inputs = [spec("x", &["N", "4"])];
        let run = &mut |inputs: &[Tensor]| Ok(vec![map(&inputs[0], |value, sum| value - sum)]);
        assert!(reason(proven(&inputs, run)).contains("output 'y' of a row depends on the other rows"));
        let branch =
            &mut |inputs: &[Tensor]| Ok(vec![map(&inputs[0], |value, sum| if sum > 0.0 { value } else { -value })]);
        assert!(reason(proven(&inputs, branch)).contains("depends on the other rows"));
    }

    #[test]
    fn nan_and_constant_outputs_are_no_obstacle() {
        let inputs = [spec("x", &["?", "4"])];
        let run = &mut |inputs: &[Tensor]| {
            Ok(vec![map(&inputs[0], |_, _| f32::NAN), Tensor::zeros(DataType::Int64, vec![2])])
        };
        let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0), None] };
        assert_eq!(proven(&inputs, run), Batching::Proven(axes));
    }

    #[test]
    fn what_cannot_be_tried_is_not_proven() {
        let never = &mut |_: &[Tensor]| Err(RunError::Failed("no".into()));
        assert_eq!(reason(proven(&[spec("x", &["4", "8"])], never)), "no input has a dimension that varies");
        assert_eq!(reason(proven(&[spec("x", &["N"])], never)), "the model did not run on made-up inputs");
        assert_eq!(reason(proven(&[spec("x", &["N", "N"])], never)), "no input has a dimension that varies");
        let alone = &mut |inputs: &[Tensor]| match inputs[0].shape()[0] {
            1 => Ok(vec![inputs[0].clone()]),
            _ => Err(RunError::Failed("no".into())),
        };
        assert!(reason(proven(&[spec("x", &["N"])], alone)).contains("alone but not together"));
    }

    #[test]
    fn two_rounds_prove_what_there_was_no_time_to_try_further() {
        let proven_by = |runs_in_time: usize| {
            let mut runs = 0;
            let run = &mut |inputs: &[Tensor]| {
                runs += 1;
                if runs > runs_in_time { Err(RunError::Stopped) } else { Ok(vec![inputs[0].clone()]) }
            };
            proven(&[spec("x", &["N"])], run)
        };
        assert_eq!(reason(proven_by(2 * ROWS + 1)), OUT_OF_TIME);
        let axes = BatchAxes { inputs: vec![Some(0)], outputs: vec![Some(0)] };
        assert_eq!(proven_by(2 * ROWS + 2), Batching::Proven(axes));
    }

    #[test]
    fn a_batch_is_looked_for_by_name_first() {
        let inputs = [spec("x", &["T", "batch_size", "?"]), spec("h", &["1", "batch_size"])];
        let found: Vec<_> = candidates(&inputs).into_iter().map(|candidate| (candidate.dim, candidate.axes)).collect();
        assert_eq!(found[0], (Some("batch_size".into()), vec![Some(1), Some(1)]));
        assert_eq!(found[1], (Some("T".into()), vec![Some(0), None]));
        assert_eq!(found[2], (None, vec![Some(2), None]));
    }
}
