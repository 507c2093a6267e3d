//! Runs the engine's code so that neither its panics nor the shape of its error chains reach anyone.

use tract_onnx::prelude::TractResult;

use crate::engine::ops::is_unfit;
use crate::engine::panics::caught;

/// Longest cause shown, in characters.
const MAX_CAUSE_CHARS: usize = 400;
/// Longest link of a chain of causes shown, in characters: the engine prints whole tensors and nodes.
const MAX_LINK_CHARS: usize = 160;

/// Why guarded work gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The engine's own error on one line.
    Refused(String),
    /// The same where the values or shapes of the inputs are to blame.
    Unfit(String),
    /// The text of a panic, which is for the log alone.
    Panicked(String),
}

impl Fault {
    /// A text that may be shown to an operator; a panic's text goes to the log instead.
    pub fn into_cause(self, doing: &str) -> String {
        match self {
            Self::Refused(cause) | Self::Unfit(cause) => cause,
            Self::Panicked(text) => {
                tracing::warn!(panic = %text, "the tract engine panicked while {doing}");
                format!("it panicked while {doing}; the log holds the panic's text")
            }
        }
    }
}

/// Runs `work`, turning both an error and a panic into a `Fault`.
pub fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T, Fault> {
    match caught(work) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let cause = one_line(error.chain().map(ToString::to_string));
            Err(if is_unfit(&error) { Fault::Unfit(cause) } else { Fault::Refused(cause) })
        }
        Err(text) => Err(Fault::Panicked(text)),
    }
}

fn one_line(links: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = vec![];
    for link in links {
        let link = cut(&link.split_whitespace().collect::<Vec<_>>().join(" "), MAX_LINK_CHARS);
        if shown.last() != Some(&link) {
            shown.push(link);
        }
    }
    // The root cause says most, so it is the context before it that gives way.
    while shown.len() > 1 && shown.iter().map(|link| link.chars().count() + 2).sum::<usize>() > MAX_CAUSE_CHARS {
        shown.remove(0);
    }
    shown.join(": ")
}

fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::tract_hir::internal::{TractErrorContext, anyhow};

    #[test]
    fn a_panic_becomes_a_fault_that_keeps_its_text_to_the_log() {
        let fault = guarded::<()>(|| panic!("secret {}", 1)).unwrap_err();
        assert!(matches!(&fault, Fault::Panicked(text) if text.starts_with("secret 1")), "{fault:?}");
        assert!(!fault.into_cause("running").contains("secret"));
    }

    #[test]
    fn a_chain_of_causes_becomes_one_short_line() {
        let chain = || Err::<(), _>(anyhow!("shapes\n  differ")).context("building node /c1/Conv");
        assert_eq!(guarded(chain).unwrap_err(), Fault::Refused("building node /c1/Conv: shapes differ".into()));
        let endless = || Err::<(), _>(anyhow!("root")).context("x".repeat(10_000)).context("y".repeat(10_000));
        let Fault::Refused(text) = guarded(endless).unwrap_err() else { panic!("no panic was raised") };
        assert!(text.chars().count() <= MAX_CAUSE_CHARS && text.ends_with("root"), "{text}");
    }
}
