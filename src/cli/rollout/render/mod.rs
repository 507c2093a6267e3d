//! A rollout as text: a screen for people, one line for a pipe. Nothing here reads a clock or writes.

mod check;
mod look;
pub mod text;

pub use look::{Look, Tone};

use self::check::forecast;
use self::text::{bar, count, date, duration, ends, figure, fit, percent};
use crate::rollout::view::{ArmView, QuantileView, RolloutView, StepView, TransitionView, WeightsView};

/// Cells of the bar of a step's bake time; min bake is in its middle.
const BAKE_CELLS: usize = 16;

/// The whole of a rollout as lines of at most `look.width` characters. `now_ms` is Unix time in ms.
pub fn render(view: &RolloutView, look: Look, now_ms: u64) -> String {
    let mut lines = head(view, look, now_ms);
    lines.push(String::new());
    lines.extend(steps(view, look));
    if !view.arms.is_empty() {
        lines.push(String::new());
        lines.extend(arms(view, look));
    }
    for check in &view.checks {
        lines.push(String::new());
        lines.extend(check::check(check, look));
    }
    lines.push(String::new());
    lines.extend(view.guards.iter().map(|guard| check::guard(guard, look)));
    lines.push(check::sample_ratio(&view.sample_ratio, look));
    lines.extend(view.shadow.iter().flat_map(|shadow| check::shadow(shadow, look)));
    lines.extend(view.last_transition.iter().map(|last| fit(&transition(last), look.width)));
    lines.push(String::new());
    lines.join("\n")
}

/// The colour of a state.
fn tone(view: &RolloutView) -> Tone {
    match (view.state.as_str(), view.waiting_for.is_empty()) {
        ("completed", _) => Tone::Good,
        ("rolled_back" | "rolling_back" | "rejected" | "aborted", _) => Tone::Bad,
        (_, false) => Tone::Attention,
        (_, true) => Tone::Plain,
    }
}

fn head(view: &RolloutView, look: Look, now_ms: u64) -> Vec<String> {
    let until_ms = view.ended_ms.unwrap_or(now_ms);
    let state = match view.ended_ms {
        Some(ended_ms) => format!("{} {} ago", view.state, duration(now_ms.saturating_sub(ended_ms))),
        None => format!("{} for {}", view.state, duration(now_ms.saturating_sub(view.since_ms))),
    };
    let state = fit(&state, look.width / 2);
    let title = format!("{}: {} {} -> {}", view.id, view.model, view.stable, view.candidate);
    let line = ends(&title, &state, look.width);
    let left = line.strip_suffix(state.as_str()).unwrap_or(&line);
    let mut lines = vec![format!("{left}{}", look.paint(tone(view), &state))];
    let mut started = format!(
        "started {} by {}, {}",
        date(view.started_ms),
        view.requested_by,
        duration(until_ms.saturating_sub(view.started_ms))
    );
    started.push_str(if view.ended_ms.is_some() { " in all" } else { " ago" });
    if !view.reason.is_empty() {
        started = format!("{started}: {}", view.reason);
    }
    lines.push(fit(&started, look.width));
    if !view.waiting_for.is_empty() {
        let waiting = fit(&format!("waiting for: {}", view.waiting_for), look.width);
        lines.push(look.paint(Tone::Attention, &waiting));
    }
    lines
}

fn steps(view: &RolloutView, look: Look) -> Vec<String> {
    let mut lines = vec![fit(&format!("  {:<6}{:>8}  {:<44}{}", "STEP", "WEIGHT", "BAKE", "GATE"), look.width)];
    for (at, step) in view.steps.iter().enumerate() {
        let present = view.step == Some(at);
        let bake = if present { bake(step, view.bake_elapsed_ms) } else { limits(step) };
        let gate = if step.approval { format!("{}, approval", step.require) } else { step.require.clone() };
        let mark = if present { '>' } else { ' ' };
        let line = format!("{mark} {:<6}{:>8}  {bake:<44}{gate}", at + 1, percent(step.weight_bp));
        lines.push(fit(&line, look.width));
    }
    lines
}

fn limits(step: &StepView) -> String {
    format!("{} to {}", duration(step.min_bake_ms), duration(step.max_bake_ms))
}

/// The first half of the bar is the way to min bake, the second that from there to max bake.
fn bake(step: &StepView, elapsed_ms: u64) -> String {
    let half = |from_ms: u64, to_ms: u64| {
        let whole = to_ms.saturating_sub(from_ms);
        let share = if whole == 0 { 1.0 } else { elapsed_ms.saturating_sub(from_ms) as f64 / whole as f64 };
        bar(share, BAKE_CELLS / 2)
    };
    let second =
        if elapsed_ms < step.min_bake_ms { bar(0.0, BAKE_CELLS / 2) } else { half(step.min_bake_ms, step.max_bake_ms) };
    format!("{}│{second} {} of {}", half(0, step.min_bake_ms), duration(elapsed_ms), limits(step))
}

