//! The Prometheus text of realised quality: gauges of each version in each arm, and of the values of its segments.

use std::fmt::Write;

use super::exposition::{escape, header};

/// What `/metrics` says of one version in one arm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QualityReading {
    pub model: String,
    pub version: u64,
    pub arm: String,
    pub all: QualityValues,
    /// Share of the predictions whose label came within a time, such as `1h`.
    pub label_delay: Vec<(String, f64)>,
    /// By column and value, whose number is bounded.
    pub segments: Vec<(String, String, QualityValues)>,
}

/// Figures; those that a task doesn't have, or that nothing is known of, have no series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QualityValues {
    pub accuracy: Option<f64>,
    pub log_loss: Option<f64>,
    pub brier: Option<f64>,
    pub auc: Option<f64>,
    pub mae: Option<f64>,
    pub rmse: Option<f64>,
    pub click_rate: Option<f64>,
    pub labelled_ratio: Option<f64>,
    pub predicted: u64,
    pub labelled: u64,
}

type Read = fn(&QualityValues) -> Option<f64>;

/// The figures' names, what they are, and how they are read. Of segments the names have a word more.
const FIGURES: [(&str, &str, &str, Read); 10] = [
    (
        "headgate_quality_accuracy",
        "headgate_quality_segment_accuracy",
        "Share of the labelled predictions that were right",
        |v| v.accuracy,
    ),
    ("headgate_quality_log_loss", "headgate_quality_segment_log_loss", "Mean log loss of labelled predictions", |v| {
        v.log_loss
    }),
    (
        "headgate_quality_brier_score",
        "headgate_quality_segment_brier_score",
        "Mean Brier score of labelled predictions",
        |v| v.brier,
    ),
    (
        "headgate_quality_auc",
        "headgate_quality_segment_auc",
        "Area under the ROC curve of labelled predictions, from binned scores",
        |v| v.auc,
    ),
    (
        "headgate_quality_mean_absolute_error",
        "headgate_quality_segment_mean_absolute_error",
        "Mean absolute error of labelled predictions",
        |v| v.mae,
    ),
    (
        "headgate_quality_root_mean_squared_error",
        "headgate_quality_segment_root_mean_squared_error",
        "Root of the mean squared error of labelled predictions",
        |v| v.rmse,
    ),
    (
        "headgate_quality_click_ratio",
        "headgate_quality_segment_click_ratio",
        "Share of the labelled predictions that were clicked",
        |v| v.click_rate,
    ),
    (
        "headgate_quality_labelled_ratio",
        "headgate_quality_segment_labelled_ratio",
        "Share of the predictions shown whose labels have matured",
        |v| v.labelled_ratio,
    ),
    (
        "headgate_quality_predictions",
        "headgate_quality_segment_predictions",
        "Predictions that are held against feedback",
        |v| Some(v.predicted as f64),
    ),
    ("headgate_quality_labels", "headgate_quality_segment_labels", "Predictions whose labels have matured", |v| {
        Some(v.labelled as f64)
    }),
];

const LABEL_DELAY: &str = "headgate_quality_labelled_within_ratio";

/// Appends every family of these readings; nothing where there are none.
pub fn write(out: &mut String, readings: &[QualityReading]) {
    let delays = readings.iter().flat_map(|reading| {
        let of = |(within, share): &(String, f64)| (format!("{},within=\"{within}\"", labels(reading)), *share);
        reading.label_delay.iter().map(of)
    });
    family(out, LABEL_DELAY, "Share of the predictions so old whose labels came in that time", delays.collect());
    for (name, of_segments, help, read) in FIGURES {
        let all = readings.iter().filter_map(|reading| Some((labels(reading), read(&reading.all)?)));
        family(out, name, help, all.collect());
        let segments = readings.iter().flat_map(|reading| {
            reading.segments.iter().filter_map(move |(column, value, values)| {
                let (column, value) = (escape(column), escape(value));
                let labels = format!("{},column=\"{column}\",value=\"{value}\"", labels(reading));
                Some((labels, read(values)?))
            })
        });
        family(out, of_segments, help, segments.collect());
    }
}

fn labels(of: &QualityReading) -> String {
    format!("model=\"{}\",version=\"{}\",arm=\"{}\"", escape(&of.model), of.version, escape(&of.arm))
}

fn family(out: &mut String, name: &str, help: &str, samples: Vec<(String, f64)>) {
    if samples.is_empty() {
        return;
    }
    header(out, name, help, "gauge");
    for (labels, value) in samples {
        let _ = writeln!(out, "{name}{{{labels}}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_not_known_has_no_series() {
        let half = QualityValues { accuracy: Some(0.5), predicted: 4, labelled: 2, ..QualityValues::default() };
        let readings = [QualityReading {
            model: "a\"b".into(),
            version: 2,
            arm: "candidate".into(),
            all: half.clone(),
            label_delay: vec![("1h".into(), 0.25)],
            segments: vec![("in_region".into(), "e\nu".into(), half)],
        }];
        let mut text = String::new();
        write(&mut text, &readings);
        let labels = "model=\"a\\\"b\",version=\"2\",arm=\"candidate\"";
        assert!(text.contains(&format!("headgate_quality_accuracy{{{labels}}} 0.5\n")), "{text}");
        assert!(text.contains(&format!("{LABEL_DELAY}{{{labels},within=\"1h\"}} 0.25\n")), "{text}");
        let labels = format!("{labels},column=\"in_region\",value=\"e\\nu\"");
        assert!(text.contains(&format!("headgate_quality_segment_labels{{{labels}}} 2\n")), "{text}");
        assert!(!text.contains("brier") && !text.contains("labelled_ratio"), "{text}");
        text.clear();
        write(&mut text, &[]);
        assert_eq!(text, "");
    }
}
