//! What a candidate must show before it gets any traffic.

use crate::engine::Model;
use crate::rollout::spec::{RolloutSpec, SignatureRule};
use crate::routing::{Split, validity};
use crate::servable::Servable;
use crate::signature::{Signature, TensorSpec};
use crate::tensor::Tensor;

/// Checks the signature, and that the candidate's outputs are finite where stable's are. Runs both models, so it
/// is for a thread that may block.
///
/// # Errors
/// Why the candidate is not fit, as a sentence.
pub fn validate(spec: &RolloutSpec, split: &Split) -> Result<(), String> {
    let (stable, candidate) = (&split.stable.servable, &split.candidate.servable);
    if spec.validate.signature == SignatureRule::Same {
        same_signature(stable.signature(), candidate.signature())?;
    }
    warm_up(spec.validate.warm_up, stable, candidate)
}

/// Names, datatypes and shapes; how rows batch is each version's own business.
fn same_signature(stable: &Signature, candidate: &Signature) -> Result<(), String> {
    for (kind, stable, candidate) in
        [("input", &stable.inputs, &candidate.inputs), ("output", &stable.outputs, &candidate.outputs)]
    {
        for expected in stable {
            let found = candidate.iter().find(|spec| spec.name == expected.name);
            let text = |spec: &TensorSpec| format!("{} {:?}", spec.dtype.name(), spec.wire_shape());
            match found {
                None => return Err(format!("the candidate has no {kind} '{}', which stable has", expected.name)),
                Some(spec) if text(spec) != text(expected) => {
                    return Err(format!(
                        "{kind} '{}': stable has {}, the candidate {} (validate.signature: any allows it)",
                        expected.name,
                        text(expected),
                        text(spec)
                    ));
                }
                Some(_) => {}
            }
        }
        if let Some(extra) = candidate.iter().find(|spec| !stable.iter().any(|known| known.name == spec.name)) {
            return Err(format!("the candidate has {kind} '{}', which stable has not", extra.name));
        }
    }
    Ok(())
}

/// Runs both versions on made-up inputs, of as many rows as the number of the run.
fn warm_up(runs: u32, stable: &Servable, candidate: &Servable) -> Result<(), String> {
    for rows in 1..=runs as usize {
        let inputs = stable.model.sample_inputs(rows);
        // Made-up inputs that stable itself can't run prove nothing.
        let Ok(expected) = run(stable, &inputs) else { continue };
        let got = run(candidate, &inputs).map_err(|cause| {
            format!("warm-up: the candidate could not run {rows} made-up rows that stable could: {cause}")
        })?;
        if validity::is_valid(stable, &expected) && !validity::is_valid(candidate, &got) {
            return Err(format!(
                "warm-up: the candidate's outputs are not finite or out of range on {rows} made-up rows, where stable's are"
            ));
        }
    }
    Ok(())
}

fn run(servable: &Servable, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let model: std::sync::Arc<dyn Model> = servable.model.clone();
    let output = model.session().run(inputs, &|| false);
    output.map(|output| output.tensors).map_err(|error| error.to_string())
}