fn arms(view: &RolloutView, look: Look) -> Vec<String> {
    let cells = |cells: [String; 9]| {
        let [arm, version, weight, requests, errors, invalid, p50, p95, p99] = cells;
        let line =
            format!("{arm:<10}{version:>7}{weight:>9}{requests:>12}{errors:>8}{invalid:>9}{p50:>8}{p95:>8}{p99:>9}");
        fit(&line, look.width)
    };
    let header = ["ARM", "VERSION", "WEIGHT", "REQUESTS", "ERRORS", "INVALID", "P50 ms", "P95 ms", "P99 ms"];
    let time = |ms: Option<f64>| ms.map_or("-".to_owned(), figure);
    let row = |arm: &ArmView| {
        cells([
            arm.arm.clone(),
            arm.version.to_string(),
            weight(&view.weights, &arm.arm).map_or("-".to_owned(), percent),
            count(arm.requests),
            count(arm.errors),
            count(arm.invalid),
            time(arm.p50_ms),
            time(arm.p95_ms),
            time(arm.p99_ms),
        ])
    };
    let so_far = view.arms.iter().filter_map(so_far).map(|line| fit(&line, look.width));
    std::iter::once(cells(header.map(str::to_owned))).chain(view.arms.iter().map(row)).chain(so_far).collect()
}

/// The quantiles of the whole rollout, each with its band.
fn so_far(arm: &ArmView) -> Option<String> {
    let bound = |ms: Option<f64>| ms.map_or("?".to_owned(), figure);
    let text = |name: &str, quantile: QuantileView| {
        let QuantileView { estimate_ms, low_ms, high_ms } = quantile;
        format!("{name} {} ({} to {})", figure(estimate_ms), bound(low_ms), bound(high_ms))
    };
    let (p50, p95) = (text("P50", arm.p50_so_far?), text("P95", arm.p95_so_far?));
    Some(format!("{} so far: {p50}, {p95} ms", arm.arm))
}

fn weight(weights: &WeightsView, arm: &str) -> Option<u16> {
    match arm {
        "stable" => Some(weights.stable),
        "candidate" => Some(weights.candidate),
        "control" => Some(weights.control),
        "shadow" => Some(weights.shadow),
        _ => None,
    }
}

/// `LAST 2026-03-01T12:00:00Z baking -> deciding by headgate: min bake reached`.
fn transition(last: &TransitionView) -> String {
    format!("LAST {} {} -> {} by {}: {}", date(last.at_ms), last.from, last.to, last.actor, last.cause)
}

/// Shares as people read them, without the empty ones: `stable 80 %, candidate 10 %, control 10 %`.
pub fn weights(weights: &WeightsView) -> String {
    let shares = [
        ("stable", weights.stable),
        ("candidate", weights.candidate),
        ("control", weights.control),
        ("shadow", weights.shadow),
    ];
    let shown = shares.iter().filter(|(_, share)| *share > 0).map(|(arm, share)| format!("{arm} {}", percent(*share)));
    shown.collect::<Vec<_>>().join(", ")
}

/// A rollout in one line, for a pipe. It only changes when something of the rollout does.
pub fn line(view: &RolloutView) -> String {
    let mut parts = vec![format!("{} {} {} -> {}", view.id, view.state, view.stable, view.candidate)];
    if let Some(step) = view.step {
        parts.push(format!("step {}/{} bake {}", step + 1, view.steps.len(), duration(view.bake_elapsed_ms)));
    }
    parts.push(weights(&view.weights));
    if let Some(arm) = view.arms.iter().find(|arm| arm.arm == "candidate") {
        parts.push(format!("candidate requests {} errors {} invalid {}", arm.requests, arm.errors, arm.invalid));
    }
    for check in &view.checks {
        let harm = format!("{} of {}", figure(check.e_harm), figure(check.line));
        let safe = format!("{} of {}", figure(check.e_safe), figure(check.safe_line));
        let mut part = format!("{}: {} harm {harm} safe {safe}", check.name, check.verdict);
        let forecast = forecast(check);
        if !forecast.is_empty() {
            part = format!("{part}, {forecast}");
        }
        parts.push(part);
    }
    parts.extend(view.guards.iter().filter(|guard| guard.breached).map(|guard| format!("{} BREACHED", guard.metric)));
    if view.sample_ratio.mismatch {
        parts.push("sample ratio MISMATCH".to_owned());
    }
    if !view.waiting_for.is_empty() {
        parts.push(format!("waiting for {}", view.waiting_for));
    }
    if let (true, Some(last)) = (view.ended, &view.last_transition) {
        parts.push(last.cause.clone());
    }
    parts.join("; ").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests;
