//! The trace and log settings that the protocol lets clients read and change.
//!
//! They are kept and given back as the protocol asks. Log levels take effect in the server's log; traces are not
//! written by this server, so its trace settings only remember.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Settings of one kind, by name; bounded by the fixed list of names.
#[derive(Debug)]
pub struct WireSettings {
    state: Mutex<State>,
    /// Called with the new level when a client changes what is logged.
    on_log_change: fn(&LogSettings),
}

#[derive(Debug, Clone, Default)]
struct State {
    log: LogSettings,
    trace: TraceSettings,
    /// Overrides by model; only models that exist are asked for, see `update_trace`.
    trace_by_model: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    pub info: bool,
    pub warning: bool,
    pub error: bool,
    pub verbose_level: u32,
    /// `default` or `ISO8601`.
    pub format: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { info: true, warning: true, error: true, verbose_level: 0, format: "default".to_owned() }
    }
}

/// Trace settings: every value is a list of texts, also where it is a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSettings(pub BTreeMap<String, Vec<String>>);

impl Default for TraceSettings {
    fn default() -> Self {
        let defaults = [
            ("log_frequency", "0"),
            ("trace_count", "-1"),
            ("trace_file", ""),
            ("trace_level", "OFF"),
            ("trace_mode", "triton"),
            ("trace_rate", "1000"),
        ];
        Self(defaults.into_iter().map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).collect())
    }
}

/// One change to a trace setting; `None` goes back to the global or the built-in value.
pub type TraceChange = (String, Option<Vec<String>>);

/// One value of a log setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogValue {
    Bool(bool),
    Number(u64),
    Text(String),
}

/// Models whose trace settings may differ from the global ones at one time.
const MAX_TRACED_MODELS: usize = 1024;

impl WireSettings {
    pub fn new(on_log_change: fn(&LogSettings)) -> Self {
        Self { state: Mutex::default(), on_log_change }
    }

    pub fn log(&self) -> LogSettings {
        self.lock().log.clone()
    }

    /// Changes log settings, all or none.
    ///
    /// # Errors
    /// `Unsupported` for `log_file`, `Invalid` for a name or value that isn't one.
    pub fn update_log(&self, changes: &[(String, LogValue)]) -> Result<LogSettings> {
        let mut state = self.lock();
        let mut log = state.log.clone();
        for (name, value) in changes {
            apply_log(&mut log, name, value)?;
        }
        state.log = log.clone();
        (self.on_log_change)(&log);
        Ok(log)
    }

    /// The trace settings of a model, or the global ones.
    pub fn trace(&self, model: Option<&str>) -> TraceSettings {
        let state = self.lock();
        let mut settings = state.trace.clone();
        if let Some(overrides) = model.and_then(|model| state.trace_by_model.get(model)) {
            settings.0.extend(overrides.clone());
        }
        settings
    }

