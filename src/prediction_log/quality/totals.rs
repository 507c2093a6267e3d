//! The figures of quality, and the sums behind them: whatever was added can be taken away again.

use serde::{Deserialize, Serialize};

use super::exact_sum::ExactSum;
use super::label::{Label, Weight, WeightSum};
use super::outcome::{Class, Prediction, Truth};
use super::ranks::Ranks;
use crate::prediction_log::settings::Task;

/// A probability counts as at least this and at most 1 less this in the log loss.
pub const LEAST_PROBABILITY: f64 = 1e-15;
/// An error beyond this counts as this, so that its square is a number.
const MOST_ERROR: f64 = 1e150;

/// What was predicted in a group of instances, and what turned out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Instances that were answered.
    pub predicted: u64,
    /// Of these, whose answer can't be read as the task's: of another size than it should be.
    pub unreadable: u64,
    /// Of these, known to have been shown; all where that is assumed.
    pub exposed: u64,
    labelled: u64,
    /// From here on by the labels' weights.
    weight: WeightSum,
    correct: WeightSum,
    positive: WeightSum,
    /// Labelled ones with probabilities, and the sums over these.
    scored: WeightSum,
    log_loss: ExactSum,
    brier: ExactSum,
    ranks: Ranks,
    /// Labelled ones with a number, and the sums over these.
    measured: WeightSum,
    absolute: ExactSum,
    squared: ExactSum,
}

/// Quality in figures. What a task doesn't have, and what nothing is known of yet, is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Instances that were answered, shown, and have a label.
    pub predicted: u64,
    pub exposed: u64,
    pub labelled: u64,
    /// Labelled of those shown: how much of the truth is in.
    pub labelled_ratio: Option<f64>,
    /// Sum of the labels' weights, by which all that follows is weighted; `labelled` where none has another than 1.
    pub label_weight: f64,
    /// Share of the labelled whose class was predicted.
    pub accuracy: Option<f64>,
    /// Mean of -ln p of the true class, p within [[`LEAST_PROBABILITY`], 1 - it].
    pub log_loss: Option<f64>,
    /// Mean of (p - y)² of the positive class (G. Brier, 1950); of more than two classes the sum over them.
    pub brier: Option<f64>,
    /// Area under the ROC curve, of two classes and clicks; it may be off by `auc_error`.
    pub auc: Option<f64>,
    pub auc_error: Option<f64>,
    /// Mean absolute error, and the root of the mean squared error.
    pub mae: Option<f64>,
    pub rmse: Option<f64>,
    /// Share of the labelled that were clicked.
    pub click_rate: Option<f64>,
}

impl Totals {
    /// A label came for an instance.
    pub fn add(&mut self, task: Task, prediction: &Prediction, label: impl Into<Label>) {
        self.change(task, prediction, label.into(), true);
    }

    /// Takes away what [`Totals::add`] was told in the same words.
    pub fn subtract(&mut self, task: Task, prediction: &Prediction, label: impl Into<Label>) {
        self.change(task, prediction, label.into(), false);
    }

    fn change(&mut self, task: Task, prediction: &Prediction, Label { truth, weight }: Label, adds: bool) {
        self.labelled = if adds { self.labelled.saturating_add(1) } else { self.labelled.saturating_sub(1) };
        self.weight.change(weight, adds);
        match truth {
            Truth::Class(class) => {
                if task == Task::Classification && prediction.class == Some(class) {
                    self.correct.change(weight, adds);
                }
                if class == Class::POSITIVE {
                    self.positive.change(weight, adds);
                }
                self.change_scores(prediction, class, weight, adds);
            }
            Truth::Number(number) => {
                let error = (prediction.score - number).abs();
                if !error.is_nan() {
                    let error = error.min(MOST_ERROR);
                    self.measured.change(weight, adds);
                    change(&mut self.absolute, weight.value() * error, adds);
                    change(&mut self.squared, weight.value() * (error * error), adds);
                }
            }
        }
    }

