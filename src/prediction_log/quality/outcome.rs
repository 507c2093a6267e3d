//! What a model said of one instance, what turned out, and whether the two agree.

use xxhash_rust::xxh3::xxh3_64;

use crate::prediction_log::feedback::Value;
use crate::prediction_log::settings::Task;

/// A class by its place in the model's list, or by a mark made of its name where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u32);

/// Set in a mark; places lie below. Two names of 31 bits' hash are taken for one with a probability of 5e-10.
const MARK: u32 = 1 << 31;

impl Class {
    /// What did not happen: not clicked, not fraud.
    pub const NEGATIVE: Self = Self(0);
    /// What did.
    pub const POSITIVE: Self = Self(1);

    /// By its place, from 0.
    pub fn at(place: usize) -> Self {
        Self(u32::try_from(place).unwrap_or(MARK).min(MARK - 1))
    }

    /// By its name: the class of that name, else the class of that place, else one that no other name means.
    pub fn named(names: &[String], text: &str) -> Self {
        match names.iter().position(|name| name == text) {
            Some(place) => Self::at(place),
            None => text.parse().map_or_else(|_| Self(MARK | xxh3_64(text.as_bytes()) as u32), Self::numbered),
        }
    }

    /// By a number: the class whose name it is, where names are numbers; else the class of that place.
    pub fn of_number(names: &[String], number: f64) -> Self {
        let is_its_name = |name: &String| name.parse::<f64>().is_ok_and(|named| named == number);
        names.iter().position(is_its_name).map_or_else(|| Self::numbered(number), Self::at)
    }

    fn numbered(number: f64) -> Self {
        if number >= 0.0 && number < f64::from(MARK) && number.fract() == 0.0 {
            Self(number as u32)
        } else {
            Self(MARK | xxh3_64(&number.to_bits().to_le_bytes()) as u32)
        }
    }

    /// Its place, if it has one.
    pub fn place(self) -> Option<usize> {
        (self.0 < MARK).then_some(self.0 as usize)
    }
}

/// What a model said of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// `None` where none stood out, such as among numbers that are not finite, and where there are no classes.
    pub class: Option<Class>,
    /// Probability of [`Class::POSITIVE`], or the number that was predicted; NaN where there is none.
    pub score: f64,
    /// Of every class, where there are more than two and at most [`MAX_CLASSES`].
    pub probabilities: Option<Box<[f32]>>,
}

/// Most classes whose probabilities are kept, so that a label can be held against its own.
pub const MAX_CLASSES: usize = 64;

/// What turned out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truth {
    Class(Class),
    Number(f64),
}

impl Truth {
    /// What was told, as the task understands it; `None` for what says nothing: a word for a number, a number that is not
    /// finite. Of a click any number above 0 is a yes, and `true`, `yes`, `1` or `click`.
    pub fn told(task: Task, names: &[String], value: &Value) -> Option<Self> {
        match (task, value) {
            (_, Value::Number(number)) if !number.is_finite() => None,
            (Task::Classification, Value::Number(number)) => Some(Self::Class(Class::of_number(names, *number))),
            (Task::Classification, Value::Label(text)) => Some(Self::Class(Class::named(names, text))),
            (Task::Regression, Value::Number(number)) => Some(Self::Number(*number)),
            (Task::Regression, Value::Label(text)) => {
                text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Number)
            }
            (Task::Click, Value::Number(number)) => Some(Self::of_yes(*number > 0.0)),
            (Task::Click, Value::Label(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" | "click" | "clicked" => Some(Self::of_yes(true)),
                "false" | "no" | "0" | "none" => Some(Self::of_yes(false)),
                _ => None,
            },
        }
    }

    fn of_yes(yes: bool) -> Self {
        Self::Class(if yes { Class::POSITIVE } else { Class::NEGATIVE })
    }

    /// Orders two that were told at the same time, so that the order in which they come does not matter.
    pub fn rank(self) -> (u8, u64) {
        match self {
            Self::Class(class) => (0, class.0.into()),
            Self::Number(number) => (1, number.to_bits()),
        }
    }
}

