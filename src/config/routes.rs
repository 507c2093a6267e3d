//! Further names that clients may call: `routes: {checkout: {model: fraud, label: checkout}}`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigError;
use crate::inference::name_fault;

/// What a further name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    pub model: String,
    /// Of that model: answers while no rollout splits the route.
    #[serde(default = "stable")]
    pub label: String,
}

/// Most further names.
const MAX_ROUTES: usize = 1000;

fn stable() -> String {
    "stable".to_owned()
}

/// Routes whose every name could be one.
///
/// # Errors
/// `ConfigError` with the first that could not.
pub(super) fn checked(routes: BTreeMap<String, RouteSettings>) -> Result<BTreeMap<String, RouteSettings>, ConfigError> {
    if routes.len() > MAX_ROUTES {
        let got = format!("{} routes", routes.len());
        return Err(ConfigError::Value { key: "routes", expected: "at most 1000 routes", got });
    }
    for (name, route) in &routes {
        for text in [name, &route.model, &route.label] {
            if let Some(fault) = name_fault(text) {
                let got = format!("'{text}' in route '{name}': {fault}");
                return Err(ConfigError::Value { key: "routes", expected: "names of routes, models and labels", got });
            }
        }
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<BTreeMap<String, RouteSettings>, String> {
        let routes = serde_json::from_str(json).map_err(|error| error.to_string())?;
        checked(routes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_has_a_model_and_a_label() {
        let routes = read(r#"{"checkout":{"model":"fraud","label":"shop"},"plain":{"model":"fraud"}}"#).unwrap();
        assert_eq!(routes["checkout"], RouteSettings { model: "fraud".into(), label: "shop".into() });
        assert_eq!(routes["plain"].label, "stable");
    }

    #[test]
    fn names_that_could_not_be_called_are_refused() {
        for (json, expected) in [
            (r#"{"a@b":{"model":"m"}}"#, "'a@b' in route 'a@b': it holds '/', '\\', '@' or a control character"),
            (r#"{"a":{"model":""}}"#, "'' in route 'a': it is empty"),
            (r#"{"a":{"model":"m","label":"x/y"}}"#, "'x/y' in route 'a'"),
            (r#"{"a":{"modle":"m"}}"#, "unknown field `modle`"),
            (r#"{"a":{"label":"m"}}"#, "missing field `model`"),
        ] {
            let fault = read(json).unwrap_err();
            assert!(fault.contains(expected), "{json}: {fault}");
        }
    }
}
