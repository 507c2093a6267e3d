//! Whether a model answers a padded sequence as it answers the sequence itself.
//!
//! A model may take a mask and still let what was added show, by a mean over all positions or by attention that looks
//! at them. As with the batch axis the model is asked: rows of several lengths, alone at their own length, padded, and
//! padded and together, must give the same outputs.

use fastrand::Rng;

use super::{InputPadding, PaddedInput, PaddedLength, PaddingRule, SequencePadding};
use crate::engine::batch_axis::Runner;
use crate::engine::closeness::is_close;
use crate::engine::rows::{concat_rows, slice_rows};
use crate::engine::sample::{self, Sizes, Style};
use crate::signature::{BatchAxes, Signature};
use crate::tensor::{Tensor, shape_text};

/// Each round has values in another style; every other one a mask that ends before the sequence does, as that of a
/// client which pads by itself.
const ROUNDS: [Style; 3] = [Style::Signed, Style::Unit, Style::Wide];
/// Rounds that a proof needs; the others may fail on values that the model doesn't take.
const MIN_ROUNDS: usize = 2;
/// Up to this length three lengths are tried for a bucket, alone and together; above it one, because runs are long.
const SHORT: usize = 512;
/// As for the batch axis: sums in another order, relative to the tensor's largest magnitude.
const TOLERANCE: f64 = 1e-4;
/// Sizes tried for dimensions that vary and are neither batch nor sequence, until the model runs.
const OTHER_SIZES: [usize; 5] = [1, 16, 8, 64, 2];

/// The padding that a rule means, if the model tolerates it; else why not. Runs the model up to 21 times for each of
/// the sizes above.
///
/// # Errors
/// A text for operators.
pub fn prove(rule: &PaddingRule, signature: &Signature, run: &mut Runner) -> Result<SequencePadding, String> {
    let padding = rule.fit(signature).map_err(|fault| fault.to_string())?;
    let mask = rule.mask.as_ref().and_then(|mask| signature.inputs.iter().position(|spec| spec.name == *mask));
    let proof = |other| Proof { padding: &padding, signature, mask, dimension: &rule.dimension, other };
    if (0..ROUNDS.len()).all(|round| proof(1).bucket(round).1.is_empty()) {
        return Err("no length lies below a bucket".to_owned());
    }
    for other in OTHER_SIZES {
        match proof(other).run(run) {
            Ok(outputs) => return Ok(SequencePadding { inputs: padding, outputs }),
            Err(Refusal::Differs(reason)) => return Err(reason),
            Err(Refusal::NotRun) if proof(1).varies() => {}
            Err(Refusal::NotRun) => break,
        }
    }
    Err("the model did not run on made-up inputs".to_owned())
}

/// Why nothing was proven.
enum Refusal {
    Differs(String),
    /// The model took too few of the made-up rows.
    NotRun,
}

struct Proof<'a> {
    padding: &'a InputPadding,
    signature: &'a Signature,
    /// Position of the mask among the inputs.
    mask: Option<usize>,
    dimension: &'a str,
    /// Size of the dimensions that are neither batch nor sequence.
    other: usize,
}

/// A made-up row that the model ran on alone.
struct Row {
    length: PaddedLength,
    padded: Vec<Tensor>,
    /// The outputs at the row's own length.
    expected: Vec<Tensor>,
}

