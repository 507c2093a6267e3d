//! The figures of each version and arm, and of each value of its segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::delays::{Delays, LabelDelay};
use super::label::Label;
use super::plan::Plan;
use super::record::Record;
use super::totals::{Figures, Totals};
use crate::prediction_log::settings::{MAX_SEGMENTS, Task};
use crate::routing::Arm;

/// Values of a segment that are told apart: the first that come; the rest are together.
pub const MAX_VALUES: usize = 50;
/// The rest.
pub const OTHER: &str = "other";

/// What one version has predicted in one arm.
#[derive(Debug)]
pub struct Group {
    pub model: String,
    pub version: u64,
    pub arm: Arm,
    pub plan: Arc<Plan>,
    pub totals: Totals,
    pub delays: Delays,
    segments: Vec<SegmentTotals>,
    /// Unix times in µs of the first and the last prediction that counts.
    pub since_us: i64,
    pub until_us: i64,
}

#[derive(Debug, Default)]
struct SegmentTotals {
    values: Vec<String>,
    /// Of each value; behind them, of the rest.
    totals: Vec<Totals>,
}

/// Realised quality of one version in one arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityReport {
    pub model: String,
    pub version: u64,
    pub arm: String,
    /// `classification`, `regression` or `click`.
    pub task: String,
    /// The output that is read, and the name of the feedback that it is held against.
    pub output: String,
    pub feedback: String,
    /// Unix times in ms of the first and the last prediction that counts.
    pub since_ms: i64,
    pub until_ms: i64,
    /// Predictions whose output could not be read.
    pub unreadable: u64,
    #[serde(flatten)]
    pub figures: Figures,
    /// How long labels take, by rising times.
    pub label_delay: Vec<LabelDelay>,
    /// Of each declared column and value.
    pub segments: Vec<SegmentReport>,
}

/// The same for those instances that have a value in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentReport {
    pub column: String,
    pub value: String,
    #[serde(flatten)]
    pub figures: Figures,
}

impl Group {
    fn new(model: &str, version: u64, arm: Arm, plan: Arc<Plan>) -> Self {
        let segments = plan.segments.iter().map(|_| SegmentTotals::default()).collect();
        let (since_us, until_us) = (i64::MAX, i64::MIN);
        let (totals, delays) = (Totals::default(), Delays::default());
        Self { model: model.to_owned(), version, arm, plan, totals, delays, segments, since_us, until_us }
    }

    /// The places of these values, each of which is remembered while there is room.
    pub fn places(&mut self, values: &[String]) -> [u8; MAX_SEGMENTS] {
        let mut places = [0; MAX_SEGMENTS];
        for (place, (segment, value)) in places.iter_mut().zip(self.segments.iter_mut().zip(values)) {
            *place = segment.place(value);
        }
        places
    }

    /// The totals that an instance counts in: of all, and of each of its segments.
    pub fn totals_of(&mut self, places: [u8; MAX_SEGMENTS]) -> impl Iterator<Item = &mut Totals> {
        let of_segments = self.segments.iter_mut().zip(places);
        let of_segments = of_segments.filter_map(|(segment, place)| segment.totals.get_mut(usize::from(place)));
        std::iter::once(&mut self.totals).chain(of_segments)
    }

    /// Puts a label into the figures, or takes it out.
    pub fn change(&mut self, record: &Record, label: Label, adds: bool) {
        let task = self.plan.settings.task;
        for totals in self.totals_of(record.segments) {
            match adds {
                true => totals.add(task, &record.prediction, label),
                false => totals.subtract(task, &record.prediction, label),
            }
        }
    }

    pub fn report(&self) -> QualityReport {
        let task = self.plan.settings.task;
        let columns = self.plan.segments.iter().map(|segment| &segment.column);
        let of_segment = |(column, segment): (&String, &SegmentTotals)| {
            let values = segment.values.iter().map(String::as_str).chain([OTHER]);
            let shown = values.zip(&segment.totals).filter(|(_, totals)| totals.predicted > 0);
            let report = |(value, totals): (&str, &Totals)| SegmentReport {
                column: column.clone(),
                value: value.to_owned(),
                figures: totals.figures(task),
            };
            shown.map(report).collect::<Vec<_>>()
        };
        QualityReport {
            model: self.model.clone(),
            version: self.version,
            arm: self.arm.name().to_owned(),
            task: task.name().to_owned(),
            output: self.plan.output_name.clone(),
            feedback: self.plan.settings.feedback.clone(),
            since_ms: self.since_us.div_euclid(1000),
            until_ms: self.until_us.div_euclid(1000),
            unreadable: self.totals.unreadable,
            figures: self.totals.figures(task),
            label_delay: self.delays.report(),
            segments: columns.zip(&self.segments).flat_map(of_segment).collect(),
        }
    }
}

impl Task {
    /// The word in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Regression => "regression",
            Self::Click => "click",
        }
    }
}

impl SegmentTotals {
    fn place(&mut self, value: &str) -> u8 {
        if self.totals.is_empty() {
            self.totals.push(Totals::default());
        }
        let place = match self.values.iter().position(|known| known == value) {
            Some(place) => place,
            None if self.values.len() < MAX_VALUES => {
                self.values.push(value.to_owned());
                // Those of the rest stay last, at a place that no record has yet.
                self.totals.insert(self.values.len() - 1, Totals::default());
                self.values.len() - 1
            }
            None => MAX_VALUES,
        };
        place as u8
    }
}

/// All groups. The one that was not added to for the longest time makes room.
#[derive(Debug)]
pub struct Groups {
    next: u32,
    by_number: BTreeMap<u32, Group>,
    /// By model, and by version and arm.
    numbers: BTreeMap<String, BTreeMap<(u64, u8), u32>>,
    max: usize,
}

impl Groups {
    pub fn new(max: usize) -> Self {
        Self { next: 0, by_number: BTreeMap::new(), numbers: BTreeMap::new(), max }
    }

    pub fn get(&self, number: u32) -> Option<&Group> {
        self.by_number.get(&number)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        self.by_number.get_mut(&number)
    }

    pub fn all(&self) -> impl Iterator<Item = &Group> {
        self.by_number.values()
    }

    /// Time passes.
    pub fn pass(&mut self, now_us: i64) {
        self.by_number.values_mut().for_each(|group| group.delays.pass(now_us));
    }

    /// The number of a version's group in an arm. Where its settings have changed it begins anew.
    pub fn number(&mut self, (model, version, arm): (&str, u64, Arm), plan: &Arc<Plan>) -> u32 {
        let key = (version, arm.number());
        let known = self.numbers.get(model).and_then(|numbers| numbers.get(&key)).copied();
        if let Some(number) = known {
            let is_same = |group: &Group| Arc::ptr_eq(&group.plan, plan) || group.plan == *plan;
            if self.by_number.get(&number).is_some_and(is_same) {
                return number;
            }
            self.by_number.remove(&number);
        }
        if self.by_number.len() >= self.max
            && let Some(oldest) = self.by_number.iter().min_by_key(|(_, group)| group.until_us).map(|(at, _)| *at)
        {
            self.by_number.remove(&oldest);
            self.numbers.values_mut().for_each(|numbers| numbers.retain(|_, number| *number != oldest));
            self.numbers.retain(|_, numbers| !numbers.is_empty());
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.by_number.insert(number, Group::new(model, version, arm, plan.clone()));
        self.numbers.entry(model.to_owned()).or_default().insert(key, number);
        number
    }
}