    fn change_scores(&mut self, prediction: &Prediction, class: Class, weight: Weight, adds: bool) {
        let (of_truth, brier) = match &prediction.probabilities {
            Some(all) => {
                let of_truth = class.place().and_then(|place| all.get(place)).map_or(0.0, |p| f64::from(*p));
                let squares: f64 = all.iter().map(|p| f64::from(*p) * f64::from(*p)).sum();
                (of_truth, squares - 2.0 * of_truth + 1.0)
            }
            None if (0.0..=1.0).contains(&prediction.score) => {
                let is_positive = class == Class::POSITIVE;
                let off = prediction.score - f64::from(u8::from(is_positive));
                self.ranks.change(prediction.score, is_positive, weight, adds);
                let of_truth = match class {
                    Class::POSITIVE => prediction.score,
                    Class::NEGATIVE => 1.0 - prediction.score,
                    _ => 0.0,
                };
                (of_truth, off * off)
            }
            None => return,
        };
        self.scored.change(weight, adds);
        let of_truth = of_truth.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY);
        change(&mut self.log_loss, weight.value() * -of_truth.ln(), adds);
        change(&mut self.brier, weight.value() * brier, adds);
    }

    /// What it comes to.
    pub fn figures(&self, task: Task) -> Figures {
        let mean = |sum: &ExactSum, of: WeightSum| (of.value() > 0.0).then(|| sum.value() / of.value());
        let area = self.ranks.area();
        Figures {
            predicted: self.predicted,
            exposed: self.exposed,
            labelled: self.labelled,
            labelled_ratio: (self.exposed > 0).then(|| self.labelled as f64 / self.exposed as f64),
            label_weight: self.weight.value(),
            accuracy: self.correct.share_of(self.weight).filter(|_| task == Task::Classification),
            log_loss: mean(&self.log_loss, self.scored),
            brier: mean(&self.brier, self.scored),
            auc: area.map(|area| area.estimate),
            auc_error: area.map(|area| area.error),
            mae: mean(&self.absolute, self.measured),
            rmse: mean(&self.squared, self.measured).map(f64::sqrt),
            click_rate: self.positive.share_of(self.weight).filter(|_| task == Task::Click),
        }
    }
}

