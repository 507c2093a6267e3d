//! Where in a version's answers the prediction lies, and in its requests the segments: worked out once, when it is loaded.

use std::collections::BTreeMap;

use super::fit::{declared, expected, fits};
use super::outcome::{Class, Truth};
use crate::error::nearest;
use crate::prediction_log::columns::{Column, Kind, RuleError, Side, columns, is_float};
use crate::prediction_log::feedback::Value;
use crate::prediction_log::settings::{Exposure, LogSettings, MAX_SEGMENTS, QualitySettings, Task};
use crate::signature::{Signature, TensorSpec};

/// How a version's predictions are read and held against feedback.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub settings: QualitySettings,
    /// Place and name of the output that is read.
    pub output: usize,
    pub output_name: String,
    /// Its column in the log's rows; `None` where these don't have what it said.
    pub output_column: Option<String>,
    /// Along which its rows lie; `None` where a request is one row, or all rows share it.
    pub axis: Option<usize>,
    /// Names of its classes; empty where the settings have none.
    pub classes: Vec<String>,
    /// At most [`MAX_SEGMENTS`].
    pub segments: Vec<Segment>,
}

/// A column by whose values quality is shown apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// As the log's rows have it: `in_age`.
    pub column: String,
    pub input: usize,
    pub axis: Option<usize>,
    /// Place within the row.
    pub element: usize,
}

/// Why the settings `quality` don't fit a model. The text is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("quality.output names output '{output}', which the model does not have{}: it has {}", did_you_mean(nearest), known.join(", "))]
    UnknownOutput { output: String, nearest: Option<String>, known: Vec<String> },
    #[error("quality.output: expected {expected}, and no output of the model can be that: it has {}", known.join(", "))]
    NoOutput { expected: &'static str, known: Vec<String> },
    /// Each prediction would be counted as one that can't be read.
    #[error("quality.output: expected {expected}, got output '{output}' of {got}")]
    Output { output: String, expected: &'static str, got: String },
    #[error(
        "quality.segments names column '{column}', which the model's rows don't have as a plain column{}: they have {}",
        did_you_mean(nearest),
        plain_text(known)
    )]
    UnknownSegment { column: String, nearest: Option<String>, known: Vec<String> },
    #[error("quality.segments names column '{column}', which log.redact keeps from being shown")]
    RedactedSegment { column: String },
    #[error(transparent)]
    Rules(#[from] RuleError),
    #[error("quality.segments has {got} columns, at most {MAX_SEGMENTS} are possible")]
    TooManySegments { got: usize },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean '{name}'?)")).unwrap_or_default()
}

/// Columns that a message names at most.
const MAX_KNOWN: usize = 40;

