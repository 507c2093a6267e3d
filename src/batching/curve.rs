//! What a model's batches take, size by size, and what follows from it.

use serde::{Deserialize, Serialize};

use super::curve_policy::{Cuts, Point, cap};

/// Most rows of one run that are ever measured or chosen.
pub const MAX_MEASURED_ROWS: usize = 256;

/// Run times as they were measured: what a file can keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// In the order of their rows, from one row on. Prepared times are those of plans that were kept.
    pub points: Vec<Point>,
    /// Sizes beyond this were out of the question.
    pub max_rows: usize,
}

impl Measured {
    /// Whether it can be a measurement: sizes from 1 to `max_rows` that grow, positive times, and one at least for each.
    pub fn is_sound(&self) -> bool {
        let rows: Vec<usize> = self.points.iter().map(|point| point.rows).collect();
        let times = self.points.iter().flat_map(|point| [point.unprepared_s, point.prepared_s]).flatten();
        rows.first() == Some(&1)
            && rows.windows(2).all(|pair| pair[0] < pair[1])
            && rows.iter().all(|rows| *rows <= self.max_rows.min(MAX_MEASURED_ROWS))
            && times.into_iter().all(|time| time.is_finite() && time > 0.0)
            && self.points.iter().all(|point| point.run_s().is_finite())
    }

    /// Without the sizes beyond `max_rows`.
    pub fn up_to(mut self, max_rows: usize) -> Self {
        self.points.retain(|point| point.rows <= max_rows);
        self.max_rows = self.max_rows.min(max_rows);
        self
    }
}

/// A model's run time as a function of the rows in the run. Of made-up inputs: where other dimensions than the batch vary,
/// real ones may take longer by any factor, and only the ratios hold.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchCurve {
    measured: Option<Measured>,
    cap: usize,
    cuts: Option<Cuts>,
    /// Why there is no measurement, or why it ends where it ends; empty if there is nothing to say.
    note: String,
}

impl BatchCurve {
    /// Of a model that was not, or not yet, measured: one row a run.
    pub fn unmeasured() -> Self {
        Self { measured: None, cap: 1, cuts: None, note: String::new() }
    }

    /// Of a model that can't be measured, with the reason for the log.
    pub fn unmeasured_because(note: String) -> Self {
        Self { note, ..Self::unmeasured() }
    }

    /// The curve of a sound measurement; `unmeasured` of any other.
    pub fn new(measured: Measured) -> Self {
        if !measured.is_sound() {
            return Self::unmeasured_because("times that are no measurement".to_owned());
        }
        let (cap, cuts) = (cap(&measured.points), Cuts::new(&measured.points));
        Self { measured: Some(measured), cap, cuts: Some(cuts), note: String::new() }
    }

    /// The same with something to say about it.
    pub fn noting(self, note: String) -> Self {
        Self { note, ..self }
    }

    /// The largest number of rows that is worth one run, at least 1.
    pub fn cap(&self) -> usize {
        self.cap
    }

    /// Whether `estimate_s` knows anything.
    pub fn is_measured(&self) -> bool {
        self.measured.is_some()
    }

    /// What was measured, beyond the cap too.
    pub fn measured(&self) -> Option<&Measured> {
        self.measured.as_ref()
    }

    pub fn points(&self) -> &[Point] {
        self.measured.as_ref().map(|measured| measured.points.as_slice()).unwrap_or_default()
    }

    pub fn note(&self) -> &str {
        &self.note
    }

    /// Seconds that a run of `rows` rows takes, run as `run_rows` says. More than the cap are counted as runs of the cap
    /// and one of the rest, one after the other. 0 for no rows, and where nothing was measured.
    pub fn estimate_s(&self, rows: usize) -> f64 {
        let Some(cuts) = &self.cuts else { return 0.0 };
        let (full, rest) = (rows / self.cap, rows % self.cap);
        let rest_s = if rest == 0 { 0.0 } else { cuts.of(rest).run_s };
        full as f64 * cuts.of(self.cap).run_s + rest_s
    }

