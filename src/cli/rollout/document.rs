//! A document as YAML that people read, and that `--spec` takes again.

use serde_json::Value;

/// Longest line that a mapping or list shares.
const LINE: usize = 96;

/// Writes a document as YAML: what fits in a line is in one, the rest in blocks.
pub fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        _ => out = format!("{}\n", flow(value)),
    }
    out
}

fn block(out: &mut String, value: &Value, indent: usize) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                entry(out, &format!("{margin}{}:", scalar(key)), value, indent + 2);
            }
        }
        Value::Array(items) => {
            for item in items {
                entry(out, &format!("{margin}-"), item, indent + 2);
            }
        }
        _ => {}
    }
}

/// A key or a dash with what it introduces, on its line or in a block below.
fn entry(out: &mut String, introduction: &str, value: &Value, indent: usize) {
    let line = format!("{introduction} {}", flow(value));
    let deep = value.as_object().is_some_and(|map| map.values().any(is_filled))
        || value.as_array().is_some_and(|items| items.iter().any(is_filled));
    if is_filled(value) && (deep || line.chars().count() > LINE) {
        out.push_str(introduction);
        out.push('\n');
        block(out, value, indent);
    } else {
        out.push_str(&line);
        out.push('\n');
    }
}

/// Whether a value has parts of its own.
fn is_filled(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|items| !items.is_empty())
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}

/// A text without quotes where YAML reads it back as the same text, else with JSON's, which YAML reads too.
///
/// Source: YAML 1.2.2, section 7.3.3 (plain style) and 10.3 (core schema).
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ' | '>' | '<' | '=' | '+');
    let begins_as_text = text.starts_with(|c: char| c.is_ascii_alphabetic())
        || (text.starts_with(|c: char| c.is_ascii_digit()) && is_duration(text));
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if begins_as_text && !is_word && !text.ends_with(' ') && text.chars().all(plain) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

/// Digits and units such as `5m` or `1h 30m`, which no number is written as.
fn is_duration(text: &str) -> bool {
    text.split(' ').all(|part| {
        let unit = part.trim_start_matches(|c: char| c.is_ascii_digit());
        unit.len() < part.len() && ["ms", "s", "m", "min", "h", "d", "day", "days"].contains(&unit)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_reads_as_people_write_it_and_back() {
        let spec = json!({
            "stable": {"version": 1},
            "shadow": null,
            "steps": [{"weight_bp": 100, "min_bake": "5m"}, {"weight_bp": 5000, "approval": {"required": true}}],
            "checks": [],
            "analysis": {"alpha": 0.05, "checks": [{"name": "slow", "event": "latency > slo"}]},
            "odd": {"no": "yes", "e": "1e3", "colon": "a: b", "empty": "", "hash": "a #b", "wait": "1h 30m"},
        });
        let text = yaml(&spec);
        assert_eq!(
            text,
            "stable: {version: 1}\n\
             shadow: null\n\
             steps:\n\
             \x20 - {weight_bp: 100, min_bake: 5m}\n\
             \x20 -\n\
             \x20   weight_bp: 5000\n\
             \x20   approval: {required: true}\n\
             checks: []\n\
             analysis:\n\
             \x20 alpha: 0.05\n\
             \x20 checks:\n\
             \x20   - {name: slow, event: latency > slo}\n\
             odd: {\"no\": \"yes\", e: \"1e3\", colon: \"a: b\", empty: \"\", hash: \"a #b\", wait: 1h 30m}\n"
        );
        assert_eq!(crate::yaml::parse(text.as_bytes()).unwrap(), spec);
        assert_eq!(yaml(&json!({})), "{}\n");
    }
}
