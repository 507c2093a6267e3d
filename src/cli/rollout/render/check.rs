//! What the checks, guards and the shadow have found so far.

use super::look::{Look, Tone};
use super::text::{about, bar, count, ends, evidence_share, figure, fit};
use crate::rollout::view::{CheckView, GuardView, SampleRatioView, ShadowView};

/// Cells of a bar of evidence.
const BAR_CELLS: usize = 28;

/// The lines of one check: its verdict, the estimate, the evidence on both sides, and the way that is left.
pub fn check(view: &CheckView, look: Look) -> Vec<String> {
    let mut title = format!("CHECK {}: {} against {}", view.name, view.event, view.against);
    for (is_so, word) in [(view.critical, ", critical"), (view.dry_run, ", dry run")] {
        title.push_str(if is_so { word } else { "" });
    }
    let counts = format!(
        "  candidate {} of {}, {} {} of {}",
        count(view.candidate.events),
        count(view.candidate.requests),
        view.against,
        count(view.comparator.events),
        count(view.comparator.requests)
    );
    let mut lines = vec![
        verdict_line(&title, &view.verdict, look),
        fit(&format!("  {}", estimate(view)), look.width),
        fit(&counts, look.width),
        evidence("harm", view.e_harm, view.line, (look, Tone::Bad)),
        evidence("safe", view.e_safe, view.safe_line, (look, Tone::Good)),
    ];
    for more in [forecast(view), view.note.clone()].into_iter().filter(|more| !more.is_empty()) {
        lines.push(fit(&format!("  {more}"), look.width));
    }
    lines
}

/// The verdict at the right end, in its colour.
fn verdict_line(title: &str, verdict: &str, look: Look) -> String {
    let tone = match verdict {
        "pass" => Tone::Good,
        "fail" => Tone::Bad,
        _ => Tone::Plain,
    };
    let verdict = fit(verdict, look.width / 2);
    let line = ends(title, &verdict, look.width);
    let left = line.strip_suffix(verdict.as_str()).unwrap_or(&line);
    format!("{left}{}", look.paint(tone, &verdict))
}

fn estimate(view: &CheckView) -> String {
    let lines = format!("harm above {}, safe below {}", figure(view.harm_ratio), figure(view.safe_ratio));
    let Some(ratio) = view.ratio else { return format!("ratio not known yet; {lines}") };
    let interval = match (view.ratio_low, view.ratio_high) {
        (None, None) => String::new(),
        (low, high) => {
            format!(" ({} to {})", low.map_or("0".to_owned(), figure), high.map_or("any".to_owned(), figure))
        }
    };
    format!("ratio {}{interval}; {lines}", figure(ratio))
}

fn evidence(side: &str, e_value: f64, line: f64, (look, tone): (Look, Tone)) -> String {
    let share = evidence_share(e_value, line);
    let text = format!("  {side}  {}  {} of {}", bar(share, BAR_CELLS), figure(e_value), figure(line));
    look.paint(if share >= 1.0 { tone } else { Tone::Plain }, &fit(&text, look.width))
}

/// `pass in about 3m (1,200 requests)`; empty where there is a verdict or nothing can be said.
pub fn forecast(view: &CheckView) -> String {
    if ["pass", "fail"].contains(&view.verdict.as_str()) {
        return String::new();
    }
    match (view.seconds_to_verdict, view.samples_to_verdict) {
        (None, None) => String::new(),
        (None, Some(samples)) => format!("pass after about {} more requests", count(samples)),
        (Some(seconds), None) => format!("pass in about {}", about(seconds)),
        (Some(seconds), Some(samples)) => format!("pass in about {} ({} requests)", about(seconds), count(samples)),
    }
}

/// One line: the value and its limit.
pub fn guard(view: &GuardView, look: Look) -> String {
    let value = view.value.map_or("not known yet".to_owned(), figure);
    let (word, tone) = if view.breached { ("BREACHED", Tone::Bad) } else { ("ok", Tone::Plain) };
    let line = ends(&format!("GUARD {}: {value}, at most {}", view.metric, figure(view.max)), word, look.width);
    if view.breached { look.paint(tone, &line) } else { line }
}

/// One line: whether the router's shares are those of the weights.
pub fn sample_ratio(view: &SampleRatioView, look: Look) -> String {
    let total = view.candidate + view.others;
    let got = match total {
        0 => "no requests yet".to_owned(),
        total => format!("{} % of {}", figure(100.0 * view.candidate as f64 / total as f64), count(total)),
    };
    let line = format!(
        "SAMPLE RATIO {got}, expected {} %; evidence {} of {}",
        figure(100.0 * view.expected_share),
        figure(view.e_value),
        figure(view.line)
    );
    let (word, tone) = if view.mismatch { ("MISMATCH", Tone::Bad) } else { ("ok", Tone::Plain) };
    look.paint(tone, &ends(&line, word, look.width))
}

/// What the copies have shown.
pub fn shadow(view: &ShadowView, look: Look) -> Vec<String> {
    let same_class = view.same_class.map_or(String::new(), |same| format!("; same class in {}", count(same)));
    let time = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{} ms", figure(ms)));
    [
        format!(
            "SHADOW {} % of requests: {} compared, {} disagree",
            figure(view.percent),
            count(view.compared),
            count(view.disagreements)
        ),
        format!(
            "  largest difference {} absolute, {} relative{same_class}",
            figure(view.max_abs_difference),
            figure(view.max_rel_difference)
        ),
        format!(
            "  p50 {} beside {}; {} dropped, {} failed",
            time(view.shadow_p50_ms),
            time(view.primary_p50_ms),
            count(view.dropped),
            count(view.failed)
        ),
    ]
    .map(|line| fit(&line, look.width))
    .into()
}
