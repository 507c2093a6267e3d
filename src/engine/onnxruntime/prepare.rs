//! From a file to a model that serves: the first session, the warm-up run, shared weights, the batch axis.

use ort::session::Session;

use super::NAME;
use super::convert::one_line;
use super::library::Library;
use super::memory::trim_memory;
use super::model::{OrtModel, run};
use super::recipe::{Recipe, Source};
use super::sessions::Sessions;
use super::stoppable::{LastRuns, stoppable};
use crate::engine::closeness::is_close;
use crate::engine::sample::{self, Sizes, Style, USUAL_SIZE};
use crate::engine::warm_up::{self, Patience, Sample, shapes};
use crate::engine::{LoadError, RunError};
use crate::signature::{Batching, Signature, TensorSpec};
use crate::tensor::Tensor;

/// How far a session with shared weights may be from one that holds its own, relative to the output's largest magnitude.
const SHARED_TOLERANCE: f64 = 1e-4;

/// A file that has been looked at.
pub struct Found {
    pub source: Source,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    pub file_bytes: u64,
    /// Whether its weights are worth a way of their own.
    pub share: bool,
}

/// Makes the model ready to serve. Blocks for two sessions and some twenty runs.
///
/// # Errors
/// `Unsupported` with the library's words.
pub fn prepare(library: &'static Library, found: Found) -> Result<OrtModel, LoadError> {
    let Found { source, inputs, outputs, file_bytes, share } = found;
    let refused = |cause: ort::Error| LoadError::Unsupported { engine: NAME, cause: one_line(&cause) };
    let (mut first, sharing) = match share {
        true => Recipe::sharing(library, source.clone()).map_err(refused)?,
        false => (Recipe::plain(library, source.clone()).session().map_err(refused)?, None),
    };
    let signature = Signature { inputs, outputs, batching: Batching::Unproven("not looked for yet".into()) };
    warm_up::check_declared(&signature.inputs).map_err(|cause| LoadError::Unsupported { engine: NAME, cause })?;
    check_io(&first, &signature)?;
    let axes = warm_up::likely_axes(&signature.inputs);
    let patience = Patience::new();
    let start = start(&mut first, &signature, axes.as_deref(), &patience);
    let shared = sharing.and_then(|recipe| agreeing(recipe, &signature, &start));
    let sessions = match shared {
        Some((recipe, session)) => {
            drop(first);
            Sessions::new(recipe, session)
        }
        None => Sessions::new(Recipe::plain(library, source), first),
    };
    trim_memory();
    let mut notes = vec![];
    if let Some(cause) = &start.failure {
        tracing::warn!(%cause, "the model did not run on made-up inputs");
        notes.push(warm_up::NOT_WARMED_UP.into());
    }
    let sample = Sample { axes, other: start.sizes.other, style: start.style };
    let last_runs = LastRuns::default();
    let mut model = OrtModel { signature, notes, sample, sessions, last_runs, file_bytes };
    let mut signature = model.signature.clone();
    warm_up::prove_batch_axis(&mut signature, start.sizes.other, shapes(&start.outputs), &mut |rows| {
        Ok(patience.run(|stop| model.run(rows, stop))?.tensors)
    });
    model.signature = signature;
    Ok(model)
}

/// What the library reads must be what the file was read as here: runs hand over inputs by their order.
fn check_io(session: &Session, signature: &Signature) -> Result<(), LoadError> {
    let read = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
    let told =
        |outlets: &[ort::value::Outlet]| outlets.iter().map(|outlet| outlet.name().to_owned()).collect::<Vec<_>>();
    for (read, told) in
        [(read(&signature.inputs), told(session.inputs())), (read(&signature.outputs), told(session.outputs()))]
    {
        if read != told {
            let cause =
                format!("it takes and gives '{}' where the file declares '{}'", told.join("', '"), read.join("', '"));
            return Err(LoadError::Unsupported { engine: NAME, cause });
        }
    }
    Ok(())
}

/// Where the model was found to run.
struct Start {
    sizes: Sizes,
    style: Style,
    inputs: Vec<Tensor>,
    /// What the run gave; nothing if it failed.
    outputs: Vec<Tensor>,
    failure: Option<String>,
}

fn start(session: &mut Session, signature: &Signature, axes: Option<&[Option<usize>]>, patience: &Patience) -> Start {
    let mut failure: Option<RunError> = None;
    for other in warm_up::other_sizes(&signature.inputs, axes) {
        let sizes = Sizes { rows: 1, other };
        for style in warm_up::STYLES {
            let inputs = sample::inputs_along(&signature.inputs, axes, sizes, style);
            let ran = patience.run(|stop| stoppable(stop, |options| run(session, signature, &inputs, Some(options))));
            match ran {
                Ok(ran) => return Start { sizes, style, inputs, outputs: ran.tensors, failure: None },
                Err(cause) => failure = failure.or(Some(cause)),
            }
        }
    }
    let sizes = Sizes { rows: 1, other: USUAL_SIZE };
    let failure = Some(failure.map_or_else(|| "no sizes to try".to_owned(), |cause| cause.to_string()));
    Start { sizes, style: Style::Signed, inputs: vec![], outputs: vec![], failure }
}

/// The recipe with a session of it, if that gives what the first session gave.
fn agreeing(recipe: Recipe, signature: &Signature, start: &Start) -> Option<(Recipe, Session)> {
    if start.failure.is_some() {
        return None;
    }
    let mut session = recipe.session().inspect_err(|cause| tracing::debug!(%cause, "weights are not shared")).ok()?;
    let ran = run(&mut session, signature, &start.inputs, None).ok()?;
    let agrees =
        ran.tensors.iter().zip(&start.outputs).all(|(got, expected)| is_close(got, expected, SHARED_TOLERANCE));
    if !agrees {
        tracing::debug!("weights are not shared: the optimised graph gives other outputs when it is read again");
    }
    agrees.then_some((recipe, session))
}
