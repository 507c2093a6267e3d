//! The parameters of requests and tensors.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::inference::{MAX_PARAMETERS, Priority, keep_parameter, printable};
use crate::proto::inference::InferParameter;
use crate::proto::inference::infer_parameter::ParameterChoice;

/// Parameters by name, as the wire carries them.
pub type Parameters = HashMap<String, InferParameter>;

/// Asks that a stream's last response be marked; every response of ours is, so it is accepted and changes nothing.
const EMPTY_FINAL_RESPONSE: &str = "triton_enable_empty_final_response";

/// Names that mean something to the protocol.
const RESERVED: [&str; 6] =
    ["timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "binary_data_output"];

/// What a request's parameters say of how it is to be scheduled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    pub timeout: Option<Duration>,
    pub priority: Option<Priority>,
}

/// Checks a request's parameters and gives those that schedule it.
///
/// Sequence parameters are accepted as Triton accepts them for a model that has no sequences: checked for their kind,
/// without effect. Names that are not reserved are the client's own.
///
/// # Errors
/// `Invalid` for a parameter of the wrong kind and for an unknown name that begins with `triton_`.
pub fn scheduling(parameters: &Parameters) -> Result<Scheduling> {
    let mut scheduling = Scheduling::default();
    for (name, value) in parameters {
        match name.as_str() {
            "timeout" => {
                scheduling.timeout = Some(number(name, value)?).filter(|&us| us > 0).map(Duration::from_micros);
            }
            "priority" => scheduling.priority = Priority::from_level(number(name, value)?),
            "sequence_id" if matches!(value.parameter_choice, Some(ParameterChoice::StringParam(_))) => {}
            "sequence_id" => {
                number(name, value)?;
            }
            "sequence_start" | "sequence_end" | EMPTY_FINAL_RESPONSE => check_bool(name, value)?,
            reserved if reserved.starts_with("triton_") => {
                return Err(Error::invalid(format!(
                    "parameter '{}' is not known, and names that begin with 'triton_' are reserved",
                    printable(reserved)
                )));
            }
            _ => {}
        }
    }
    Ok(scheduling)
}

/// The client's own parameters, for routing, in the order of their names. Texts, whole numbers and booleans are kept.
pub fn own(parameters: &Parameters) -> Vec<(String, String)> {
    let mut named: Vec<(&String, String)> = parameters
        .iter()
        .filter(|(name, _)| !RESERVED.contains(&name.as_str()) && !name.starts_with("triton_"))
        .filter_map(|(name, value)| match value.parameter_choice.as_ref()? {
            ParameterChoice::StringParam(text) => Some((name, text.clone())),
            ParameterChoice::Int64Param(number) => Some((name, number.to_string())),
            ParameterChoice::Uint64Param(number) => Some((name, number.to_string())),
            ParameterChoice::BoolParam(truth) => Some((name, truth.to_string())),
            ParameterChoice::DoubleParam(_) => None,
        })
        .collect();
    named.sort_unstable();
    let mut kept = Vec::with_capacity(named.len().min(MAX_PARAMETERS));
    for (name, value) in &named {
        keep_parameter(&mut kept, name, value);
    }
    kept
}

/// The number of top classes that an output's parameters ask for.
///
/// # Errors
/// `Invalid` for a value that is no number, `Unsupported` for shared memory.
pub fn classification(output: &str, parameters: &Parameters) -> Result<Option<usize>> {
    refuse_shared_memory("output", output, parameters)?;
    let Some(value) = parameters.get("classification") else { return Ok(None) };
    let classes = number("classification", value)?;
    Ok(Some(usize::try_from(classes).unwrap_or(usize::MAX)))
}

/// Checks that a tensor travels with its request. `kind` is for the error's text: `input` or `output`.
///
/// # Errors
/// `Unsupported` where its parameters place it in shared memory.
pub fn refuse_shared_memory(kind: &str, tensor: &str, parameters: &Parameters) -> Result<()> {
    if parameters.keys().any(|name| name.starts_with("shared_memory_")) {
        let tensor = printable(tensor);
        return Err(Error::Unsupported(format!(
            "{kind} '{tensor}' is in shared memory, which this server doesn't offer"
        )));
    }
    Ok(())
}

/// A whole number, whichever of the wire's variants a client chose for it.
fn number(name: &str, value: &InferParameter) -> Result<u64> {
    // Doubles count up to here without gaps.
    const LARGEST_DOUBLE: f64 = 9_007_199_254_740_992.0;
    let choice = value.parameter_choice.as_ref();
    let number = match choice {
        Some(ParameterChoice::Uint64Param(number)) => Some(*number),
        Some(ParameterChoice::Int64Param(number)) => u64::try_from(*number).ok(),
        Some(ParameterChoice::DoubleParam(number)) => {
            (number.fract() == 0.0 && (0.0..=LARGEST_DOUBLE).contains(number)).then_some(*number as u64)
        }
        Some(ParameterChoice::StringParam(text)) => text.parse().ok(),
        Some(ParameterChoice::BoolParam(_)) | None => None,
    };
    number.ok_or_else(|| {
        let got = choice.map_or_else(|| "nothing".to_owned(), text);
        Error::invalid(format!("parameter '{name}' expects a whole number of 0 or more, got {got}"))
    })
}