    /// Changes trace settings of a model (the caller has checked that it exists) or the global ones, all or none.
    ///
    /// # Errors
    /// `Unsupported` for `trace_file` and `trace_mode`, `Invalid` for a name or value that isn't one.
    pub fn update_trace(&self, model: Option<&str>, changes: Vec<TraceChange>) -> Result<TraceSettings> {
        for (name, value) in &changes {
            check_trace(name, value.as_deref())?;
        }
        let mut state = self.lock();
        match model {
            None => {
                let defaults = TraceSettings::default();
                for (name, value) in changes {
                    let value = value.unwrap_or_else(|| defaults.0[&name].clone());
                    state.trace.0.insert(name, value);
                }
            }
            Some(model) => {
                if state.trace_by_model.len() >= MAX_TRACED_MODELS && !state.trace_by_model.contains_key(model) {
                    return Err(Error::Unavailable(format!(
                        "at most {MAX_TRACED_MODELS} models may have trace settings of their own"
                    )));
                }
                let overrides = state.trace_by_model.entry(model.to_owned()).or_default();
                for (name, value) in changes {
                    match value {
                        Some(value) => overrides.insert(name, value),
                        None => overrides.remove(&name),
                    };
                }
            }
        }
        drop(state);
        Ok(self.trace(model))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn apply_log(log: &mut LogSettings, name: &str, value: &LogValue) -> Result<()> {
    match (name, value) {
        ("log_info", LogValue::Bool(on)) => log.info = *on,
        ("log_warning", LogValue::Bool(on)) => log.warning = *on,
        ("log_error", LogValue::Bool(on)) => log.error = *on,
        ("log_verbose_level", LogValue::Number(level)) => log.verbose_level = (*level).min(u32::MAX.into()) as u32,
        ("log_format", LogValue::Text(format)) if format == "default" || format == "ISO8601" => {
            log.format.clone_from(format);
        }
        ("log_file", _) => return Err(Error::Unsupported("log_file location can not be updated".to_owned())),
        ("log_info" | "log_warning" | "log_error", _) => {
            return Err(Error::invalid(format!("log setting '{name}' expects true or false")));
        }
        ("log_verbose_level", _) => {
            return Err(Error::invalid("log setting 'log_verbose_level' expects a number of 0 or more"));
        }
        ("log_format", _) => {
            return Err(Error::invalid("log setting 'log_format' expects 'default' or 'ISO8601'"));
        }
        _ => {
            return Err(Error::invalid(format!(
                "unknown log setting '{}', expected one of log_info, log_warning, log_error, log_verbose_level, log_format",
                crate::inference::printable(name)
            )));
        }
    }
    Ok(())
}

fn check_trace(name: &str, value: Option<&[String]>) -> Result<()> {
    let number = |low: i64| {
        let values = value.unwrap_or_default();
        let fits = value.is_none() || matches!(values, [one] if one.parse::<i64>().is_ok_and(|n| n >= low));
        fits.then_some(())
            .ok_or_else(|| Error::invalid(format!("trace setting '{name}' expects one whole number of {low} or more")))
    };
    match name {
        "trace_file" | "trace_mode" => Err(Error::Unsupported(format!("{name} location can not be updated"))),
        "trace_level" => {
            let known = |level: &String| matches!(level.as_str(), "OFF" | "TIMESTAMPS" | "TENSORS");
            if value.unwrap_or_default().iter().all(known) {
                Ok(())
            } else {
                Err(Error::invalid("trace setting 'trace_level' expects OFF, TIMESTAMPS or TENSORS"))
            }
        }
        "trace_rate" => number(1),
        "log_frequency" => number(0),
        "trace_count" => number(-1),
        _ => Err(Error::invalid(format!(
            "unknown trace setting '{}', expected one of trace_level, trace_rate, trace_count, log_frequency",
            crate::inference::printable(name)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> WireSettings {
        WireSettings::new(|_| ())
    }

    #[test]
    fn a_models_trace_settings_fall_back_to_the_global_ones() {
        let settings = settings();
        let rate = |value: &str| vec![("trace_rate".to_owned(), Some(vec![value.to_owned()]))];
        settings.update_trace(None, rate("5")).unwrap();
        settings.update_trace(Some("m"), rate("7")).unwrap();
        assert_eq!(settings.trace(Some("m")).0["trace_rate"], ["7"]);
        settings.update_trace(Some("m"), vec![("trace_rate".to_owned(), None)]).unwrap();
        assert_eq!(settings.trace(Some("m")).0["trace_rate"], ["5"]);
        settings.update_trace(None, vec![("trace_rate".to_owned(), None)]).unwrap();
        assert_eq!(settings.trace(None).0["trace_rate"], ["1000"]);
    }

    #[test]
    fn a_bad_change_changes_nothing() {
        let settings = settings();
        let changes = [("log_info".to_owned(), LogValue::Bool(false)), ("log_warning".to_owned(), LogValue::Number(1))];
        assert!(settings.update_log(&changes).is_err());
        assert!(settings.log().info);
        assert!(settings.update_trace(None, vec![("trace_rate".into(), Some(vec!["x".into()]))]).is_err());
    }
}
