//! Decides over measured run times: which batch sizes are worth measuring and running, which are worth a plan of their
//! own, and into which runs waiting rows are cut.
//!
//! One rule throughout: whatever departs from the plain way (a larger batch, a plan of its own, padding, splitting) must
//! be at least [`MIN_GAIN`] faster, because times from a busy machine are no better than that.

use serde::{Deserialize, Serialize};

/// The part of the time that must be saved.
pub const MIN_GAIN: f64 = 0.1;
/// Sizes without a gain after which no larger one is tried. One alone may be noise, or a size that suits the engine's
/// kernels badly.
const MOST_WITHOUT_GAIN: usize = 2;
/// How much worse than the best a size's time per row may be for a larger one to be tried.
const HOPELESS: f64 = 1.5;

/// What a run of one batch size takes, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub rows: usize,
    /// On the plan that serves every size; `None` where there is none.
    pub unprepared_s: Option<f64>,
    /// On a plan prepared for this size, if one is held.
    pub prepared_s: Option<f64>,
}

impl Point {
    /// The run's time on what serves it. Infinite where nothing does.
    pub fn run_s(&self) -> f64 {
        self.prepared_s.or(self.unprepared_s).unwrap_or(f64::INFINITY)
    }

    pub fn row_s(&self) -> f64 {
        self.run_s() / self.rows as f64
    }
}

/// Whether `candidate_s` is enough faster than `plain_s` to depart from the plain way.
pub fn pays(plain_s: f64, candidate_s: f64) -> bool {
    candidate_s <= (1.0 - MIN_GAIN) * plain_s
}

/// The place of the largest size that is still worth it: each step up to it saves `MIN_GAIN` of the time per row, or makes
/// up for smaller ones that did not. `points` are in the order of their rows and not empty.
fn best(points: &[Point]) -> usize {
    (1..points.len()).fold(0, |best, at| if pays(points[best].row_s(), points[at].row_s()) { at } else { best })
}

/// The largest number of rows that is worth one run; 1 without points.
pub fn cap(points: &[Point]) -> usize {
    if points.is_empty() { 1 } else { points[best(points)].rows }
}

/// Whether a larger size than those measured may still be worth it.
pub fn wants_another(points: &[Point]) -> bool {
    let Some(last) = points.last() else { return true };
    let best = best(points);
    points.len() - 1 - best < MOST_WITHOUT_GAIN && last.row_s() <= HOPELESS * points[best].row_s()
}

/// The size to measure after `rows`: twice as many, or `bound` where that is less. `None` beyond it.
pub fn next_size(rows: usize, bound: usize) -> Option<usize> {
    (rows < bound).then(|| (2 * rows).min(bound))
}

/// How each number of rows up to the cap is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Cuts {
    /// That of `rows` at `rows - 1`.
    each: Vec<Cut>,
}

/// How a number of rows is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// The size that one run of all these rows has: their number, or more, where the rest is padding.
    pub run_rows: usize,
    /// What that run takes.
    pub run_s: f64,
    /// How many of the rows go into the first of the runs that take least together.
    pub first: usize,
    /// What all those runs take one after the other.
    pub total_s: f64,
}

impl Cuts {
    /// `points` in the order of their rows, from one row to the cap; every size up to the cap must have a time, its own
    /// or that of a larger one. `O(cap²)`.
    pub fn new(points: &[Point]) -> Self {
        let mut each: Vec<Cut> = vec![];
        for rows in 1..=cap(points) {
            let (run_rows, run_s) = one_run(points, rows);
            let alone = Cut { run_rows, run_s, first: rows, total_s: run_s };
            // From the largest first run on, so that the fewest runs win where several ways take as long.
            let split = |first: usize| {
                let total_s = each[first - 1].run_s + each[rows - first - 1].total_s;
                Cut { first, total_s, ..alone }
            };
            let splits = (1..rows).rev().map(split);
            let fastest = splits.reduce(|best, split| if split.total_s < best.total_s { split } else { best });
            each.push(fastest.filter(|split| pays(run_s, split.total_s)).unwrap_or(alone));
        }
        Self { each }
    }

    /// How `rows` are run, at least 1 and at most the cap.
    pub fn of(&self, rows: usize) -> &Cut {
        &self.each[rows - 1]
    }
}

/// The size and the time of one run of `rows` rows.
fn one_run(points: &[Point], rows: usize) -> (usize, f64) {
    let exact = points.iter().find(|point| point.rows == rows).map(Point::run_s);
    let plain_s = exact.or_else(|| interpolated(points, rows)).unwrap_or(f64::INFINITY);
    let larger = points.iter().filter(|point| point.rows > rows);
    let prepared = larger.filter_map(|point| Some((point.rows, point.prepared_s?)));
    match prepared.min_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((padded, padded_s)) if pays(plain_s, padded_s) => (padded, padded_s),
        _ => (rows, plain_s),
    }
}

