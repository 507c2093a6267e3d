//! What an Einsum's equation says.

use std::collections::BTreeMap;
use std::fmt;

use tract_onnx::tract_hir::internal::*;

/// The axes of a tensor, the same number for the same axis.
pub type Labels = TVec<usize>;

/// The number of the last axis that an ellipsis stands for; those before it follow. Letters have theirs below it.
const ELLIPSIS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Letter(u8),
    Ellipsis,
}

type Term = Vec<Mark>;

#[derive(Debug, Clone)]
pub struct Equation {
    operands: Vec<Term>,
    output: Term,
}

impl Equation {
    /// Where no output is written, it is of the letters that occur once, in the order of the alphabet, behind the ellipsis.
    ///
    /// # Errors
    /// What ONNX doesn't allow.
    pub fn parse(text: &str) -> TractResult<Self> {
        let text: String = text.chars().filter(|c| *c != ' ').collect();
        let (left, right) = text.split_once("->").map_or((&*text, None), |(left, right)| (left, Some(right)));
        let operands = left.split(',').map(term).collect::<TractResult<Vec<Term>>>()?;
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for mark in operands.iter().flatten() {
            if let Mark::Letter(letter) = mark {
                *counts.entry(*letter).or_default() += 1;
            }
        }
        let any_ellipsis = operands.iter().any(|term| term.contains(&Mark::Ellipsis));
        let output = match right {
            Some(right) => term(right)?,
            None => {
                let once = counts.iter().filter(|(_, count)| **count == 1).map(|(letter, _)| Mark::Letter(*letter));
                any_ellipsis.then_some(Mark::Ellipsis).into_iter().chain(once).collect()
            }
        };
        ensure!(!text.is_empty(), "nothing is written");
        ensure!(
            output.contains(&Mark::Ellipsis) == any_ellipsis,
            "the ellipsis of an operand has to be the output's too: {text}"
        );
        for (place, mark) in output.iter().enumerate() {
            ensure!(!output[..place].contains(mark), "an axis twice in the output: {text}");
            ensure!(operands.iter().any(|term| term.contains(mark)), "an axis of no operand in the output: {text}");
        }
        Ok(Self { operands, output })
    }

    pub fn operands(&self) -> usize {
        self.operands.len()
    }

    /// Whether the output has no axes, whatever the operands have.
    pub fn gives_one_number(&self) -> bool {
        self.output.is_empty()
    }

    /// Whether a letter is twice in an operand.
    pub fn has_diagonals(&self) -> bool {
        let twice = |term: &Term| term.iter().enumerate().any(|(place, mark)| term[..place].contains(mark));
        self.operands.iter().any(twice)
    }

    /// The axes of operands of these ranks, and those of the output.
    ///
    /// # Errors
    /// Operands that the equation doesn't fit.
    pub fn labels(&self, ranks: &[usize]) -> TractResult<(Vec<Labels>, Labels)> {
        let count = self.operands.len();
        ensure!(ranks.len() == count, "attribute 'equation' is of {count} operands, of {} given", ranks.len());
        let (mut longest, mut operands) = (0, vec![]);
        for (term, &rank) in self.operands.iter().zip(ranks) {
            let letters = term.iter().filter(|mark| **mark != Mark::Ellipsis).count();
            let more = rank.checked_sub(letters).filter(|more| *more == 0 || letters < term.len());
            let more = more.with_context(|| format!("attribute 'equation' has {letters} letters for {rank} axes"))?;
            longest = longest.max(more);
            operands.push(labels(term, more));
        }
        Ok((operands, labels(&self.output, longest)))
    }
}

impl fmt::Display for Equation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |term: &Term| -> String {
            let mark = |mark: &Mark| match mark {
                Mark::Letter(letter) => char::from(*letter).to_string(),
                Mark::Ellipsis => "...".to_owned(),
            };
            term.iter().map(mark).collect()
        };
        let operands: Vec<String> = self.operands.iter().map(text).collect();
        write!(f, "{}->{}", operands.join(","), text(&self.output))
    }
}

/// The axes of a term whose ellipsis stands for so many: ellipses go together from the last axis on.
fn labels(term: &Term, in_ellipsis: usize) -> Labels {
    let axes = |mark: &Mark| -> Vec<usize> {
        match mark {
            Mark::Letter(letter) => vec![usize::from(*letter)],
            Mark::Ellipsis => (ELLIPSIS..ELLIPSIS + in_ellipsis).rev().collect(),
        }
    };
    term.iter().flat_map(axes).collect()
}

fn term(text: &str) -> TractResult<Term> {
    let mut marks = vec![];
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        if let Some(behind) = rest.strip_prefix("...") {
            ensure!(!marks.contains(&Mark::Ellipsis), "two ellipses in {text:?}");
            marks.push(Mark::Ellipsis);
            rest = behind;
        } else {
            ensure!(first.is_ascii_alphabetic(), "{text:?} is not of letters and an ellipsis");
            marks.push(Mark::Letter(first));
            rest = &rest[1..];
        }
    }
    Ok(marks)
}