fn check_bool(name: &str, value: &InferParameter) -> Result<()> {
    match &value.parameter_choice {
        Some(ParameterChoice::BoolParam(_)) => Ok(()),
        other => {
            let got = other.as_ref().map_or_else(|| "nothing".to_owned(), text);
            Err(Error::invalid(format!("parameter '{name}' expects true or false, got {got}")))
        }
    }
}

fn text(choice: &ParameterChoice) -> String {
    match choice {
        ParameterChoice::BoolParam(value) => value.to_string(),
        ParameterChoice::Int64Param(value) => value.to_string(),
        ParameterChoice::Uint64Param(value) => value.to_string(),
        ParameterChoice::DoubleParam(value) => value.to_string(),
        ParameterChoice::StringParam(value) => format!("'{}'", printable(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};

    fn one(name: &str, choice: ParameterChoice) -> Parameters {
        HashMap::from([(name.to_owned(), InferParameter { parameter_choice: Some(choice) })])
    }

    #[test]
    fn a_number_may_come_in_any_variant() {
        for choice in [Int64Param(1500), Uint64Param(1500), DoubleParam(1500.0), StringParam("1500".into())] {
            let timeout = scheduling(&one("timeout", choice.clone())).unwrap().timeout;
            assert_eq!(timeout, Some(Duration::from_micros(1500)), "{choice:?}");
        }
        for choice in
            [Int64Param(-1), DoubleParam(0.5), DoubleParam(f64::NAN), StringParam("x".into()), BoolParam(true)]
        {
            assert!(scheduling(&one("timeout", choice.clone())).is_err(), "{choice:?}");
        }
        assert_eq!(scheduling(&one("timeout", Int64Param(0))).unwrap(), Scheduling::default());
    }

    #[test]
    fn the_clients_own_parameters_are_kept_as_texts_within_bounds() {
        let mut parameters = Parameters::new();
        for (name, choice) in [
            ("timeout", Int64Param(1)),
            ("sequence_id", Int64Param(7)),
            ("user", StringParam("Zoë".into())),
            ("n", Int64Param(-12)),
            ("big", Uint64Param(u64::MAX)),
            ("f", DoubleParam(1.0)),
            ("yes", BoolParam(true)),
            ("long", StringParam("x".repeat(257))),
        ] {
            parameters.extend(one(name, choice));
        }
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected =
            [text("big", "18446744073709551615"), text("n", "-12"), text("user", "Zoë"), text("yes", "true")];
        assert_eq!(own(&parameters), expected);
        parameters.extend((0..40).map(|at| (format!("a{at:02}"), one("", Int64Param(at)).remove("").unwrap())));
        let kept = own(&parameters);
        assert_eq!((kept.len(), &kept[15]), (16, &text("a15", "15")));
        assert!(own(&Parameters::new()).is_empty());
    }

    #[test]
    fn reserved_names_are_checked_and_others_are_the_clients_own() {
        for good in [
            one("sequence_id", StringParam("a".into())),
            one("sequence_id", Int64Param(7)),
            one("sequence_start", BoolParam(true)),
            one("priority", Uint64Param(1)),
            one("triton_enable_empty_final_response", BoolParam(true)),
            one("custom", DoubleParam(0.5)),
        ] {
            assert_eq!(scheduling(&good).unwrap().timeout, None, "{good:?}");
        }
        for bad in [
            one("sequence_id", BoolParam(true)),
            one("sequence_end", Int64Param(1)),
            one("priority", StringParam("high".into())),
            one("triton_other", BoolParam(true)),
        ] {
            assert!(matches!(scheduling(&bad), Err(Error::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn an_error_says_what_came() {
        let error = scheduling(&one("priority", DoubleParam(0.5))).unwrap_err();
        assert_eq!(error.to_string(), "parameter 'priority' expects a whole number of 0 or more, got 0.5");
    }

    #[test]
    fn outputs_ask_for_classes_and_never_for_shared_memory() {
        assert_eq!(classification("y", &one("classification", Int64Param(3))).unwrap(), Some(3));
        assert_eq!(classification("y", &one("binary_data", BoolParam(true))).unwrap(), None);
        let shared = one("shared_memory_region", StringParam("r".into()));
        assert!(matches!(classification("y", &shared), Err(Error::Unsupported(_))));
    }
}
