//! The trace and log settings on the wire.

use std::collections::HashMap;

use crate::data_plane::DataPlane;
use crate::error::Result;
use crate::proto::inference::log_settings_request::setting_value::ParameterChoice as LogChoice;
use crate::proto::inference::log_settings_response::setting_value::ParameterChoice as LogAnswer;
use crate::proto::inference::{
    LogSettingsRequest, LogSettingsResponse, TraceSettingRequest, TraceSettingResponse, log_settings_response,
    trace_setting_response,
};
use crate::telemetry::settings::{LogSettings, LogValue, TraceChange};

/// Changes what the request names, and gives the trace settings of its model, or the global ones.
///
/// # Errors
/// `UnknownModel`, or as the settings refuse a change.
pub fn trace(plane: &DataPlane, request: TraceSettingRequest) -> Result<TraceSettingResponse> {
    let model = Some(request.model_name.as_str()).filter(|name| !name.is_empty());
    if let Some(model) = model {
        plane.serving.load().answering(model)?;
    }
    let changes: Vec<TraceChange> = request
        .settings
        .into_iter()
        // Without a value the setting goes back to where it comes from.
        .map(|(name, setting)| (name, Some(setting.value).filter(|values| !values.is_empty())))
        .collect();
    let settings =
        if changes.is_empty() { plane.settings.trace(model) } else { plane.settings.update_trace(model, changes)? };
    let each = |(name, value)| (name, trace_setting_response::SettingValue { value });
    Ok(TraceSettingResponse { settings: settings.0.into_iter().map(each).collect() })
}

/// Changes what the request names, and gives the log settings.
///
/// # Errors
/// As the settings refuse a change.
pub fn log(plane: &DataPlane, request: LogSettingsRequest) -> Result<LogSettingsResponse> {
    let changes: Vec<(String, LogValue)> = request
        .settings
        .into_iter()
        .filter_map(|(name, setting)| setting.parameter_choice.map(|choice| (name, log_value(choice))))
        .collect();
    let settings = if changes.is_empty() { plane.settings.log() } else { plane.settings.update_log(&changes)? };
    Ok(LogSettingsResponse { settings: log_answer(settings) })
}

fn log_value(choice: LogChoice) -> LogValue {
    match choice {
        LogChoice::BoolParam(on) => LogValue::Bool(on),
        LogChoice::Uint32Param(number) => LogValue::Number(number.into()),
        LogChoice::StringParam(text) => LogValue::Text(text),
    }
}

fn log_answer(settings: LogSettings) -> HashMap<String, log_settings_response::SettingValue> {
    let LogSettings { info, warning, error, verbose_level, format } = settings;
    [
        // The server logs to its standard streams.
        ("log_file", LogAnswer::StringParam(String::new())),
        ("log_info", LogAnswer::BoolParam(info)),
        ("log_warning", LogAnswer::BoolParam(warning)),
        ("log_error", LogAnswer::BoolParam(error)),
        ("log_verbose_level", LogAnswer::Uint32Param(verbose_level)),
        ("log_format", LogAnswer::StringParam(format)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), log_settings_response::SettingValue { parameter_choice: Some(value) }))
    .collect()
}
