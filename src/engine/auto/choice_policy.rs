//! Which of two engines runs which batch size: a decision over measured times.

use serde::{Deserialize, Serialize};

/// An engine can serve every size if it is nowhere slower than the other by more than this factor: one engine holds one
/// copy of the weights, and answers alike whatever the batch. No more than 1.05 is meant, and the times may be off by 2 %.
pub const TOLERATED_FACTOR: f64 = 1.03;
/// The same where the faster run is shorter than [`SHORT_RUN_S`]: what a request takes outside of the engine is more.
pub const TOLERATED_FACTOR_OF_SHORT_RUNS: f64 = 1.25;
/// In seconds.
pub const SHORT_RUN_S: f64 = 100e-6;

/// One of the two engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Tract,
    OnnxRuntime,
}

impl Which {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tract => "tract",
            Self::OnnxRuntime => "onnxruntime",
        }
    }
}

/// What a run of so many rows takes on each engine, in seconds; `None` where it can't run them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EngineTime {
    pub rows: usize,
    pub tract_s: Option<f64>,
    pub onnxruntime_s: Option<f64>,
}

impl EngineTime {
    /// By how much the first engine is slower than the second; infinite where only the second runs, 0 where only the first.
    fn factor(&self, of: Which) -> f64 {
        let (own, other) = match of {
            Which::Tract => (self.tract_s, self.onnxruntime_s),
            Which::OnnxRuntime => (self.onnxruntime_s, self.tract_s),
        };
        match (own, other) {
            (Some(own), Some(other)) => own / other,
            (None, Some(_)) => f64::INFINITY,
            (Some(_), None) => 0.0,
            (None, None) => 1.0,
        }
    }

    /// Whether running this size on that engine costs too little to hold both for.
    fn is_tolerated(&self, on: Which) -> bool {
        let shortest_s = [self.tract_s, self.onnxruntime_s].into_iter().flatten().fold(f64::INFINITY, f64::min);
        let most = if shortest_s < SHORT_RUN_S { TOLERATED_FACTOR_OF_SHORT_RUNS } else { TOLERATED_FACTOR };
        self.factor(on) <= most
    }

    fn faster(&self) -> Which {
        if self.factor(Which::Tract) <= 1.0 { Which::Tract } else { Which::OnnxRuntime }
    }
}

/// Whether these can be times: sizes from one row on that grow, and times above zero.
pub fn is_sound(times: &[EngineTime]) -> bool {
    let seconds = times.iter().flat_map(|time| [time.tract_s, time.onnxruntime_s]).flatten();
    times.first().is_some_and(|first| first.rows == 1)
        && times.windows(2).all(|pair| pair[0].rows < pair[1].rows)
        && seconds.into_iter().all(|time| time.is_finite() && time > 0.0)
}

/// The engine of each batch size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// From so many rows on, ascending, beginning with no rows; neighbours differ.
    from: Vec<(usize, Which)>,
}

impl Choice {
    pub fn always(which: Which) -> Self {
        Self { from: vec![(0, which)] }
    }

    /// The choice by sound times: one engine for all sizes where it is as fast as the other everywhere, up to what is
    /// tolerated (of two such, the faster one over all sizes), else the faster one for each size, or that of the size before
    /// where it is as good as that. Between two sizes the smaller one's engine counts, and beyond the last the last one's.
    pub fn of(times: &[EngineTime]) -> Self {
        let suffices = |which: &Which| times.iter().all(|time| time.is_tolerated(*which));
        let alone = [Which::Tract, Which::OnnxRuntime].into_iter().filter(suffices);
        // The sum of logarithms is that of a product of factors; one engine's is the other's turned around.
        let overall = |of: &Which| times.iter().map(|time| time.factor(*of).max(f64::MIN_POSITIVE).ln()).sum::<f64>();
        if let Some(which) = alone.min_by(|a, b| overall(a).total_cmp(&overall(b))) {
            return Self::always(which);
        }
        let mut from: Vec<(usize, Which)> = vec![];
        for time in times {
            if from.last().is_none_or(|(_, last)| time.factor(*last) > TOLERATED_FACTOR) {
                from.push((if from.is_empty() { 0 } else { time.rows }, time.faster()));
            }
        }
        if from.is_empty() { Self::always(Which::OnnxRuntime) } else { Self { from } }
    }

    /// The engine of a run of so many rows.
    pub fn engine(&self, rows: usize) -> Which {
        let after = self.from.partition_point(|(from, _)| *from <= rows);
        self.from[after.max(1) - 1].1
    }

    /// The one engine of all sizes, if there is one.
    pub fn only(&self) -> Option<Which> {
        if self.from.len() == 1 { Some(self.from[0].1) } else { None }
    }

    /// `tract`, or `tract up to 3 rows, onnxruntime from 4 rows on`.
    pub fn text(&self) -> String {
        if let Some(which) = self.only() {
            return which.name().to_owned();
        }
        let part = |(index, (from, which)): (usize, &(usize, Which))| match self.from.get(index + 1) {
            Some((2, _)) => format!("{} for 1 row", which.name()),
            Some((next, _)) => format!("{} up to {} rows", which.name(), next - 1),
            None => format!("{} from {from} rows on", which.name()),
        };
        self.from.iter().enumerate().map(part).collect::<Vec<_>>().join(", ")
    }
}

