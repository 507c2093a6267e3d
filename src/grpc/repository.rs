//! The model repository extension: what there is, and loading and unloading it.

use std::collections::HashMap;

use crate::control::LoadOverrides;
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::{name_fault, printable};
use crate::proto::inference::ModelRepositoryParameter;
use crate::proto::inference::model_repository_parameter::ParameterChoice;
use crate::proto::inference::repository_index_response::ModelIndex;

type Parameters = HashMap<String, ModelRepositoryParameter>;

/// Every version that was seen, or only those in service. A model without a version has one entry with its fault.
pub fn index(plane: &DataPlane, only_ready: bool) -> Vec<ModelIndex> {
    let mut index = Vec::new();
    for (name, entry) in &plane.serving.load().models {
        if entry.statuses.is_empty() && !only_ready {
            index.push(ModelIndex { name: name.clone(), reason: entry.fault.clone(), ..ModelIndex::default() });
        }
        for (version, status) in &entry.statuses {
            if only_ready && !status.state.is_in_service() {
                continue;
            }
            index.push(ModelIndex {
                name: name.clone(),
                version: version.to_string(),
                state: status.state.index_name().to_owned(),
                reason: status.reason.clone(),
            });
        }
    }
    index
}

/// There is one repository, and it has no name.
///
/// # Errors
/// `Unsupported` for any name.
pub fn check_repository(name: &str) -> Result<()> {
    if name.is_empty() {
        Ok(())
    } else {
        Err(Error::Unsupported("'repository_name' specification is not supported".to_owned()))
    }
}

/// Checks the name of a model to load or unload, which takes no label.
///
/// # Errors
/// `BadName` for what can't be a model's plain name.
pub fn check_model(name: &str) -> Result<()> {
    match name_fault(name) {
        None => Ok(()),
        Some(reason) => Err(Error::BadName { name: printable(name), reason }),
    }
}

/// What a load call's parameters ask for.
///
/// # Errors
/// `Invalid` for an unknown parameter, one of the wrong kind, and for files without a configuration.
pub fn load_overrides(parameters: Parameters) -> Result<LoadOverrides> {
    let mut overrides = LoadOverrides::default();
    for (name, value) in parameters {
        match (name.as_str(), value.parameter_choice) {
            ("config", Some(ParameterChoice::StringParam(config))) => overrides.config = Some(config),
            ("config", _) => return Err(Error::invalid("load parameter 'config' expects a string")),
            (name, value) => match (name.strip_prefix("file:"), value) {
                (Some(path), Some(ParameterChoice::BytesParam(file))) => {
                    overrides.files.insert(path.to_owned(), file);
                }
                (Some(_), _) => {
                    return Err(Error::invalid(format!("load parameter '{}' expects bytes", printable(name))));
                }
                (None, _) => return Err(unknown("load", name, "'config' and 'file:<version>/<file>'")),
            },
        }
    }
    if overrides.config.is_none() && !overrides.files.is_empty() {
        return Err(Error::invalid("load parameters 'file:…' expect a 'config' beside them"));
    }
    Ok(overrides)
}

/// Checks an unload call's parameters. `unload_dependents` has nothing to do: no model depends on another.
///
/// # Errors
/// `Invalid` for any other parameter, and for a value that is no truth value.
pub fn check_unload(parameters: &Parameters) -> Result<()> {
    for (name, value) in parameters {
        match (name.as_str(), &value.parameter_choice) {
            ("unload_dependents", Some(ParameterChoice::BoolParam(_))) => {}
            ("unload_dependents", _) => {
                return Err(Error::invalid("unload parameter 'unload_dependents' expects true or false"));
            }
            _ => return Err(unknown("unload", name, "'unload_dependents'")),
        }
    }
    Ok(())
}

fn unknown(call: &str, name: &str, known: &str) -> Error {
    Error::invalid(format!("unknown {call} parameter '{}', expected {known}", printable(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn parameters(list: &[(&str, ParameterChoice)]) -> Parameters {
        let each = |(name, choice): &(&str, ParameterChoice)| {
            ((*name).to_owned(), ModelRepositoryParameter { parameter_choice: Some(choice.clone()) })
        };
        list.iter().map(each).collect()
    }

    #[test]
    fn a_load_may_bring_a_configuration_and_files() {
        let file = ParameterChoice::BytesParam(Bytes::from_static(b"onnx"));
        let config = ParameterChoice::StringParam("{}".into());
        let overrides = load_overrides(parameters(&[("config", config), ("file:1/model.onnx", file.clone())])).unwrap();
        assert_eq!(overrides.config.as_deref(), Some("{}"));
        assert_eq!(&overrides.files["1/model.onnx"][..], b"onnx");
        for bad in [
            parameters(&[("file:1/model.onnx", file)]),
            parameters(&[("config", ParameterChoice::BoolParam(true))]),
            parameters(&[("file:1/model.onnx", ParameterChoice::StringParam("x".into()))]),
            parameters(&[("other", ParameterChoice::BoolParam(true))]),
        ] {
            assert!(matches!(load_overrides(bad), Err(Error::Invalid(_))));
        }
    }

    #[test]
    fn an_unload_takes_one_parameter_that_changes_nothing() {
        assert!(check_unload(&parameters(&[("unload_dependents", ParameterChoice::BoolParam(true))])).is_ok());
        assert!(check_unload(&parameters(&[("unload_dependents", ParameterChoice::Int64Param(1))])).is_err());
        assert!(check_unload(&parameters(&[("other", ParameterChoice::BoolParam(true))])).is_err());
    }
}
