//! Realised quality: what was predicted, held against what turned out.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::AdminState;
use super::api_error::ApiError;
use super::view::QualityList;
use crate::prediction_log::PredictionLog;
use crate::prediction_log::quality::Figures;
use crate::telemetry::quality::{QualityReading, QualityValues};

/// What is asked for. Empty is as good as absent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityQuery {
    model: String,
}

pub async fn list(
    State(state): State<AdminState>,
    query: Result<Query<QualityQuery>, QueryRejection>,
) -> Result<Json<QualityList>, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let model = Some(query.model.as_str()).filter(|model| !model.is_empty());
    if let Some(model) = model {
        // Names the nearest.
        state.plane.serving.load().model(model)?;
    }
    let tracker = state.plane.log.quality();
    Ok(Json(QualityList::of(tracker.report(model), tracker.fill())))
}

/// What `/metrics` says of it.
pub fn readings(log: &PredictionLog) -> Vec<QualityReading> {
    let reports = log.quality().report(None).into_iter();
    let reading = |report: crate::prediction_log::quality::QualityReport| QualityReading {
        model: report.model,
        version: report.version,
        arm: report.arm,
        all: values(&report.figures),
        label_delay: report.label_delay.into_iter().filter_map(|of| Some((of.within, of.share?))).collect(),
        segments: report.segments.into_iter().map(|of| (of.column, of.value, values(&of.figures))).collect(),
    };
    reports.map(reading).collect()
}

fn values(figures: &Figures) -> QualityValues {
    QualityValues {
        accuracy: figures.accuracy,
        log_loss: figures.log_loss,
        brier: figures.brier,
        auc: figures.auc,
        mae: figures.mae,
        rmse: figures.rmse,
        click_rate: figures.click_rate,
        labelled_ratio: figures.labelled_ratio,
        predicted: figures.predicted,
        labelled: figures.labelled,
    }
}
