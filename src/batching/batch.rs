//! One run: rows of several requests in, their answers out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::queue::Piece;
use super::request::{NoAnswer, Part};
use crate::engine::rows::{concat_rows, slice_rows};
use crate::engine::{RunError, RunOutput, Session};
use crate::signature::BatchAxes;
use crate::telemetry::stats::ServableStats;
use crate::tensor::Tensor;

/// What a run needs beside its rows.
pub struct Runner<'a> {
    pub session: &'a mut dyn Session,
    /// `None` where no batch axis is proven: then every batch is one whole request.
    pub axes: Option<&'a BatchAxes>,
    pub stats: &'a ServableStats,
}

impl Runner<'_> {
    /// Runs these rows and answers their requests. `run_rows` is the size to run them as: more than they are means that
    /// the last row is repeated. A batch that fails is run request by request once, so that one that can't be run
    /// fails alone.
    ///
    /// `started` is when it was last made sure that none of them is expired.
    pub fn run(&mut self, pieces: &[Piece], run_rows: usize, started: Instant) {
        let output = self.execute(pieces, run_rows);
        self.count_waste(pieces, started, output.is_ok());
        let rows = rows_of(pieces);
        match output {
            Ok(output) => self.answer(pieces, run_rows, &output, started),
            Err(RunError::Stopped) => pieces.iter().for_each(|piece| piece.request.fail(NoAnswer::Expired)),
            Err(_) if pieces.len() > 1 || run_rows > rows => {
                for piece in pieces {
                    let now = Instant::now();
                    if !piece.request.is_void(now) {
                        self.run(std::slice::from_ref(piece), piece.count, now);
                    }
                }
            }
            Err(error) => pieces.iter().for_each(|piece| piece.request.fail(NoAnswer::Run(error.clone()))),
        }
    }

    fn execute(&mut self, pieces: &[Piece], run_rows: usize) -> Result<RunOutput, RunError> {
        // A batch goes on for as long as anyone waits for any of it.
        let stop = || {
            let now = Instant::now();
            pieces.iter().all(|piece| piece.request.is_void(now))
        };
        let inputs = self.gather(pieces, run_rows)?;
        // The engine catches its own panics; this is for one in our code around it, which must not cost the others.
        let output = catch_unwind(AssertUnwindSafe(|| self.session.run(&inputs, &stop)))
            .unwrap_or_else(|_| Err(RunError::Failed("the worker panicked around the run".to_owned())))?;
        self.stats.record_execution(rows_of(pieces), &output.timing);
        match is_whole(pieces, run_rows) {
            true => Ok(output),
            false => self.check_rows(output, run_rows.max(rows_of(pieces))),
        }
    }

    /// The inputs of the run. A whole request by itself is taken as it is, without a copy.
    fn gather(&self, pieces: &[Piece], run_rows: usize) -> Result<Vec<Tensor>, RunError> {
        let first = &pieces[0];
        let (inputs, rows) = (&first.request.work.inputs, rows_of(pieces));
        let Some(axes) = self.axes.filter(|_| !is_whole(pieces, run_rows)) else { return Ok(inputs.clone()) };
        let input = |at: usize| match axes.inputs[at] {
            None => Ok(inputs[at].clone()),
            Some(axis) => {
                let slice = |piece: &Piece| slice_rows(&piece.request.work.inputs[at], axis, piece.start, piece.count);
                let mut parts: Vec<Tensor> = pieces.iter().map(slice).collect();
                if let Some(last) = parts.last().filter(|_| run_rows > rows).cloned() {
                    let row = slice_rows(&last, axis, last.shape()[axis] - 1, 1);
                    parts.extend(std::iter::repeat_n(row, run_rows - rows));
                }
                let alike = "requests of one batch have the same shapes";
                concat_rows(&parts, axis).ok_or_else(|| RunError::Failed(alike.to_owned()))
            }
        };
        (0..inputs.len()).map(input).collect()
    }

    /// Cuts the outputs into what belongs to each request.
    fn answer(&self, pieces: &[Piece], run_rows: usize, output: &RunOutput, started: Instant) {
        let mut start = 0;
        for piece in pieces {
            // A request that ran by itself is given what came, whatever its shape.
            let axes = self.axes.filter(|_| !is_whole(pieces, run_rows));
            let cut = |(at, tensor): (usize, &Tensor)| match axes.and_then(|axes| axes.outputs[at]) {
                Some(axis) if tensor.shape()[axis] != piece.count => slice_rows(tensor, axis, start, piece.count),
                _ => tensor.clone(),
            };
            let tensors = output.tensors.iter().enumerate().map(cut).collect();
            let part = Part { tensors, count: piece.count, timing: output.timing, started, batch_size: run_rows };
            piece.request.answer_part(piece.start, part, self.axes);
            start += piece.count;
        }
    }

    /// Whether each output has as many rows as were run, so that they can be told apart.
    fn check_rows(&self, output: RunOutput, rows: usize) -> Result<RunOutput, RunError> {
        let axes = self.axes.map_or(&[][..], |axes| &axes.outputs);
        let fits =
            |(tensor, axis): (&Tensor, &Option<usize>)| axis.is_none_or(|axis| tensor.shape().get(axis) == Some(&rows));
        match output.tensors.len() == axes.len() && output.tensors.iter().zip(axes).all(fits) {
            true => Ok(output),
            false => Err(RunError::Failed(format!("a batch of {rows} rows gave outputs of another number of rows"))),
        }
    }

    /// Counts rows whose run was for nobody.
    fn count_waste(&self, pieces: &[Piece], started: Instant, ran: bool) {
        for Piece { request, count, .. } in pieces {
            if request.work.deadline.passed(started) {
                self.stats.waste.expired_before_run.fetch_add(*count as u64, Relaxed);
            } else if ran && request.is_void(Instant::now()) {
                self.stats.waste.left_during_run.fetch_add(*count as u64, Relaxed);
            }
        }
    }
}

/// Rows of these pieces together.
pub fn rows_of(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.count).sum()
}

/// Whether the run is one request as it came.
fn is_whole(pieces: &[Piece], run_rows: usize) -> bool {
    matches!(pieces, [only] if only.count == only.request.work.rows && run_rows <= only.count)
}