/// The time between two measured sizes, by the straight line between them.
fn interpolated(points: &[Point], rows: usize) -> Option<f64> {
    let above = points.iter().position(|point| point.rows > rows)?;
    let (low, high) = (points.get(above.checked_sub(1)?)?, &points[above]);
    let (low_s, high_s) = (low.unprepared_s?, high.unprepared_s?);
    let part = (rows - low.rows) as f64 / (high.rows - low.rows) as f64;
    Some(low_s + part * (high_s - low_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of 1, 2, 4, … rows with these times, none prepared.
    fn plain(times: &[f64]) -> Vec<Point> {
        let point = |(at, time): (usize, &f64)| Point { rows: 1 << at, unprepared_s: Some(*time), prepared_s: None };
        times.iter().enumerate().map(point).collect()
    }

    /// The same with prepared plans where a second time is given.
    fn with_plans(times: &[(f64, Option<f64>)]) -> Vec<Point> {
        let points = plain(&times.iter().map(|(time, _)| *time).collect::<Vec<_>>());
        points
            .into_iter()
            .zip(times)
            .map(|(point, (_, prepared_s))| Point { prepared_s: *prepared_s, ..point })
            .collect()
    }

    #[test]
    fn the_cap_is_the_largest_size_that_is_worth_it() {
        for (what, times, expected, goes_on) in [
            ("nothing measured", &[][..], 1, true),
            ("one size", &[10.0], 1, true),
            ("a gain everywhere", &[10.0, 11.0, 13.0, 17.0, 25.0], 16, true),
            ("a convolution, slower by the row", &[1.0, 2.2, 5.0], 1, false),
            ("so slow that two rows are enough to see it", &[1.0, 3.1], 1, false),
            ("a plateau after four rows", &[10.0, 12.0, 16.0, 31.0, 62.0], 4, false),
            ("one size on the plateau may be noise", &[10.0, 12.0, 16.0, 31.0], 4, true),
            ("one bad size before a good one", &[10.0, 21.0, 20.0], 4, true),
            ("gains too small to tell from noise", &[10.0, 19.0, 37.0], 1, false),
        ] {
            let points = plain(times);
            assert_eq!((cap(&points), wants_another(&points)), (expected, goes_on), "{what}");
        }
    }

    #[test]
    fn a_plan_of_its_own_can_make_a_size_worth_it() {
        let points = with_plans(&[(10.0, None), (25.0, Some(14.0)), (50.0, Some(20.0))]);
        assert_eq!(cap(&points), 4);
        assert_eq!(cap(&plain(&[10.0, 25.0, 50.0])), 1);
    }

    #[test]
    fn sizes_double_up_to_the_bound() {
        let sizes = |bound| std::iter::successors(Some(1), |rows| next_size(*rows, bound)).collect::<Vec<_>>();
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(6), [1, 2, 4, 6]);
        assert_eq!(sizes(8), [1, 2, 4, 8]);
    }

    #[test]
    fn without_prepared_plans_all_rows_go_into_one_run() {
        let cuts = Cuts::new(&plain(&[10.0, 12.0, 16.0, 24.0]));
        for (rows, run_s) in [(1, 10.0), (2, 12.0), (3, 14.0), (4, 16.0), (5, 18.0), (8, 24.0)] {
            assert_eq!(*cuts.of(rows), Cut { run_rows: rows, run_s, first: rows, total_s: run_s });
        }
    }

    #[test]
    fn rows_are_padded_up_to_a_prepared_plan_that_is_faster() {
        // Without plans 3 rows take 30 and 2 rows 20; the plan for four takes 14.
        let cuts = Cuts::new(&with_plans(&[(10.0, None), (20.0, None), (40.0, Some(14.0))]));
        assert_eq!(*cuts.of(3), Cut { run_rows: 4, run_s: 14.0, first: 3, total_s: 14.0 });
        assert_eq!(*cuts.of(2), Cut { run_rows: 4, run_s: 14.0, first: 2, total_s: 14.0 });
        assert_eq!(cuts.of(1).run_rows, 1);
    }

    #[test]
    fn rows_are_split_where_a_smaller_prepared_plan_makes_up_for_the_second_run() {
        // Five rows: 57.5 in one run, 60 padded to eight, 20 + 10 as four and one.
        let points = with_plans(&[(10.0, None), (20.0, Some(12.0)), (50.0, Some(20.0)), (80.0, Some(30.0))]);
        let cuts = Cuts::new(&points);
        assert_eq!(cap(&points), 8);
        assert_eq!(*cuts.of(5), Cut { run_rows: 8, run_s: 30.0, first: 5, total_s: 30.0 }, "no gain: 30 both ways");
        let points = with_plans(&[(10.0, None), (20.0, Some(12.0)), (50.0, Some(20.0)), (80.0, Some(34.0))]);
        let cuts = Cuts::new(&points);
        assert_eq!(*cuts.of(5), Cut { run_rows: 8, run_s: 34.0, first: 4, total_s: 30.0 });
        assert_eq!(cuts.of(7).first, 7, "4 + 2 + 1 take longer than eight");
    }

    #[test]
    fn where_every_size_needs_its_plan_only_prepared_sizes_run() {
        let point = |rows, unprepared_s, prepared_s| Point { rows, unprepared_s, prepared_s };
        let cuts = Cuts::new(&[point(1, Some(10.0), None), point(2, None, Some(12.0)), point(4, None, Some(16.0))]);
        let runs: Vec<_> = (1..=4).map(|rows| (cuts.of(rows).run_rows, cuts.of(rows).first)).collect();
        assert_eq!(runs, [(1, 1), (2, 2), (4, 3), (4, 4)]);
        assert!((1..=4).all(|rows| cuts.of(rows).total_s.is_finite()));
    }
}
