//! Whether the settings of a log fit a model, and the columns that they make of it.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::field_notes::redaction_name;
use super::layout::{Column, Kind, Side, TensorLayout, is_float, is_number};
use super::names::Names;
use super::standard::{ERROR, KEY_HASH, REDACTABLE, REQUEST_ID, StandardRules, fields};
use crate::error::nearest;
use crate::hmac::hex;
use crate::prediction_log::settings::{LogSettings, Redaction, SampleBy};
use crate::signature::Signature;
use crate::tensor::DataType;

/// Why the settings of a log don't fit a model. The text is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("{key} names column '{column}', which the model's rows don't have{}: they have {}", nearest_text(nearest), known.join(", "))]
    UnknownColumn { key: &'static str, column: String, nearest: Option<String>, known: Vec<String> },
    #[error("features names input '{input}', which the model does not have{}", nearest_text(nearest))]
    UnknownInput { input: String, nearest: Option<String> },
    #[error("features.{input} has {got} names, and a row of that input has {expected} elements")]
    FeatureCount { input: String, expected: String, got: usize },
    #[error("log.redact.{column}: {rule} is for {expected}, and the column holds {got}")]
    Redaction { column: String, rule: &'static str, expected: &'static str, got: String },
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean '{name}'?)")).unwrap_or_default()
}

/// Columns that an error text names at most.
const MAX_KNOWN: usize = 40;

/// What a version's rows are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub inputs: Vec<TensorLayout>,
    pub outputs: Vec<TensorLayout>,
    /// Those of tensors, in a row's order.
    pub columns: Vec<Column>,
    /// By tensor, inputs and then outputs: the places of its columns.
    pub places: Vec<Range<usize>>,
    pub standard: StandardRules,
    /// Place of the column that sampling goes by; `None`: it goes by the key.
    pub sample_by: Option<usize>,
}

impl Plan {
    /// # Errors
    /// `RuleError` for settings that don't fit the signature.
    pub fn of(signature: &Signature, settings: &LogSettings) -> Result<Self, RuleError> {
        if let Some(input) = settings.features.keys().find(|input| signature.input(input).is_none()) {
            let nearest = nearest(input, signature.inputs.iter().map(|spec| spec.name.as_str()));
            return Err(RuleError::UnknownInput { input: input.clone(), nearest });
        }
        let (inputs, outputs) = TensorLayout::of(signature);
        let standard = fields();
        let mut names = Names::taken(standard.iter().map(|field| field.name().as_str()));
        let (mut columns, mut places) = (Vec::new(), Vec::new());
        for (side, layouts) in [(Side::Input, &inputs), (Side::Output, &outputs)] {
            for (tensor, layout) in layouts.iter().enumerate() {
                let features = settings.features.get(&layout.name).filter(|_| side == Side::Input);
                let place = Place { side, tensor, layout };
                let start = columns.len();
                match features {
                    Some(features) => place.features(features, &mut names, &mut columns)?,
                    None => columns.push(place.whole(settings.max_tensor_bytes, &mut names)),
                }
                places.push(start..columns.len());
            }
        }
        let mut plan = Self { inputs, outputs, columns, places, standard: StandardRules::default(), sample_by: None };
        for (column, rule) in &settings.redact {
            plan.redact(column, *rule)?;
        }
        if let SampleBy::Column(name) = &settings.sample_by {
            let place = plan.columns.iter().position(|column| column.name == *name);
            plan.sample_by = Some(place.ok_or_else(|| plan.unknown("log.sample.by", name, &[]))?);
        }
        Ok(plan)
    }

    fn redact(&mut self, name: &str, rule: Redaction) -> Result<(), RuleError> {
        let Some(place) = self.columns.iter().position(|column| column.name == name) else {
            return self.redact_standard(name, rule);
        };
        let column = &mut self.columns[place];
        let dtype = column.dtype;
        let expected = match rule {
            Redaction::Drop | Redaction::Hmac => None,
            Redaction::Round(decimals) if decimals >= 0 => (!is_float(dtype)).then_some("numbers with a fraction"),
            Redaction::Round(_) => (!is_number(dtype)).then_some("numbers"),
            Redaction::Mask { .. } => (is_float(dtype) || dtype == DataType::Bool).then_some("texts and whole numbers"),
        };
        if let Some(expected) = expected {
            let (column, rule) = (name.to_owned(), redaction_name(&rule));
            return Err(RuleError::Redaction { column, rule, expected, got: dtype.to_string() });
        }
        column.redaction = Some(rule);
        Ok(())
    }