fn plain_text(known: &[String]) -> String {
    match known {
        [] => "none (features names the elements of an input, each of which becomes one)".to_owned(),
        known => known.iter().take(MAX_KNOWN).map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

impl Plan {
    /// `class_labels`: of the model's settings, by output.
    ///
    /// # Errors
    /// `PlanError` where the settings name what the model does not have.
    pub fn new(
        signature: &Signature,
        settings: &QualitySettings,
        log: &LogSettings,
        class_labels: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, PlanError> {
        let output = output(signature, settings, class_labels)?;
        let name = signature.outputs[output].name.clone();
        let axes = signature.batch_axes();
        let columns = columns(signature, log)?;
        let column = columns.iter().find(|column| column.side == Side::Output && column.tensor == output);
        Ok(Self {
            settings: settings.clone(),
            output,
            axis: axes.and_then(|axes| axes.outputs[output]),
            classes: class_labels.get(&name).cloned().unwrap_or_default(),
            segments: segments(signature, settings, &columns)?,
            // Rounded values would give other figures than the real ones did.
            output_column: column.filter(|column| column.redaction.is_none()).map(|column| column.name.clone()),
            output_name: name,
        })
    }

    /// What was told, as the task understands it.
    pub fn truth(&self, value: &Value) -> Option<Truth> {
        Truth::told(self.settings.task, &self.classes, value)
    }

    /// Without positive feedback for so long after a prediction was shown it is negative, in µs; regression has no
    /// negative.
    pub fn negative_after_us(&self) -> Option<i64> {
        let after = self.settings.negative_after.filter(|_| self.settings.task != Task::Regression)?;
        Some(i64::try_from(after.as_micros()).unwrap_or(i64::MAX))
    }

    /// What is true of a prediction about which nothing was told in time.
    pub fn negative(&self) -> Truth {
        Truth::Class(Class::NEGATIVE)
    }

    /// Name of the feedback that says that a prediction was shown; `None` where each one is.
    pub fn exposure(&self) -> Option<&str> {
        match &self.settings.exposure {
            Exposure::Assumed => None,
            Exposure::Feedback(name) => Some(name),
        }
    }
}

/// The output that was named, or the first of those that fit: of a classification the one with class names, else a matrix
/// of floats; else floats, else whatever fits.
fn output(
    signature: &Signature,
    settings: &QualitySettings,
    class_labels: &BTreeMap<String, Vec<String>>,
) -> Result<usize, PlanError> {
    let (outputs, task) = (&signature.outputs, settings.task);
    let axes = signature.batch_axes();
    let can_be = |at: usize| fits(task, &outputs[at], axes.and_then(|axes| axes.outputs[at]));
    let named = |at: usize| format!("'{}' of {}", outputs[at].name, declared(&outputs[at]));
    if let Some(output) = &settings.output {
        let Some(at) = outputs.iter().position(|spec| spec.name == *output) else {
            let nearest = nearest(output, outputs.iter().map(|spec| spec.name.as_str()));
            let known = outputs.iter().map(|spec| spec.name.clone()).collect();
            return Err(PlanError::UnknownOutput { output: output.clone(), nearest, known });
        };
        let refused =
            || PlanError::Output { output: output.clone(), expected: expected(task), got: declared(&outputs[at]) };
        return can_be(at).then_some(at).ok_or_else(refused);
    }
    let is_classification = task == Task::Classification;
    let is_named = |spec: &TensorSpec| is_classification && class_labels.contains_key(&spec.name);
    let is_matrix = |spec: &TensorSpec| {
        is_classification && is_float(spec.dtype) && spec.dims.as_ref().is_some_and(|dims| dims.len() > 1)
    };
    let find =
        |is_wanted: &dyn Fn(&TensorSpec) -> bool| (0..outputs.len()).find(|at| can_be(*at) && is_wanted(&outputs[*at]));
    find(&is_named)
        .or_else(|| find(&is_matrix))
        .or_else(|| find(&|spec| is_float(spec.dtype)))
        .or_else(|| find(&|_| true))
        .ok_or_else(|| PlanError::NoOutput { expected: expected(task), known: (0..outputs.len()).map(named).collect() })
}

fn segments(signature: &Signature, settings: &QualitySettings, columns: &[Column]) -> Result<Vec<Segment>, PlanError> {
    if settings.segments.len() > MAX_SEGMENTS {
        return Err(PlanError::TooManySegments { got: settings.segments.len() });
    }
    let plain = || columns.iter().filter(|column| column.side == Side::Input && column.kind == Kind::Value);
    let axes = signature.batch_axes();
    let find = |name: &String| {
        let Some(column) = plain().find(|column| column.name == *name) else {
            let known: Vec<String> = plain().map(|column| column.name.clone()).collect();
            let nearest = nearest(name, known.iter().map(String::as_str));
            return Err(PlanError::UnknownSegment { column: name.clone(), nearest, known });
        };
        if column.redaction.is_some() {
            return Err(PlanError::RedactedSegment { column: name.clone() });
        }
        let (input, element) = (column.tensor, column.element);
        Ok(Segment { column: name.clone(), input, axis: axes.and_then(|axes| axes.inputs[input]), element })
    };
    settings.segments.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::signature::{BatchAxes, Batching, Dim};
    use crate::tensor::DataType;

    fn spec(name: &str, dtype: DataType, row: &[usize]) -> TensorSpec {
        let dims = std::iter::once(Dim::Named("N".into())).chain(row.iter().map(|size| Dim::Fixed(*size)));
        TensorSpec { name: name.into(), dtype, dims: Some(dims.collect()), classes: vec![] }
    }

    /// As scikit-learn's classifiers have it, with a price beside.
    fn signature() -> Signature {
        Signature {
            inputs: vec![
                spec("X", DataType::Fp32, &[3]),
                spec("re gion", DataType::Bytes, &[1]),
                spec("age", DataType::Int64, &[]),
                spec("image", DataType::Fp32, &[8, 8]),
            ],
            outputs: vec![
                spec("output_label", DataType::Int64, &[]),
                spec("probabilities", DataType::Fp32, &[3]),
                spec("price", DataType::Fp64, &[1]),
                spec("note", DataType::Bytes, &[]),
            ],
            batching: Batching::Proven(BatchAxes { inputs: vec![Some(0); 4], outputs: vec![Some(0); 4] }),
        }
    }

    fn plan(settings: &QualitySettings, log: &LogSettings) -> Result<Plan, PlanError> {
        Plan::new(&signature(), settings, log, &BTreeMap::new())
    }

    #[test]
    fn the_output_is_the_one_named_or_the_first_that_fits() {
        let log = LogSettings::default();
        let of = |task, output: Option<&str>| {
            let settings = QualitySettings { output: output.map(str::to_owned), ..QualitySettings::of(task) };
            plan(&settings, &log).map(|plan| plan.output_name)
        };
        assert_eq!(of(Task::Classification, None).unwrap(), "probabilities");
        assert_eq!(of(Task::Regression, Some("price")).unwrap(), "price");
        assert_eq!(of(Task::Regression, None).unwrap(), "price", "probabilities are several numbers");
        assert_eq!(of(Task::Classification, Some("note")).unwrap(), "note");
        let error = of(Task::Regression, Some("prise")).unwrap_err().to_string();
        assert!(error.contains("'prise'") && error.contains("did you mean 'price'"), "{error}");
        let error = of(Task::Click, Some("note")).unwrap_err().to_string();
        let expected = "one score, or the probabilities of no and yes, for each row";
        assert_eq!(error, format!("quality.output: expected {expected}, got output 'note' of BYTES [-1]"));
        for task in [Task::Regression, Task::Click] {
            let error = of(task, Some("probabilities")).unwrap_err().to_string();
            assert!(error.contains("got output 'probabilities' of FP32 [-1,3]"), "{error}");
        }
        let labels = [("output_label".to_owned(), vec!["a".to_owned()])].into();
        let named = Plan::new(&signature(), &QualitySettings::of(Task::Classification), &log, &labels).unwrap();
        assert_eq!((named.output, named.classes), (0, vec!["a".to_owned()]));
    }

    #[test]
    fn a_model_without_an_output_that_fits_is_refused() {
        let mut signature = signature();
        signature.outputs.retain(|spec| ["probabilities", "note"].contains(&spec.name.as_str()));
        let log = LogSettings::default();
        let error = Plan::new(&signature, &QualitySettings::of(Task::Regression), &log, &BTreeMap::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "quality.output: expected one number for each row, and no output of the model can be that: \
             it has 'probabilities' of FP32 [-1,3], 'note' of BYTES [-1]"
        );
    }

    #[test]
    fn a_model_without_plain_columns_says_so() {
        let mut signature = signature();
        signature.inputs.retain(|spec| spec.name == "image");
        let asked = QualitySettings { segments: vec!["in_X".into()], ..QualitySettings::of(Task::Classification) };
        let error = Plan::new(&signature, &asked, &LogSettings::default(), &BTreeMap::new()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "quality.segments names column 'in_X', which the model's rows don't have as a plain column: they have none \
             (features names the elements of an input, each of which becomes one)"
        );
    }

    #[test]
    fn segments_are_columns_of_one_element() {
        let features = ["sepal length", "b", "c"].map(str::to_owned).to_vec();
        let log = LogSettings { features: [("X".to_owned(), features)].into(), ..LogSettings::default() };
        let with = |columns: &[&str]| QualitySettings {
            segments: columns.iter().map(|column| (*column).to_owned()).collect(),
            ..QualitySettings::of(Task::Regression)
        };
        let found = plan(&with(&["in_c", "in_re_gion", "in_age"]), &log).unwrap().segments;
        assert_eq!(found.iter().map(|of| (of.input, of.element)).collect::<Vec<_>>(), [(0, 2), (1, 0), (2, 0)]);
        assert!(plan(&with(&["in_sepal_length"]), &log).is_ok());
        let error = plan(&with(&["in_image"]), &log).unwrap_err().to_string();
        assert!(error.contains("'in_image'") && error.contains("in_re_gion, in_age"), "{error}");
        let error = plan(&with(&["in_b"; 4]), &log).unwrap_err();
        assert_eq!(error, PlanError::TooManySegments { got: 4 });
        let log = LogSettings {
            redact: [("in_b".to_owned(), crate::prediction_log::settings::Redaction::Hmac)].into(),
            ..log
        };
        assert_eq!(plan(&with(&["in_b"]), &log).unwrap_err(), PlanError::RedactedSegment { column: "in_b".into() });
    }

    #[test]
    fn only_what_can_be_negative_becomes_it() {
        let after = |task| {
            let settings =
                QualitySettings { negative_after: Some(Duration::from_secs(2)), ..QualitySettings::of(task) };
            plan(&settings, &LogSettings::default()).unwrap().negative_after_us()
        };
        assert_eq!((after(Task::Click), after(Task::Regression)), (Some(2_000_000), None));
    }
}
