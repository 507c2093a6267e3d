//! `headgate log export`: a training set with its manifest.

use std::io::Write;
use std::path::PathBuf;

use super::directory::LogArgs;
use super::moment;
use super::query::Rows;
use crate::cli::failure::Failure;
use crate::cli::print_json;
use crate::prediction_log::export::{Counts, Export, LabelType, Negatives, Weights, manifest_path};
use crate::prediction_log::known::{PATIENCE, known_until};
use crate::prediction_log::read::LeftOut;
use crate::prediction_log::settings::Exposure;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    rows: Rows,
    /// Name of the feedback that is the label
    #[arg(long, value_name = "NAME")]
    label: String,
    /// Only predictions that are at least so old, such as 7d; without it, all that have a label
    #[arg(long, value_name = "AGE", value_parser = moment::parse_age_us)]
    mature: Option<i64>,
    /// Predictions that were shown and have no label so long afterwards get the label 0, such as 30m: quality.negative_after
    #[arg(long, value_name = "AGE", value_parser = moment::parse_age_us)]
    negative_after: Option<i64>,
    /// Which predictions were shown: all (assumed), or those with feedback of this name: quality.exposure
    #[arg(long, value_name = "NAME", default_value = "assumed", requires = "negative_after")]
    exposure: String,
    /// What a row weighs: 1, or 1 / (sampling probability × arm probability); times the weight that its feedback has
    #[arg(long, value_name = "WEIGHTS", default_value = "equal", value_parser = ["equal", "ips"])]
    weights: String,
    /// Where some labels are numbers and some texts: number leaves the texts out, text writes all as texts
    #[arg(long, value_name = "TYPE", value_parser = ["number", "text"])]
    label_type: Option<String>,
    /// Go on without files of the log that can't be read; the manifest names them
    #[arg(long)]
    skip_damaged: bool,
    /// Leave out what the log learnt from then on, so that a training set can be made again: the manifest's as_of
    #[arg(long, value_name = "TIME", value_parser = moment::parse_us)]
    as_of: Option<i64>,
    /// The Parquet file to write; its manifest lies beside it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Some(model) = self.rows.model.clone() else {
            return Err(Failure::Usage("--model is needed: a training set is one model's".to_owned()));
        };
        let (data_dir, now_us) = (self.log.directory()?, moment::now_us());
        let as_of_us = known_until(&data_dir, self.as_of.unwrap_or(now_us), now_us, PATIENCE);
        let export = Export {
            data_dir,
            model,
            version: self.rows.version,
            label: self.label.clone(),
            since_us: self.rows.since,
            until_us: self.rows.until,
            as_of_us,
            mature_us: self.mature,
            negatives: self.negatives()?,
            weights: if self.weights == "ips" { Weights::Ips } else { Weights::Equal },
            label_type: self
                .label_type
                .as_deref()
                .map(|kind| if kind == "text" { LabelType::Text } else { LabelType::Number }),
            left_out: self.skip_damaged.then(LeftOut::default),
        };
        let manifest = export.run(&self.output)?;
        for damaged in &manifest.damaged {
            eprintln!("headgate: left out: {}", damaged.reason);
        }
        if let Some(why) = why_empty(&manifest.counts) {
            eprintln!("headgate: {why}");
        }
        if self.log.admin.json() {
            return print_json(out, &manifest);
        }
        writeln!(out, "{}", summary(&manifest.counts))?;
        for damaged in &manifest.damaged {
            writeln!(out, "without the rows of {}", damaged.path)?;
        }
        writeln!(out, "{}  {} bytes", self.output.display(), manifest.output.bytes)?;
        writeln!(out, "{}", manifest_path(&self.output).display())?;
        Ok(writeln!(out, "dataset {}", manifest.dataset)?)
    }

    fn negatives(&self) -> Result<Option<Negatives>, Failure> {
        let exposure = Exposure::named(&self.exposure);
        match self.negative_after {
            Some(..=0) => Err(Failure::Usage("--negative-after: expected an age above zero, got 0".to_owned())),
            Some(_) if exposure.name() == self.label => {
                let text = "--exposure and --label name the same feedback: what was shown is not yet the label";
                Err(Failure::Usage(text.to_owned()))
            }
            after_us => Ok(after_us.map(|after_us| Negatives { after_us, exposure })),
        }
    }
}

fn summary(counts: &Counts) -> String {
    let mut text = format!("{} rows of {} predictions", counts.exported, counts.predictions);
    if counts.implicit_negatives > 0 {
        text += &format!(", {} of them implicit negatives", counts.implicit_negatives);
    }
    if !counts.left_out.is_empty() {
        text += &format!("; left out: {}", reasons(counts));
    }
    if counts.labels_without_prediction > 0 {
        text += &format!("; {} labels without a prediction", counts.labels_without_prediction);
    }
    if counts.sampled_out_estimate > 0 {
        text += &format!("; about {} more were sampled out", counts.sampled_out_estimate);
    }
    text
}

/// What to say of a training set without rows.
fn why_empty(counts: &Counts) -> Option<String> {
    match (counts.exported, counts.predictions) {
        (0, 0) => Some("the training set is empty: no prediction lies within the bounds".to_owned()),
        (0, all) => Some(format!("the training set is empty: of {all} predictions are left out: {}", reasons(counts))),
        _ => None,
    }
}

fn reasons(counts: &Counts) -> String {
    let reasons: Vec<String> = counts.left_out.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    reasons.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_set_says_why() {
        let counts = |exported, predictions, left_out: &[(&'static str, u64)]| Counts {
            predictions,
            labelled: 0,
            exported,
            implicit_negatives: 0,
            left_out: left_out.iter().copied().collect(),
            labels_without_prediction: 2,
            sampled_out_estimate: 3,
        };
        let young = counts(0, 5, &[("too_young", 4), ("unlabelled", 1)]);
        assert!(why_empty(&young).unwrap().ends_with("of 5 predictions are left out: too_young 4, unlabelled 1"));
        let expected =
            "left out: too_young 4, unlabelled 1; 2 labels without a prediction; about 3 more were sampled out";
        assert!(summary(&young).ends_with(expected), "{}", summary(&young));
        assert!(why_empty(&counts(0, 0, &[])).unwrap().contains("no prediction lies within the bounds"));
        assert_eq!(why_empty(&counts(1, 5, &[])), None);
    }
}