/// Each engine's time for each size, in microseconds a run: `1: 12.5/8.1, 2: 14.0/9.0`, tract first.
pub fn times_text(times: &[EngineTime]) -> String {
    let text = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{:.1}", time * 1e6));
    let each = |time: &EngineTime| format!("{}: {}/{}", time.rows, text(time.tract_s), text(time.onnxruntime_s));
    times.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// What is to be done with a model that both engines load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Either may answer.
    Both,
    Only(Which),
}

/// Who may answer. `agree`: the engines gave the same on made-up inputs, `None` where nothing could be compared. A
/// judgement is whether an engine gives what was recorded with the model; `None` without recordings.
pub fn verdict(agree: Option<bool>, tract_is_right: Option<bool>, onnxruntime_is_right: Option<bool>) -> Verdict {
    match (agree, tract_is_right, onnxruntime_is_right) {
        (_, Some(true), Some(false)) => Verdict::Only(Which::Tract),
        (_, Some(false), Some(true)) => Verdict::Only(Which::OnnxRuntime),
        (Some(true), _, _) => Verdict::Both,
        // Recordings that both give don't tell which is right elsewhere; most models were made with ONNX Runtime at hand.
        (_, _, _) => Verdict::Only(Which::OnnxRuntime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Which::{OnnxRuntime, Tract};

    fn times(of: &[(usize, f64, f64)]) -> Vec<EngineTime> {
        let time = |&(rows, tract_s, onnxruntime_s): &(usize, f64, f64)| EngineTime {
            rows,
            tract_s: Some(tract_s),
            onnxruntime_s: Some(onnxruntime_s),
        };
        of.iter().map(time).collect()
    }

    #[test]
    fn the_faster_engine_runs_each_size() {
        let choice = Choice::of(&times(&[(1, 1.0, 2.0), (2, 2.0, 2.2), (4, 4.0, 2.5), (8, 8.0, 3.0)]));
        let chosen: Vec<Which> = [0, 1, 3, 4, 7, 8, 500].into_iter().map(|rows| choice.engine(rows)).collect();
        assert_eq!(chosen, [Tract, Tract, Tract, OnnxRuntime, OnnxRuntime, OnnxRuntime, OnnxRuntime]);
        assert_eq!(choice.text(), "tract up to 3 rows, onnxruntime from 4 rows on");
        assert_eq!(choice.only(), None);
    }

    #[test]
    fn sizes_at_which_the_engines_are_level_run_where_the_size_before_does() {
        let choice = Choice::of(&times(&[(1, 1.0, 2.0), (2, 2.02, 2.0), (4, 4.0, 2.0), (8, 4.0, 4.1), (16, 8.0, 7.9)]));
        assert_eq!(choice.text(), "tract up to 3 rows, onnxruntime from 4 rows on");
    }

    #[test]
    fn one_engine_serves_all_sizes_where_the_other_gains_next_to_nothing() {
        let small_gain = times(&[(1, 1.0, 2.0), (2, 2.0, 1.95)]);
        assert_eq!(Choice::of(&small_gain), Choice::always(Tract));
        let gain = times(&[(1, 1.0, 2.0), (2, 2.0, 1.8)]);
        assert_eq!(Choice::of(&gain).only(), None);
        let short = times(&[(1, 10e-6, 20e-6), (2, 20e-6, 17e-6)]);
        assert_eq!(Choice::of(&short), Choice::always(Tract));
        let as_good_as_equal = times(&[(1, 1.0, 1.02), (2, 2.0, 1.9)]);
        assert_eq!(Choice::of(&as_good_as_equal), Choice::always(OnnxRuntime));
    }

    #[test]
    fn an_engine_that_fails_on_a_size_does_not_run_it() {
        let mut times = times(&[(1, 1.0, 2.0), (2, 1.0, 2.0)]);
        times[1].tract_s = None;
        let choice = Choice::of(&times);
        assert_eq!((choice.engine(1), choice.engine(2)), (Tract, OnnxRuntime));
        times[0].tract_s = None;
        assert_eq!(Choice::of(&times), Choice::always(OnnxRuntime));
        assert_eq!(times_text(&times), "1: -/2000000.0, 2: -/2000000.0");
    }

    #[test]
    fn recordings_decide_where_they_can_and_onnx_runtime_where_nothing_does() {
        let both = Verdict::Both;
        let (tract, onnxruntime) = (Verdict::Only(Tract), Verdict::Only(OnnxRuntime));
        for (agree, judged, expected) in [
            (Some(true), (None, None), both),
            (Some(true), (Some(true), Some(true)), both),
            (Some(true), (Some(true), Some(false)), tract),
            (Some(true), (Some(false), Some(false)), both),
            (Some(false), (None, None), onnxruntime),
            (Some(false), (Some(true), Some(false)), tract),
            (Some(false), (Some(false), Some(true)), onnxruntime),
            (Some(false), (Some(true), Some(true)), onnxruntime),
            (None, (None, None), onnxruntime),
            (None, (Some(true), Some(false)), tract),
        ] {
            assert_eq!(verdict(agree, judged.0, judged.1), expected, "{agree:?} {judged:?}");
        }
    }

    #[test]
    fn what_is_no_measurement_is_told_from_one() {
        assert!(is_sound(&times(&[(1, 1.0, 2.0), (2, 2.0, 1.8)])));
        for broken in
            [&[][..], &[(2, 1.0, 1.0)], &[(1, 0.0, 1.0)], &[(1, 1.0, f64::NAN)], &[(1, 1.0, 1.0), (1, 1.0, 1.0)]]
        {
            assert!(!is_sound(&times(broken)), "{broken:?}");
        }
    }
}
