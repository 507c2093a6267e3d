//! What is served, for reading.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::AdminState;
use super::api_error::ApiError;
use super::view::{ModelList, ModelView};

pub async fn list(State(state): State<AdminState>) -> Json<ModelList> {
    Json(ModelList::of(&state.plane.serving.load()))
}

pub async fn show(
    State(state): State<AdminState>,
    model: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelView>, ApiError> {
    let Path(model) = model?;
    let serving = state.plane.serving.load();
    Ok(Json(ModelView::of(&model, serving.model(&model)?)))
}