/// Whether a prediction was a bad one: another class; an absolute error above `tolerance`, or no number at all; shown and
/// not clicked. `None` where that can't be said.
pub fn is_wrong(task: Task, tolerance: Option<f64>, prediction: &Prediction, truth: Truth) -> Option<bool> {
    match (task, truth) {
        (Task::Classification, Truth::Class(class)) => Some(prediction.class != Some(class)),
        (Task::Regression, Truth::Number(number)) => {
            let is_near = |tolerance| (prediction.score - number).abs() <= tolerance;
            tolerance.map(|tolerance| !is_near(tolerance))
        }
        (Task::Click, Truth::Class(class)) => Some(class != Class::POSITIVE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_label_is_a_class_by_its_name_or_by_its_place() {
        let digits = names(&["zero", "one", "two"]);
        let label = |text: &str| Truth::told(Task::Classification, &digits, &Value::Label(text.into())).unwrap();
        let number = |number| Truth::told(Task::Classification, &digits, &Value::Number(number)).unwrap();
        for same in [label("one"), label("1"), number(1.0)] {
            assert_eq!(same, Truth::Class(Class::at(1)));
        }
        assert_eq!(label("ten"), label("ten"), "a name that the model does not have");
        assert_ne!(label("ten"), label("eleven"));
        assert_eq!(number(-1.0), label("-1"));
        assert_eq!(Class::of_number(&digits, 1.5).place(), None);
    }

    #[test]
    fn a_number_is_a_name_where_names_are_numbers() {
        let years = names(&["3", "5", "7"]);
        assert_eq!(Class::of_number(&years, 5.0), Class::at(1));
        assert_eq!(Class::named(&years, "5"), Class::at(1));
        assert_eq!(Class::of_number(&years, 2.0), Class::at(2), "no name: a place");
    }

    #[test]
    fn what_says_nothing_is_no_truth() {
        let told = |task, value: Value| Truth::told(task, &[], &value);
        assert_eq!(told(Task::Regression, Value::Label("high".into())), None);
        assert_eq!(told(Task::Regression, Value::Label("1.5".into())), Some(Truth::Number(1.5)));
        assert_eq!(told(Task::Regression, Value::Number(f64::NAN)), None);
        assert_eq!(told(Task::Click, Value::Label("maybe".into())), None);
        assert_eq!(told(Task::Click, Value::Number(3.0)), Some(Truth::Class(Class::POSITIVE)));
        assert_eq!(told(Task::Click, Value::Label("No".into())), Some(Truth::Class(Class::NEGATIVE)));
    }

    #[test]
    fn a_prediction_is_bad_by_the_rule_of_its_task() {
        let of = |class, score| Prediction { class, score, probabilities: None };
        let wrong = |task, prediction: &Prediction, truth| is_wrong(task, Some(0.5), prediction, truth);
        let (yes, no) = (Truth::Class(Class::POSITIVE), Truth::Class(Class::NEGATIVE));
        assert_eq!(wrong(Task::Classification, &of(Some(Class::POSITIVE), 0.9), yes), Some(false));
        assert_eq!(wrong(Task::Classification, &of(Some(Class::POSITIVE), 0.9), no), Some(true));
        assert_eq!(wrong(Task::Classification, &of(None, f64::NAN), no), Some(true));
        assert_eq!(wrong(Task::Regression, &of(None, 1.0), Truth::Number(1.5)), Some(false));
        assert_eq!(wrong(Task::Regression, &of(None, f64::NAN), Truth::Number(1.5)), Some(true));
        assert_eq!(is_wrong(Task::Regression, None, &of(None, 1.0), Truth::Number(9.0)), None);
        assert_eq!(wrong(Task::Click, &of(None, 0.9), no), Some(true));
        assert_eq!(wrong(Task::Click, &of(None, 0.1), yes), Some(false));
    }
}