fn change(sum: &mut ExactSum, term: f64, adds: bool) {
    if adds {
        sum.add(term);
    } else {
        sum.subtract(term);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// Computed by scikit-learn: `tests/reference/quality.py` says how.
    const REFERENCE: &str = include_str!("../../../tests/reference/quality.json");

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    fn assert_near(got: Option<f64>, case: &Value, key: &str) {
        let expected = case[key].as_f64().unwrap();
        let got = got.unwrap_or_else(|| panic!("no {key}: {}", case["name"]));
        assert!((got - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{}: {key} {got} {expected}", case["name"]);
    }

    fn cases(kind: &str) -> Vec<Value> {
        let table: Value = serde_json::from_str(REFERENCE).unwrap();
        let cases = table[kind].as_array().unwrap().clone();
        assert!(cases.len() >= 3, "{kind}");
        cases
    }

    #[test]
    fn two_classes_have_the_figures_of_scikit_learn() {
        for case in cases("binary") {
            for task in [Task::Classification, Task::Click] {
                let mut totals = Totals::default();
                for (score, label) in numbers(&case["scores"]).into_iter().zip(numbers(&case["labels"])) {
                    let class = Some(if score >= 0.5 { Class::POSITIVE } else { Class::NEGATIVE });
                    let prediction = Prediction { class, score, probabilities: None };
                    totals.add(task, &prediction, Truth::Class(Class::of_number(&[], label)));
                }
                let figures = totals.figures(task);
                match task {
                    Task::Click => assert_near(figures.click_rate, &case, "positive_rate"),
                    _ => assert_near(figures.accuracy, &case, "accuracy"),
                }
                assert_near(figures.log_loss, &case, "log_loss");
                assert_near(figures.brier, &case, "brier");
                let (auc, error) = (figures.auc.unwrap(), figures.auc_error.unwrap());
                let off = (auc - case["auc"].as_f64().unwrap()).abs();
                assert!(off <= error + 1e-12, "{}: off by {off} of {error}", case["name"]);
                // A handful of scores may share a bin.
                assert!(error < 0.02 || figures.labelled < 100, "{}: {error}", case["name"]);
            }
        }
    }

    #[test]
    fn many_classes_have_the_figures_of_scikit_learn() {
        for case in cases("multiclass") {
            let mut totals = Totals::default();
            for (row, label) in case["probabilities"].as_array().unwrap().iter().zip(numbers(&case["labels"])) {
                let row: Box<[f32]> = numbers(row).into_iter().map(|p| p as f32).collect();
                let top = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).map(Class::at);
                let prediction = Prediction { class: top, score: f64::NAN, probabilities: Some(row) };
                totals.add(Task::Classification, &prediction, Truth::Class(Class::of_number(&[], label)));
            }
            let figures = totals.figures(Task::Classification);
            assert_near(figures.accuracy, &case, "accuracy");
            assert_near(figures.log_loss, &case, "log_loss");
            assert_near(figures.brier, &case, "brier");
            assert_eq!((figures.auc, figures.mae, figures.click_rate), (None, None, None));
        }
    }

    #[test]
    fn numbers_have_the_errors_of_scikit_learn() {
        for case in cases("regression") {
            let mut totals = Totals::default();
            for (score, truth) in numbers(&case["predicted"]).into_iter().zip(numbers(&case["truth"])) {
                let prediction = Prediction { class: None, score, probabilities: None };
                totals.add(Task::Regression, &prediction, Truth::Number(truth));
            }
            let figures = totals.figures(Task::Regression);
            assert_near(figures.mae, &case, "mae");
            assert_near(figures.rmse, &case, "rmse");
            assert_eq!((figures.accuracy, figures.log_loss), (None, None));
        }
    }

    #[test]
    fn weighted_labels_have_the_figures_of_scikit_learn() {
        for case in cases("weighted_binary") {
            for task in [Task::Classification, Task::Click] {
                let mut totals = Totals::default();
                let labels = numbers(&case["labels"]).into_iter().zip(numbers(&case["weights"]));
                for (score, (label, weight)) in numbers(&case["scores"]).into_iter().zip(labels) {
                    let class = Some(if score >= 0.5 { Class::POSITIVE } else { Class::NEGATIVE });
                    let truth = Truth::Class(Class::of_number(&[], label));
                    let prediction = Prediction { class, score, probabilities: None };
                    totals.add(task, &prediction, Label { truth, weight: Weight::of(Some(weight)) });
                }
                let figures = totals.figures(task);
                match task {
                    Task::Click => assert_near(figures.click_rate, &case, "positive_rate"),
                    _ => assert_near(figures.accuracy, &case, "accuracy"),
                }
                assert_near(figures.log_loss, &case, "log_loss");
                assert_near(figures.brier, &case, "brier");
                let off = (figures.auc.unwrap() - case["auc"].as_f64().unwrap()).abs();
                assert!(off <= figures.auc_error.unwrap() + 1e-12, "{}: off by {off}", case["name"]);
            }
        }
        for case in cases("weighted_regression") {
            let mut totals = Totals::default();
            let truths = numbers(&case["truth"]).into_iter().zip(numbers(&case["weights"]));
            for (score, (truth, weight)) in numbers(&case["predicted"]).into_iter().zip(truths) {
                let prediction = Prediction { class: None, score, probabilities: None };
                let label = Label { truth: Truth::Number(truth), weight: Weight::of(Some(weight)) };
                totals.add(Task::Regression, &prediction, label);
            }
            let figures = totals.figures(Task::Regression);
            assert_near(figures.mae, &case, "mae");
            assert_near(figures.rmse, &case, "rmse");
        }
    }

    fn any_outcome() -> impl Strategy<Value = (Prediction, Label)> {
        let class = prop::option::of((0usize..4).prop_map(Class::at));
        let vector = prop::option::of(prop::collection::vec(0f32..1.0, 3..5).prop_map(Vec::into_boxed_slice));
        let score = prop_oneof![0.0..1.0f64, prop::num::f64::ANY];
        let truth = prop_oneof![
            (0usize..4).prop_map(|place| Truth::Class(Class::at(place))),
            prop::num::f64::NORMAL.prop_map(Truth::Number),
        ];
        let prediction =
            (class, score, vector).prop_map(|(class, score, probabilities)| Prediction { class, score, probabilities });
        let weight = prop_oneof![Just(Weight::ONE), (0.0..5.0f64).prop_map(|weight| Weight::of(Some(weight)))];
        (prediction, (truth, weight).prop_map(|(truth, weight)| Label { truth, weight }))
    }

    fn any_task() -> impl Strategy<Value = Task> {
        prop_oneof![Just(Task::Classification), Just(Task::Regression), Just(Task::Click)]
    }

    fn near(one: Option<f64>, other: Option<f64>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => one == other || (one - other).abs() <= 1e-9 * one.abs().max(1e-9),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    proptest! {
        #[test]
        fn a_label_of_weight_n_counts_as_n_labels(
            task in any_task(),
            outcomes in prop::collection::vec((any_outcome(), 0u8..4), 1..20),
        ) {
            let (mut weighted, mut repeated) = (Totals::default(), Totals::default());
            for ((prediction, Label { truth, .. }), times) in &outcomes {
                let weight = Weight::of(Some(f64::from(*times)));
                weighted.add(task, prediction, Label { truth: *truth, weight });
                (0..*times).for_each(|_| repeated.add(task, prediction, *truth));
            }
            let (weighted, repeated) = (weighted.figures(task), repeated.figures(task));
            prop_assert_eq!(weighted.labelled, outcomes.len() as u64);
            prop_assert_eq!(weighted.label_weight, repeated.labelled as f64);
            let all = |of: &Figures| {
                [of.accuracy, of.log_loss, of.brier, of.auc, of.auc_error, of.mae, of.rmse, of.click_rate]
            };
            for (one, other) in all(&weighted).into_iter().zip(all(&repeated)) {
                prop_assert!(near(one, other), "{weighted:?}\n{repeated:?}");
            }
        }

        #[test]
        fn what_was_added_and_taken_away_leaves_nothing_and_order_does_not_matter(
            task in any_task(),
            outcomes in prop::collection::vec(any_outcome(), 1..30),
            turn in any::<prop::sample::Index>(),
        ) {
            let (mut totals, mut turned) = (Totals::default(), Totals::default());
            let at = turn.index(outcomes.len());
            for (prediction, truth) in &outcomes {
                totals.add(task, prediction, *truth);
            }
            for (prediction, truth) in outcomes[at..].iter().chain(&outcomes[..at]).rev() {
                turned.add(task, prediction, *truth);
            }
            prop_assert_eq!(&totals, &turned);
            for (prediction, truth) in &outcomes {
                totals.subtract(task, prediction, *truth);
            }
            prop_assert_eq!(totals, Totals::default());
        }
    }
}