    /// The size to run `rows` rows as: the same number, or more, where padding up to a prepared plan is faster. Above the
    /// cap always the same number.
    pub fn run_rows(&self, rows: usize) -> usize {
        match &self.cuts {
            Some(cuts) if (1..=self.cap).contains(&rows) => cuts.of(rows).run_rows,
            _ => rows,
        }
    }

    /// How many of the waiting rows to take into one run: the cap at most, and fewer than are there where several runs of
    /// prepared plans take less time together. 0 only of none.
    pub fn best_cut(&self, waiting_rows: usize) -> usize {
        match &self.cuts {
            Some(cuts) if (1..self.cap).contains(&waiting_rows) => cuts.of(waiting_rows).first,
            _ => waiting_rows.min(self.cap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rows: usize, unprepared_s: f64, prepared_s: Option<f64>) -> Point {
        Point { rows, unprepared_s: Some(unprepared_s), prepared_s }
    }

    fn measured(points: Vec<Point>) -> Measured {
        Measured { points, max_rows: 8 }
    }

    #[test]
    fn a_model_that_was_not_measured_runs_row_by_row() {
        let curve = BatchCurve::unmeasured();
        assert_eq!((curve.cap(), curve.is_measured(), curve.estimate_s(7)), (1, false, 0.0));
        assert_eq!((curve.run_rows(1), curve.run_rows(5), curve.best_cut(5), curve.best_cut(0)), (1, 5, 1, 0));
    }

    #[test]
    fn a_curve_says_what_runs_take_and_how_rows_are_cut() {
        let curve = BatchCurve::new(measured(vec![
            point(1, 10.0, None),
            point(2, 20.0, Some(12.0)),
            point(4, 50.0, Some(20.0)),
            point(8, 80.0, Some(34.0)),
        ]));
        assert_eq!(curve.cap(), 8);
        assert_eq!((curve.run_rows(5), curve.best_cut(5)), (8, 4));
        assert_eq!((curve.run_rows(9), curve.best_cut(9)), (9, 8));
        for (rows, seconds) in [(0, 0.0), (1, 10.0), (3, 20.0), (5, 34.0), (8, 34.0), (9, 44.0), (17, 78.0)] {
            assert_eq!(curve.estimate_s(rows), seconds, "{rows} rows");
        }
    }

    #[test]
    fn a_smaller_limit_makes_a_smaller_curve() {
        let all = measured(vec![point(1, 10.0, None), point(2, 12.0, None), point(4, 14.0, None)]);
        assert_eq!(BatchCurve::new(all.clone()).cap(), 4);
        assert_eq!(BatchCurve::new(all.clone().up_to(3)).cap(), 2);
        assert_eq!(BatchCurve::new(all.up_to(1)).cap(), 1);
    }

    #[test]
    fn what_is_no_measurement_makes_no_curve() {
        let good = || vec![point(1, 10.0, None), point(2, 12.0, None)];
        assert!(measured(good()).is_sound());
        let nowhere = Point { rows: 4, unprepared_s: None, prepared_s: None };
        for (what, points) in [
            ("no points", vec![]),
            ("no first size", vec![point(2, 12.0, None)]),
            ("sizes that fall", vec![point(1, 1.0, None), point(4, 1.0, None), point(2, 1.0, None)]),
            ("no time", vec![point(1, 0.0, None)]),
            ("a time below zero", vec![point(1, 1.0, None), point(2, 1.0, Some(-1.0))]),
            ("a time that is none", vec![point(1, f64::NAN, None)]),
            ("a size that can't run", [good(), vec![nowhere]].concat()),
            ("a size beyond the limit", [good(), vec![point(9, 20.0, None)]].concat()),
        ] {
            assert!(!measured(points.clone()).is_sound(), "{what}");
            assert!(!BatchCurve::new(measured(points)).is_measured(), "{what}");
        }
    }
}
