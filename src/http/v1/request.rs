//! A predict request, by rows (`instances`) or by columns (`inputs`) -> `InferRequest`.

use super::metadata::SIGNATURE_NAME;
use super::response::Form;
use crate::budget::ByteLease;
use crate::error::{Error, Fault, Result, nearest};
use crate::http::body::Received;
use crate::http::rank::{self, Side};
use crate::inference::{InferRequest, printable};
use crate::json::reader::Kind;
use crate::json::tensor::TensorReader;
use crate::json::{Reader, once};
use crate::signature::Signature;
use crate::tensor::{DataType, Tensor};

/// Decodes a body. Shapes follow from the nesting; trailing dimensions of 1 may be left out.
///
/// # Errors
/// `Invalid` or `Mismatch`, saying what was expected and what came; `OutOfBudget`.
pub fn decode(body: &mut Received, signature: &Signature, model: &str) -> Result<(InferRequest, Form)> {
    let text = body.bytes.clone();
    let mut reader = Reader::new(&text);
    let (mut form, mut named) = (None, None);
    let mut columns = Columns::new(signature, model, &mut body.lease);
    reader.object(|key, reader| match key {
        "instances" => {
            once(&mut form, "instances' or 'inputs", Form::Rows)?;
            columns.read_rows(reader)
        }
        "inputs" => {
            once(&mut form, "instances' or 'inputs", Form::Columns)?;
            columns.read_whole(reader)
        }
        "signature_name" => once(&mut named, key, signature_name(reader)?),
        _ => Ok(reader.skip_value()?),
    })?;
    reader.finish()?;
    let form = form.ok_or_else(|| Error::invalid("expected 'instances' or 'inputs' in the request, got neither"))?;
    let inputs = columns.finish(form)?;
    Ok((InferRequest { inputs, ..InferRequest::default() }, form))
}

fn signature_name(reader: &mut Reader<'_>) -> Result<()> {
    let name = reader.string()?;
    if name.is_empty() || name == SIGNATURE_NAME {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "Serving signature name: \"{}\" not found in signature def, expected \"{SIGNATURE_NAME}\"",
        printable(&name)
    )))
}

/// The tensors of a request while they are read, one for each of the model's inputs.
struct Columns<'a> {
    signature: &'a Signature,
    model: &'a str,
    lease: &'a mut ByteLease,
    tensors: Vec<TensorReader>,
    /// Which inputs the current object has named.
    seen: Vec<bool>,
    /// Which inputs came at all.
    given: Vec<bool>,
    rows: usize,
}

impl<'a> Columns<'a> {
    fn new(signature: &'a Signature, model: &'a str, lease: &'a mut ByteLease) -> Self {
        let tensors = signature.inputs.iter().map(|spec| TensorReader::of_any_shape(spec.dtype)).collect();
        let none = vec![false; signature.inputs.len()];
        Self { signature, model, lease, tensors, seen: none.clone(), given: none, rows: 0 }
    }

    fn read_rows(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        reader.array(|reader| {
            self.read_value(1, reader)?;
            if let Some(missing) = self.seen.iter().position(|seen| !seen) {
                return Err(Error::Invalid(format!(
                    "instance {} has no value for input '{}': expected every input in each instance",
                    self.rows, self.signature.inputs[missing].name
                )));
            }
            self.rows += 1;
            Ok(())
        })
    }

    fn read_whole(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        self.read_value(0, reader)
    }

    /// Reads an object of named inputs, or the bare value of the only one.
    fn read_value(&mut self, depth: usize, reader: &mut Reader<'_>) -> Result<()> {
        self.seen.fill(false);
        if reader.peek()? == Kind::Object && !self.is_bare_base64(reader) {
            return reader.object(|key, reader| self.read_named(key, depth, reader));
        }
        if self.tensors.len() != 1 {
            return Err(Error::Invalid(format!(
                "model '{}' has {} inputs: expected an object with a value for each, got a bare value",
                self.model,
                self.tensors.len()
            )));
        }
        self.read_input(0, depth, reader)
    }

    fn read_named(&mut self, key: &str, depth: usize, reader: &mut Reader<'_>) -> Result<()> {
        let Some(position) = self.signature.inputs.iter().position(|spec| spec.name == key) else {
            let nearest = nearest(key, self.signature.inputs.iter().map(|spec| spec.name.as_str()));
            return Err(Error::mismatch(self.model, "", Fault::UnknownInput { input: printable(key), nearest }));
        };
        if self.seen[position] {
            return Err(Error::mismatch(self.model, "", Fault::DuplicateInput { input: key.to_owned() }));
        }
        self.read_input(position, depth, reader)
    }

    fn read_input(&mut self, position: usize, depth: usize, reader: &mut Reader<'_>) -> Result<()> {
        self.seen[position] = true;
        self.given[position] = true;
        self.tensors[position]
            .read_value(depth, reader, self.lease)
            .map_err(|fault| fault.of_input(&self.signature.inputs[position].name))
    }

    /// Whether the next object is the bytes of the only input rather than a name with a value.
    fn is_bare_base64(&self, reader: &Reader<'_>) -> bool {
        let [spec] = self.signature.inputs.as_slice() else { return false };
        let (mut keys, mut base64) = (0, false);
        let read = reader.clone().object(|key, reader| {
            keys += 1;
            base64 = key == "b64";
            reader.skip_value()
        });
        spec.dtype == DataType::Bytes && spec.name != "b64" && read.is_ok() && keys == 1 && base64
    }

    fn finish(self, form: Form) -> Result<Vec<(String, Tensor)>> {
        let Self { signature, tensors, given, rows, .. } = self;
        let columns = signature.inputs.iter().zip(tensors).zip(given);
        columns
            .filter(|(_, given)| *given || form == Form::Rows)
            .map(|((spec, tensor), _)| {
                let tensor = match form {
                    Form::Rows => tensor.finish_rows(rows),
                    Form::Columns => tensor.finish(),
                };
                let tensor = tensor.map_err(|fault| fault.of_input(&spec.name))?;
                Ok((spec.name.clone(), rank::fit(tensor, spec, Side::Back)))
            })
            .collect()
    }
}