    fn redact_standard(&mut self, name: &str, rule: Redaction) -> Result<(), RuleError> {
        let refused = |expected, got: &str| {
            let (column, rule) = (name.to_owned(), redaction_name(&rule));
            Err(RuleError::Redaction { column, rule, expected, got: got.to_owned() })
        };
        match (name, rule) {
            (REQUEST_ID, Redaction::Round(_)) => refused("numbers", "text"),
            (REQUEST_ID, _) => {
                self.standard.request_id = Some(rule);
                Ok(())
            }
            (KEY_HASH, Redaction::Drop) => {
                self.standard.drop_key_hash = true;
                Ok(())
            }
            (ERROR, Redaction::Drop) => {
                self.standard.drop_error = true;
                Ok(())
            }
            (KEY_HASH | ERROR, _) => refused("columns of tensors and request_id", "what can only be dropped"),
            _ => Err(self.unknown("log.redact", name, &REDACTABLE)),
        }
    }

    /// The fault of a setting that names no column of these.
    fn unknown(&self, key: &'static str, column: &str, standard: &[&str]) -> RuleError {
        let known = || self.columns.iter().map(|column| column.name.as_str()).chain(standard.iter().copied());
        RuleError::UnknownColumn {
            key,
            column: column.to_owned(),
            nearest: nearest(column, known()),
            known: known().take(MAX_KNOWN).map(str::to_owned).collect(),
        }
    }
}

/// The columns of a model's tensors, in a row's order.
///
/// # Errors
/// `RuleError` for settings that don't fit the signature.
pub fn columns(signature: &Signature, settings: &LogSettings) -> Result<Vec<Column>, RuleError> {
    Plan::of(signature, settings).map(|plan| plan.columns)
}

/// Checks settings without making anything of them.
///
/// # Errors
/// `RuleError` for the first thing that does not fit.
pub fn check(signature: &Signature, settings: &LogSettings) -> Result<(), RuleError> {
    Plan::of(signature, settings).map(|_| ())
}

/// A tensor whose columns are made.
struct Place<'a> {
    side: Side,
    tensor: usize,
    layout: &'a TensorLayout,
}

impl Place<'_> {
    fn whole(&self, max_tensor_bytes: usize, names: &mut Names) -> Column {
        let name = names.give(self.side.prefix(), &self.layout.name);
        self.column(name, None, self.layout.kind(max_tensor_bytes))
    }

    fn features(&self, features: &[String], names: &mut Names, columns: &mut Vec<Column>) -> Result<(), RuleError> {
        let count = self.layout.row_elements();
        if count != Some(features.len()) {
            let expected = count.map_or_else(|| "a varying number of".to_owned(), |count| count.to_string());
            let input = self.layout.name.clone();
            return Err(RuleError::FeatureCount { input, expected, got: features.len() });
        }
        columns.extend(features.iter().enumerate().map(|(element, feature)| {
            self.column(names.give(self.side.prefix(), feature), Some(element), Kind::Value)
        }));
        Ok(())
    }

    fn column(&self, name: String, feature: Option<usize>, kind: Kind) -> Column {
        Column {
            name,
            side: self.side,
            tensor: self.tensor,
            element: feature.unwrap_or(0),
            is_feature: feature.is_some(),
            kind,
            dtype: self.layout.dtype,
            redaction: None,
        }
    }
}

/// sha256 of the rules of sampling and redaction, hexadecimal: files with the same one were written by the same rules.
pub fn digest(settings: &LogSettings) -> String {
    let by = match &settings.sample_by {
        SampleBy::Key => "key".to_owned(),
        SampleBy::Column(column) => format!("column {column:?}"),
    };
    let mut text = format!("sample {} by {by}\nmax_tensor_bytes {}\n", settings.sample, settings.max_tensor_bytes);
    for (column, rule) in &settings.redact {
        let detail = match rule {
            Redaction::Drop | Redaction::Hmac => String::new(),
            Redaction::Round(decimals) => decimals.to_string(),
            Redaction::Mask { keep_last } => keep_last.to_string(),
        };
        text.push_str(&format!("redact {column:?} {} {detail}\n", redaction_name(rule)));
    }
    hex(&Sha256::digest(text))
}
