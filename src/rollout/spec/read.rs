//! Reading a spec key by key, and the defaults of what is not there.

use std::time::Duration;

use serde_json::Value;

use super::analysis::{analysis, guards};
use super::arms;
use super::{
    Approval, AssignmentSpec, Compare, OnInconclusive, OnTimeout, Promote, Require, RolloutSpec, ShadowPhase,
    SignatureRule, Step, Validate,
};
use crate::inference::name_fault;
use crate::registry::version_policy::MAX_VERSION;
use crate::routing::BASIS_POINTS;
use crate::yaml::{self, Entry, Section, SettingsError};

/// Longest time in a spec: a year, as it is printed.
pub(super) const MAX_TIME: Duration = Duration::from_secs(31_557_600);
/// Most samples that can be asked for.
pub(super) const MAX_SAMPLES: u64 = 1_000_000_000_000;
/// Longest `reason` and `ticket`, in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// Most steps.
const MAX_STEPS: usize = 100;
/// Most inferences of the warm-up.
const MAX_WARM_UP: u64 = 10_000;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Of a step that the document lists without them.
const DEFAULT_MIN_BAKE: Duration = Duration::from_secs(5 * 60);
const DEFAULT_MAX_BAKE: Duration = Duration::from_secs(2 * 3600);
const DEFAULT_MIN_SAMPLES: u64 = 100;
const DEFAULT_APPROVAL: Approval = Approval { required: false, timeout: DAY, on_timeout: OnTimeout::Hold };

impl Default for RolloutSpec {
    /// What an empty document means.
    fn default() -> Self {
        let step = |weight_bp, min_bake_minutes: u32, max_bake_hours: u32, require| Step {
            weight_bp,
            min_bake: MINUTE * min_bake_minutes,
            max_bake: HOUR * max_bake_hours,
            min_samples: DEFAULT_MIN_SAMPLES,
            require,
            approval: DEFAULT_APPROVAL,
        };
        Self {
            route: None,
            stable: None,
            candidate: None,
            candidate_digest: None,
            reason: String::new(),
            ticket: String::new(),
            assignment: AssignmentSpec::default(),
            validate: Validate { signature: SignatureRule::Same, warm_up: 3, approval: false },
            shadow: None,
            steps: vec![
                step(100, 5, 2, Require::NoHarm),
                step(1000, 10, 6, Require::NoHarm),
                step(5000, 30, 12, Require::Safe),
            ],
            analysis: super::Analysis::default(),
            guards: vec![],
            on_inconclusive: OnInconclusive::Hold,
            promote: Promote { watch: 30 * MINUTE, keep_previous: DAY },
        }
    }
}

/// Reads a spec from a document, or from a string that holds one as YAML or JSON.
///
/// # Errors
/// The first fault, naming its key, what was expected and what came.
pub fn read(document: &Value) -> Result<RolloutSpec, SettingsError> {
    match document {
        Value::String(text) => read_text(text),
        Value::Null => Ok(RolloutSpec::default()),
        document => root(Section::root(document)?),
    }
}

/// Reads a spec from YAML or JSON text.
///
/// # Errors
/// As [`read`].
pub fn read_text(text: &str) -> Result<RolloutSpec, SettingsError> {
    root(Section::root(&yaml::parse(text.as_bytes())?)?)
}

fn root(mut root: Section<'_>) -> Result<RolloutSpec, SettingsError> {
    let mut spec = RolloutSpec {
        route: root.take("route").map(name).transpose()?,
        stable: root.take("stable").map(version).transpose()?,
        ..RolloutSpec::default()
    };
    if let Some(entry) = root.take("candidate") {
        let same = entry.bad("another version than stable");
        spec.candidate = Some(version(entry)?);
        if spec.candidate == spec.stable {
            return Err(same);
        }
    }
    spec.candidate_digest = root.take("candidate_digest").map(digest).transpose()?;
    spec.reason = root.take("reason").map(free_text).transpose()?.unwrap_or_default();
    spec.ticket = root.take("ticket").map(free_text).transpose()?.unwrap_or_default();
    if let Some(entry) = root.take("assignment") {
        spec.assignment = arms::assignment(entry.section()?)?;
    }
    if let Some(entry) = root.take("validate") {
        validate(entry.section()?, &mut spec.validate)?;
    }
    spec.shadow = root.take("shadow").map(shadow).transpose()?;
    if let Some(entry) = root.take("steps") {
        spec.steps = steps(entry)?;
    }
    if let Some(entry) = root.take("analysis") {
        spec.analysis = analysis(entry.section()?, spec.shadow.as_ref())?;
    }
    if let Some(entry) = root.take("guards") {
        spec.guards = guards(entry)?;
    }
    if let Some(entry) = root.take("on_inconclusive") {
        let words = [
            ("hold", OnInconclusive::Hold),
            ("roll_back", OnInconclusive::RollBack),
            ("approve", OnInconclusive::Approve),
        ];
        spec.on_inconclusive = entry.one_of(&words)?;
    }
    if let Some(entry) = root.take("promote") {
        spec.promote = promote(entry.section()?)?;
    }
    root.finish()?;
    super::checks::consistent(&spec)?;
    Ok(spec)
}

