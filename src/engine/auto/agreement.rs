//! Whether two engines make the same of a model.

use std::sync::Arc;

use crate::engine::closeness::is_close;
use crate::engine::sample::{self, Sizes, Style, USUAL_SIZE};
use crate::engine::warm_up::{OTHER_SIZES, Patience};
use crate::engine::{Model, RunError};
use crate::signature::{Signature, TensorSpec};
use crate::tensor::Tensor;

/// How far an output may be from the other engine's, relative to its largest magnitude.
pub const TOLERANCE: f64 = 1e-3;
/// Values that are tried: zeros, and made-up ones in several ranges.
const STYLES: [Style; 4] = [Style::Zeros, Style::Signed, Style::Unit, Style::Wide];
/// Rows that are tried where both engines have a proven batch axis.
const ROWS: [usize; 2] = [1, 3];

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    Agree,
    /// The first difference, for an operator.
    Differ(String),
    /// No made-up input ran on either.
    Unknown,
}

/// Runs both models on the same made-up inputs. Blocks for at most some twenty runs of each, and no longer than a load waits
/// for made-up runs; what was compared until then counts.
pub fn compare(tract: &Arc<dyn Model>, onnxruntime: &Arc<dyn Model>) -> Agreement {
    if let Some(difference) = signatures_differ(tract.signature(), onnxruntime.signature()) {
        return Agreement::Differ(difference);
    }
    let rows = if tract.signature().batch_axes().is_some() { &ROWS[..] } else { &ROWS[..1] };
    let (mut ran, patience) = (false, Patience::new());
    for other in sizes(onnxruntime.signature()) {
        for style in STYLES {
            for &rows in rows {
                let inputs = sample::inputs(tract.signature(), Sizes { rows, other }, style);
                match (run(tract, &inputs, &patience), run(onnxruntime, &inputs, &patience)) {
                    (Err(_), Err(_)) => {}
                    // Out of what it takes for one, such as an index: no difference in what is computed.
                    (Err(_), Ok(_)) | (Ok(_), Err(_)) => {}
                    (Ok(a), Ok(b)) => {
                        ran = true;
                        if let Some(name) = first_difference(&tract.signature().outputs, &a, &b) {
                            return Agreement::Differ(format!("output '{name}' on made-up inputs of {rows} rows"));
                        }
                    }
                }
            }
        }
        if ran || patience.is_over() {
            break;
        }
    }
    if ran { Agreement::Agree } else { Agreement::Unknown }
}

/// Of dimensions that vary besides the rows; the first at which anything runs is enough.
fn sizes(signature: &Signature) -> Vec<usize> {
    if signature.only_rows_vary() { vec![USUAL_SIZE] } else { OTHER_SIZES.to_vec() }
}

fn run(model: &Arc<dyn Model>, inputs: &[Tensor], patience: &Patience) -> Result<Vec<Tensor>, RunError> {
    Ok(patience.run(|stop| model.clone().plain_session().run(inputs, stop))?.tensors)
}

fn first_difference<'a>(outputs: &'a [TensorSpec], got: &[Tensor], expected: &[Tensor]) -> Option<&'a str> {
    let differs = |index: &usize| !matches!((got.get(*index), expected.get(*index)), (Some(a), Some(b)) if is_close(a, b, TOLERANCE));
    (0..outputs.len()).find(differs).map(|index| outputs[index].name.as_str())
}

/// What the engines found out of the model itself, which must be the same for one to stand in for the other.
fn signatures_differ(one: &Signature, other: &Signature) -> Option<String> {
    let kinds = |signature: &Signature| -> Vec<_> {
        signature.inputs.iter().chain(&signature.outputs).map(|spec| (spec.name.clone(), spec.dtype)).collect()
    };
    if kinds(one) != kinds(other) {
        return Some("names or datatypes of inputs and outputs".to_owned());
    }
    (one.batch_axes() != other.batch_axes()).then(|| "the batch axis was proven on one alone".to_owned())
}
