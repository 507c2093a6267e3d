//! The `parameters` objects of a request, its inputs and its outputs.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::inference::{Priority, keep_parameter, printable};
use crate::json::once;
use crate::json::reader::{Kind, Number, Reader};

/// Of the request as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RequestParameters {
    pub timeout: Option<Duration>,
    pub priority: Option<Priority>,
    pub binary_data_output: bool,
    /// The client's own, for routing.
    pub own: Vec<(String, String)>,
}

/// Of one input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InputParameters {
    pub binary_data_size: Option<u64>,
    pub shared_memory: bool,
}

/// Of one requested output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OutputParameters {
    pub binary_data: bool,
    pub classification: Option<usize>,
    pub shared_memory: bool,
}

/// Reads a request's parameters. Those with a meaning are checked; others may be there if they are single values, and
/// names that begin with `triton_` are reserved.
///
/// # Errors
/// `Invalid`, naming the parameter.
pub fn of_request(reader: &mut Reader<'_>) -> Result<RequestParameters> {
    let (mut timeout, mut priority, mut binary) = (None, None, None);
    let mut own = vec![];
    reader.object(|key, reader| match key {
        // Microseconds; 0 is none.
        "timeout" => once(&mut timeout, key, whole(key, reader)?),
        "binary_data_output" => once(&mut binary, key, truth(key, reader)?),
        // 1 is the highest level; 0 leaves it to the server.
        "priority" => once(&mut priority, key, whole(key, reader)?),
        "sequence_start" | "sequence_end" => truth(key, reader).map(drop),
        "sequence_id" if reader.peek()? != Kind::String => whole(key, reader).map(drop),
        // A text is any text.
        "sequence_id" => Ok(reader.skip_value()?),
        key => custom(key, reader, &mut own),
    })?;
    let timeout = timeout.filter(|&us| us > 0).map(Duration::from_micros);
    let priority = priority.and_then(Priority::from_level);
    Ok(RequestParameters { timeout, priority, binary_data_output: binary.unwrap_or(false), own })
}

/// Reads one parameter of the client's own: texts, whole numbers and booleans are kept.
///
/// # Errors
/// `Invalid` for reserved names and for values that are lists, objects or null.
pub fn custom(key: &str, reader: &mut Reader<'_>, kept: &mut Vec<(String, String)>) -> Result<()> {
    if key.starts_with("triton_") {
        return Err(Error::Invalid(format!(
            "parameter '{}' has the reserved prefix 'triton_', expected another name",
            printable(key)
        )));
    }
    match reader.peek()? {
        Kind::Array | Kind::Object | Kind::Null => {
            let key = printable(key);
            return Err(Error::Invalid(format!("parameter '{key}' expects a string, a number, true or false")));
        }
        Kind::String => keep_parameter(kept, key, &reader.string()?),
        Kind::Bool => keep_parameter(kept, key, if reader.bool()? { "true" } else { "false" }),
        Kind::Number => {
            if let Number::Whole(text) = reader.number()? {
                keep_parameter(kept, key, text);
            }
        }
    }
    Ok(())
}

/// Reads an input's parameters.
///
/// # Errors
/// `Invalid`, naming the parameter.
pub fn of_input(reader: &mut Reader<'_>) -> Result<InputParameters> {
    let mut size = None;
    let mut shared_memory = false;
    reader.object(|key, reader| match key {
        "binary_data_size" => once(&mut size, key, whole(key, reader)?),
        _ => {
            shared_memory |= key.starts_with("shared_memory_");
            Ok::<_, Error>(reader.skip_value()?)
        }
    })?;
    Ok(InputParameters { binary_data_size: size, shared_memory })
}

/// Reads an output's parameters.
///
/// # Errors
/// `Invalid`, naming the parameter.
pub fn of_output(reader: &mut Reader<'_>) -> Result<OutputParameters> {
    let (mut binary, mut classes) = (None, None);
    let mut shared_memory = false;
    reader.object(|key, reader| match key {
        "binary_data" => once(&mut binary, key, truth(key, reader)?),
        "classification" => once(&mut classes, key, whole(key, reader)?),
        _ => {
            shared_memory |= key.starts_with("shared_memory_");
            Ok::<_, Error>(reader.skip_value()?)
        }
    })?;
    // No tensor has more classes than that.
    let classification = classes.map(|k| usize::try_from(k).unwrap_or(usize::MAX));
    Ok(OutputParameters { binary_data: binary.unwrap_or(false), classification, shared_memory })
}

/// The error of a request whose tensors lie in shared memory; `what` names the input or output.
pub fn no_shared_memory(what: &str) -> Error {
    Error::Unsupported(format!("{what} lies in shared memory, which this server does not support: send it in the body"))
}

fn whole(key: &str, reader: &mut Reader<'_>) -> Result<u64> {
    let value = match reader.peek()? {
        Kind::Number => match reader.number()? {
            Number::Whole(text) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    value.ok_or_else(|| Error::Invalid(format!("parameter '{key}' expects a whole number of 0 or more")))
}

fn truth(key: &str, reader: &mut Reader<'_>) -> Result<bool> {
    match reader.peek()? {
        Kind::Bool => Ok(reader.bool()?),
        _ => Err(Error::Invalid(format!("parameter '{key}' expects true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<RequestParameters, String> {
        of_request(&mut Reader::new(text.as_bytes())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_requests_parameters() {
        let text = r#"{"timeout":1500,"binary_data_output":true,"priority":1,"sequence_id":"a","my_own":1.5,"s":"x"}"#;
        let timeout = Some(Duration::from_micros(1500));
        assert_eq!(
            request(text),
            Ok(RequestParameters {
                timeout,
                priority: Some(Priority::High),
                binary_data_output: true,
                own: vec![("s".to_owned(), "x".to_owned())],
            })
        );
        assert_eq!(request(r#"{"timeout":0}"#), Ok(RequestParameters::default()));
        for bad in [
            r#"{"timeout":-1}"#,
            r#"{"timeout":"1"}"#,
            r#"{"priority":"high"}"#,
            r#"{"binary_data_output":1}"#,
            r#"{"sequence_start":1}"#,
            r#"{"sequence_id":1.5}"#,
            r#"{"triton_x":1}"#,
            r#"{"x":[1]}"#,
            r#"{"x":null}"#,
            r#"{"timeout":1,"timeout":2}"#,
            "[]",
        ] {
            assert!(request(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_clients_own_parameters_are_kept_as_texts_within_bounds() {
        let text =
            r#"{"timeout":1,"sequence_id":7,"user":"Zoë","n":-12,"big":18446744073709551616,"f":1.0,"yes":true}"#;
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [own("user", "Zoë"), own("n", "-12"), own("big", "18446744073709551616"), own("yes", "true")];
        assert_eq!(request(text).unwrap().own, expected);
        let many: Vec<String> = (0..40).map(|at| format!(r#""p{at}":{at}"#)).collect();
        let kept = request(&format!("{{{}}}", many.join(","))).unwrap().own;
        assert_eq!((kept.len(), &kept[15]), (16, &own("p15", "15")));
        let long = "x".repeat(257);
        assert!(request(&format!(r#"{{"a":"{long}","{long}":1}}"#)).unwrap().own.is_empty());
    }

    #[test]
    fn an_outputs_parameters() {
        let read = |text: &str| of_output(&mut Reader::new(text.as_bytes())).unwrap();
        assert!(read(r#"{"binary_data":true}"#).binary_data);
        assert_eq!(read(r#"{"classification":3,"other":[1]}"#).classification, Some(3));
        assert!(read(r#"{"shared_memory_region":"r"}"#).shared_memory);
    }
}
