//! Inputs as they are written on the command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use crate::cli::failure::Failure;
use crate::npz::{self, MAX_BYTES};
use crate::tensor::{Tensor, shape_text};

/// `NAME=@FILE.npy`, `NAME=@FILE.json` or `NAME=JSON`, not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputArg {
    name: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Json(String),
}

/// An input that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    pub value: InputValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum InputValue {
    /// From NumPy, which knows its datatype.
    Tensor(Tensor),
    /// From JSON: elements in row-major order, whose datatype the model's metadata tells.
    Json { shape: Vec<usize>, elements: Vec<Value> },
}

impl FromStr for InputArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("expected NAME=@FILE or NAME=JSON, such as x=[[1,2,3]]")?;
        let source = match value.strip_prefix('@') {
            Some(path) => Source::File(path.into()),
            None => Source::Json(value.to_owned()),
        };
        Ok(Self { name: name.to_owned(), source })
    }
}

impl InputArg {
    /// Reads the input's file, if it is one, and its elements.
    ///
    /// # Errors
    /// `NotFound` for a file that isn't there, `Refused` with what was expected for anything else.
    pub fn read(&self) -> Result<Input, Failure> {
        let refused = |text: String| Failure::Refused(format!("input '{}': {text}", self.name));
        let value = match &self.source {
            Source::Json(text) => parse_json(text.as_bytes()).map_err(refused)?,
            Source::File(path) => {
                let bytes = self.read_file(path)?;
                if path.extension().is_some_and(|extension| extension == "npy") {
                    InputValue::Tensor(npz::read_npy(&bytes).map_err(|cause| refused(cause.to_string()))?)
                } else {
                    parse_json(&bytes).map_err(refused)?
                }
            }
        };
        Ok(Input { name: self.name.clone(), value })
    }

    fn read_file(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let fault = |what: String| format!("input '{}': {}: {what}", self.name, path.display());
        let read = std::fs::metadata(path).and_then(|metadata| match metadata.len() {
            0..=MAX_BYTES => std::fs::read(path).map(Ok),
            long => Ok(Err(Failure::Refused(fault(format!("it has {long} bytes, at most {MAX_BYTES} are read"))))),
        });
        read.map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => Failure::NotFound(fault(cause.to_string())),
            _ => Failure::Refused(fault(cause.to_string())),
        })?
    }
}

fn parse_json(text: &[u8]) -> Result<InputValue, String> {
    let value: Value = serde_json::from_slice(text).map_err(|cause| {
        format!("expected JSON such as [[1,2,3]] or [\"text\"] ({cause}); a file is named with @, as in @x.npy")
    })?;
    let mut shape = vec![];
    let mut level = &value;
    while let Value::Array(items) = level {
        shape.push(items.len());
        let Some(first) = items.first() else { break };
        level = first;
    }
    let mut elements = vec![];
    flatten(value, &shape, 0, &mut elements)?;
    Ok(InputValue::Json { shape, elements })
}

/// Appends the elements under `value`, which lies `depth` lists deep.
fn flatten(value: Value, shape: &[usize], depth: usize, elements: &mut Vec<Value>) -> Result<(), String> {
    match (value, shape.get(depth)) {
        (Value::Array(items), Some(&expected)) if items.len() == expected => {
            items.into_iter().try_for_each(|item| flatten(item, shape, depth + 1, elements))
        }
        (Value::Array(items), Some(&expected)) => {
            Err(format!("rows differ in length: expected {expected} elements as in the first, got {}", items.len()))
        }
        (Value::Bool(_) | Value::Number(_) | Value::String(_), Some(_)) | (Value::Array(_), None) => {
            Err(format!("expected lists nested as deep as the first, which has shape {}", shape_text(shape)))
        }
        (Value::Null | Value::Object(_), _) => {
            Err("expected numbers, booleans or strings, got null or an object".into())
        }
        (element, None) => {
            elements.push(element);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Input, String> {
        text.parse::<InputArg>().and_then(|input| input.read().map_err(|failure| failure.to_string()))
    }

    #[test]
    fn json_gives_its_shape() {
        for (text, shape, elements) in [
            ("x=[[1,2],[3,4],[5,6]]", vec![3, 2], vec![json!(1), json!(2), json!(3), json!(4), json!(5), json!(6)]),
            ("x=7", vec![], vec![json!(7)]),
            ("x=[]", vec![0], vec![]),
            ("x=[[],[]]", vec![2, 0], vec![]),
            ("x=[\"a=b\", \"c\"]", vec![2], vec![json!("a=b"), json!("c")]),
        ] {
            let input = read(text).unwrap();
            assert_eq!(input.name, "x");
            assert_eq!(input.value, InputValue::Json { shape, elements }, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (text, expected) in [
            ("x", "expected NAME=@FILE or NAME=JSON"),
            ("=1", "expected NAME=@FILE or NAME=JSON"),
            ("x=hello", "input 'x': expected JSON such as [[1,2,3]] or [\"text\"]"),
            ("x=[[1,2],[3]]", "rows differ in length: expected 2 elements as in the first, got 1"),
            ("x=[[1],2]", "nested as deep as the first, which has shape [2,1]"),
            ("x=[1,[2]]", "nested as deep as the first, which has shape [2]"),
            ("x=[null]", "got null or an object"),
            ("x=@no-such-file.npy", "input 'x': no-such-file.npy: No such file"),
            ("x=@Cargo.toml", "expected JSON such as"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.contains(expected), "{text}: {fault}");
        }
        assert!(matches!("x=@no-such-file".parse::<InputArg>().unwrap().read(), Err(Failure::NotFound(_))));
    }
}