fn version(entry: Entry<'_>) -> Result<u64, SettingsError> {
    entry.integer(1, MAX_VERSION)
}

fn name(entry: Entry<'_>) -> Result<String, SettingsError> {
    let path = entry.path().to_owned();
    let name = entry.text()?;
    match name_fault(&name) {
        Some(reason) => Err(SettingsError::bad_value(path, "the name of a route", reason)),
        None => Ok(name),
    }
}

/// A digest as the registry writes it: 64 hexadecimal digits; `sha256:` may stand before them.
fn digest(entry: Entry<'_>) -> Result<String, SettingsError> {
    let fault = entry.bad("a SHA-256 digest of 64 hexadecimal digits");
    let text = entry.text()?;
    let digits = text.strip_prefix("sha256:").unwrap_or(&text);
    let is_digest = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { Ok(digits.to_ascii_lowercase()) } else { Err(fault) }
}

fn free_text(entry: Entry<'_>) -> Result<String, SettingsError> {
    let path = entry.path().to_owned();
    let text = entry.text()?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(SettingsError::bad_value(path, format!("at most {MAX_TEXT_BYTES} bytes"), text.len()));
    }
    Ok(text)
}

fn validate(mut section: Section<'_>, validate: &mut Validate) -> Result<(), SettingsError> {
    if let Some(entry) = section.take("signature") {
        validate.signature = entry.one_of(&[("same", SignatureRule::Same), ("any", SignatureRule::Any)])?;
    }
    if let Some(entry) = section.take("warm_up") {
        validate.warm_up = entry.integer(0, MAX_WARM_UP)? as u32;
    }
    if let Some(entry) = section.take("approval") {
        let mut approval = entry.section()?;
        validate.approval = approval.take("required").map(|entry| entry.boolean()).transpose()?.unwrap_or(false);
        approval.finish()?;
    }
    section.finish()
}

fn shadow(entry: Entry<'_>) -> Result<ShadowPhase, SettingsError> {
    /// One basis point.
    const LEAST_PERCENT: f64 = 0.01;
    let mut section = entry.section()?;
    let percent = section.take("percent").map(|entry| entry.number_within(LEAST_PERCENT, 100.0)).transpose()?;
    let min_samples = section.take("min_samples").map(|entry| entry.integer(1, MAX_SAMPLES)).transpose()?;
    let max_duration = section.take("max_duration").map(above_zero).transpose()?;
    let mut compare = Compare { atol: 1e-3, rtol: 1e-2, max_disagree_rate: 0.02 };
    if let Some(entry) = section.take("compare") {
        let mut inside = entry.section()?;
        if let Some(entry) = inside.take("atol") {
            compare.atol = entry.non_negative()?;
        }
        if let Some(entry) = inside.take("rtol") {
            compare.rtol = entry.non_negative()?;
        }
        if let Some(entry) = inside.take("max_disagree_rate") {
            compare.max_disagree_rate = entry.positive(1.0)?;
        }
        inside.finish()?;
    }
    section.finish()?;
    Ok(ShadowPhase {
        percent: percent.unwrap_or(20.0),
        min_samples: min_samples.unwrap_or(2000),
        max_duration: max_duration.unwrap_or(2 * HOUR),
        compare,
    })
}