impl Proof<'_> {
    /// The sequence axis of each output.
    fn run(&self, run: &mut Runner) -> Result<Vec<Option<usize>>, Refusal> {
        let mut found: Option<Vec<Option<usize>>> = None;
        let mut rounds = 0;
        for (round, style) in ROUNDS.into_iter().enumerate() {
            let rows = self.rows(round, style, run);
            for row in &rows {
                let axes = self.compare_alone(row, run).map_err(Refusal::Differs)?;
                if found.as_ref().is_some_and(|before| *before != axes) {
                    return Err(Refusal::Differs("the outputs' shapes depend on the inputs' values".to_owned()));
                }
                found = Some(axes);
            }
            let Some(axes) = &found else { continue };
            rounds += usize::from(!rows.is_empty());
            if let Some(batch) = self.batch_axes().filter(|_| rows.len() > 1) {
                self.compare_together(&rows, batch, axes, run).map_err(Refusal::Differs)?;
            }
        }
        match found {
            Some(axes) if rounds >= MIN_ROUNDS => Ok(axes),
            _ => Err(Refusal::NotRun),
        }
    }

    /// The rows of a round that the model takes at their own length.
    fn rows(&self, round: usize, style: Style, run: &mut Runner) -> Vec<Row> {
        let (padded, lengths) = self.bucket(round);
        let mut rng = Rng::with_seed(round as u64);
        let shared = self.inputs(&mut rng, 1, style);
        let row = |original: usize| {
            let inputs = self.row(&mut rng, original, style, round % 2 == 1, &shared);
            let expected = run(&inputs).ok()?;
            let length = PaddedLength { original, padded };
            Some(Row { length, padded: self.padding.pad(&inputs, padded), expected })
        };
        lengths.into_iter().filter_map(row).collect()
    }

    /// A bucket for the round, the first, the last and one between, with lengths that are padded to it.
    fn bucket(&self, round: usize) -> (usize, Vec<usize>) {
        let buckets = &self.padding.buckets;
        let at = [0, buckets.len() - 1, buckets.len() / 2][round % 3];
        let (least, bucket) = (at.checked_sub(1).map_or(1, |before| buckets[before] + 1), buckets[at]);
        let mut lengths = if bucket <= SHORT { vec![least, least.midpoint(bucket), bucket - 1] } else { vec![least] };
        lengths.retain(|length| (least..bucket).contains(length));
        lengths.dedup();
        (bucket, lengths)
    }

    fn row(&self, rng: &mut Rng, length: usize, style: Style, short_mask: bool, shared: &[Tensor]) -> Vec<Tensor> {
        let mut row = self.inputs(rng, length, style);
        for (position, padded) in self.padding.inputs.iter().enumerate() {
            match padded {
                None if !self.is_a_row(position) => row[position] = shared[position].clone(),
                Some(padded) if self.mask == Some(position) => {
                    let shown = if short_mask { length.div_ceil(2) } else { length };
                    let ones = self.tensor(rng, position, shown, Style::Ones);
                    row[position] = padded.extend(&ones, length);
                }
                _ => {}
            }
        }
        row
    }

    fn inputs(&self, rng: &mut Rng, length: usize, style: Style) -> Vec<Tensor> {
        (0..self.signature.inputs.len()).map(|position| self.tensor(rng, position, length, style)).collect()
    }

    fn tensor(&self, rng: &mut Rng, position: usize, length: usize, style: Style) -> Tensor {
        let shape = self.shape(position, length, self.other);
        sample::tensor(rng, self.signature.inputs[position].dtype, shape, style)
    }

    fn shape(&self, position: usize, length: usize, other: usize) -> Vec<usize> {
        let batch_axis = self.signature.batch_axes().and_then(|axes| axes.inputs[position]);
        let mut shape = sample::shape(&self.signature.inputs[position], batch_axis, Sizes { rows: 1, other });
        if let Some(PaddedInput { axis, .. }) = &self.padding.inputs[position] {
            shape[*axis] = length;
        }
        shape
    }

    /// Whether there are dimensions that vary beside batch and sequence.
    fn varies(&self) -> bool {
        (0..self.signature.inputs.len()).any(|position| self.shape(position, 1, 1) != self.shape(position, 1, 2))
    }

    fn is_a_row(&self, position: usize) -> bool {
        self.signature.batch_axes().is_some_and(|axes| axes.inputs[position].is_some())
    }

    /// The batch axes, if rows of several lengths can be put together: no padded input is shared by all rows.
    fn batch_axes(&self) -> Option<&BatchAxes> {
        let shared = |(position, padded): (usize, &Option<PaddedInput>)| padded.is_some() && !self.is_a_row(position);
        let is_possible = !self.padding.inputs.iter().enumerate().any(shared);
        self.signature.batch_axes().filter(|_| is_possible)
    }

    /// The sequence axis of each output of a row, if cut there it is what the row gives at its own length.
    fn compare_alone(&self, row: &Row, run: &mut Runner) -> Result<Vec<Option<usize>>, String> {
        let got = run(&row.padded).map_err(|_| format!("the model does not run with {}", self.padded(row.length)))?;
        let axis = |(position, (got, expected)): (usize, (&Tensor, &Tensor))| {
            let axis = sequence_axis(got.shape(), expected.shape(), row.length).ok_or_else(|| {
                format!(
                    "output '{}' is {} for a length of {} along '{}' and {} for {}, which can't be cut back",
                    self.output(position),
                    shape_text(expected.shape()),
                    row.length.original,
                    self.dimension,
                    shape_text(got.shape()),
                    row.length.padded
                )
            })?;
            match is_close(&cut(got, axis, row.length), expected, TOLERANCE) {
                true => Ok(axis),
                false => Err(format!("output '{}' changes with {}", self.output(position), self.padded(row.length))),
            }
        };
        got.iter().zip(&row.expected).enumerate().map(axis).collect()
    }

    fn compare_together(
        &self,
        rows: &[Row],
        batch: &BatchAxes,
        axes: &[Option<usize>],
        run: &mut Runner,
    ) -> Result<(), String> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.length.original).collect();
        let what = format!("rows of lengths {} padded to {}", shape_text(&lengths), rows[0].length.padded);
        let input = |(position, axis): (usize, &Option<usize>)| match axis {
            None => rows[0].padded[position].clone(),
            Some(axis) => {
                let parts: Vec<Tensor> = rows.iter().map(|row| row.padded[position].clone()).collect();
                concat_rows(&parts, *axis).expect("rows of one shape were made")
            }
        };
        let inputs: Vec<Tensor> = batch.inputs.iter().enumerate().map(input).collect();
        let got = run(&inputs).map_err(|_| format!("{what} run alone but not together"))?;
        for (position, (got, rows_axis)) in got.iter().zip(&batch.outputs).enumerate() {
            for (number, row) in rows.iter().enumerate() {
                let own = match rows_axis {
                    Some(axis) if got.shape().get(*axis) == Some(&rows.len()) => slice_rows(got, *axis, number, 1),
                    _ => got.clone(),
                };
                let is_whole = axes[position].is_none_or(|axis| own.shape().get(axis) == Some(&row.length.padded));
                if !is_whole || !is_close(&cut(&own, axes[position], row.length), &row.expected[position], TOLERANCE) {
                    return Err(format!("output '{}' of {what} changes in company", self.output(position)));
                }
            }
        }
        Ok(())
    }

    fn padded(&self, length: PaddedLength) -> String {
        format!("a length of {} padded to {} along '{}'", length.original, length.padded, self.dimension)
    }

    fn output(&self, position: usize) -> &str {
        self.signature.outputs.get(position).map_or("?", |spec| &spec.name)
    }
}

/// The one axis that is as long as the padded inputs where the other is as long as the original; `Some(None)` where the
/// shapes are the same, `None` where they differ otherwise.
fn sequence_axis(padded: &[usize], original: &[usize], length: PaddedLength) -> Option<Option<usize>> {
    if padded.len() != original.len() {
        return None;
    }
    let mut differing = (0..padded.len()).filter(|&axis| padded[axis] != original[axis]);
    let Some(axis) = differing.next() else { return Some(None) };
    let is_it = differing.next().is_none() && padded[axis] == length.padded && original[axis] == length.original;
    is_it.then_some(Some(axis))
}

fn cut(output: &Tensor, axis: Option<usize>, length: PaddedLength) -> Tensor {
    match axis {
        Some(axis) => slice_rows(output, axis, 0, length.original),
        None => output.clone(),
    }
}