fn above_zero(entry: Entry<'_>) -> Result<Duration, SettingsError> {
    let fault = entry.bad("a time above 0");
    let time = entry.duration(MAX_TIME)?;
    if time.is_zero() { Err(fault) } else { Ok(time) }
}

fn steps(entry: Entry<'_>) -> Result<Vec<Step>, SettingsError> {
    let fault = entry.bad(&format!("a list of 1 to {MAX_STEPS} steps"));
    let listed = entry.list()?;
    if listed.is_empty() || listed.len() > MAX_STEPS {
        return Err(fault);
    }
    let last = listed.len() - 1;
    let mut steps: Vec<Step> = vec![];
    for (at, entry) in listed.into_iter().enumerate() {
        let require = if at == last { Require::Safe } else { Require::NoHarm };
        let weight_before = steps.last().map_or(0, |step| step.weight_bp);
        steps.push(step(entry.section()?, weight_before, require)?);
    }
    Ok(steps)
}

fn step(mut section: Section<'_>, weight_before: u16, require: Require) -> Result<Step, SettingsError> {
    let path = section.path().to_owned();
    let fault = |key: &str, expected: String, got: String| {
        Err(SettingsError::bad_value(format!("{path}.{key}"), expected, got))
    };
    let Some(weight) = section.take("weight_bp") else {
        return fault("weight_bp", "basis points from 1 to 10000".to_owned(), "nothing".to_owned());
    };
    let weight_bp = weight.integer(1, BASIS_POINTS.into())? as u16;
    if weight_bp <= weight_before {
        let expected = format!("more than the step before ({weight_before}), weights rise");
        return fault("weight_bp", expected, weight_bp.to_string());
    }
    let max_bake = section.take("max_bake").map(above_zero).transpose()?;
    let default_min_bake = max_bake.map_or(DEFAULT_MIN_BAKE, |max| max.min(DEFAULT_MIN_BAKE));
    let min_bake = section.take("min_bake").map(|entry| entry.duration(MAX_TIME)).transpose()?;
    let min_bake = min_bake.unwrap_or(default_min_bake);
    let max_bake = max_bake.unwrap_or(DEFAULT_MAX_BAKE.max(min_bake));
    if min_bake > max_bake {
        let expected = format!("at most max_bake ({})", humantime::format_duration(max_bake));
        return fault("min_bake", expected, humantime::format_duration(min_bake).to_string());
    }
    let min_samples = section.take("min_samples").map(|entry| entry.integer(1, MAX_SAMPLES)).transpose()?;
    let words = [("no_harm", Require::NoHarm), ("safe", Require::Safe)];
    let require = section.take("require").map(|entry| entry.one_of(&words)).transpose()?.unwrap_or(require);
    let approval = section.take("approval").map(approval).transpose()?.unwrap_or(DEFAULT_APPROVAL);
    section.finish()?;
    let min_samples = min_samples.unwrap_or(DEFAULT_MIN_SAMPLES);
    Ok(Step { weight_bp, min_bake, max_bake, min_samples, require, approval })
}

fn approval(entry: Entry<'_>) -> Result<Approval, SettingsError> {
    let mut section = entry.section()?;
    let mut approval = DEFAULT_APPROVAL;
    if let Some(entry) = section.take("required") {
        approval.required = entry.boolean()?;
    }
    if let Some(entry) = section.take("timeout") {
        approval.timeout = above_zero(entry)?;
    }
    if let Some(entry) = section.take("on_timeout") {
        approval.on_timeout = entry.one_of(&[("hold", OnTimeout::Hold), ("roll_back", OnTimeout::RollBack)])?;
    }
    section.finish()?;
    Ok(approval)
}

fn promote(mut section: Section<'_>) -> Result<Promote, SettingsError> {
    let default = RolloutSpec::default().promote;
    let watch = section.take("watch").map(|entry| entry.duration(MAX_TIME)).transpose()?.unwrap_or(default.watch);
    let mut keep_previous = default.keep_previous.max(watch);
    if let Some(entry) = section.take("keep_previous") {
        let fault = entry.bad(&format!("at least watch ({})", humantime::format_duration(watch)));
        keep_previous = entry.duration(MAX_TIME)?;
        if keep_previous < watch {
            return Err(fault);
        }
    }
    section.finish()?;
    Ok(Promote { watch, keep_previous })
}
