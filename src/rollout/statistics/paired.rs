//! The same request through both versions: which one fails more often?

use serde::{Deserialize, Serialize};

use super::numeric::{JEFFREYS, e_value, log_beta_mixture, log_likelihood};

/// The sign test of discordant pairs as an e-process.
///
/// Of requests that went through both versions only those count in which exactly one of the two had the event (McNemar).
/// If the versions are equally good, that one is the candidate with probability 1/2. The evidence is
/// `E = B(½+x, ½+y) / (B(½,½) · 2^−(x+y))` with x pairs where only the candidate had the event and y where only the other
/// one had it. How often the answers differ at all is a rate; [`super::AbsoluteCertificate`] holds it against a maximum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PairedSign {
    candidate_only: u64,
    other_only: u64,
}

impl PairedSign {
    /// One pair. Where both or neither had the event it says nothing.
    pub fn observe(&mut self, candidate_had_it: bool, other_had_it: bool) {
        match (candidate_had_it, other_had_it) {
            (true, false) => self.candidate_only += 1,
            (false, true) => self.other_only += 1,
            _ => {}
        }
    }

    /// Pairs in which only the candidate had the event.
    pub fn candidate_only(&self) -> u64 {
        self.candidate_only
    }

    /// Pairs in which only the other version had it.
    pub fn other_only(&self) -> u64 {
        self.other_only
    }

    /// Evidence that the versions differ, in either direction. The natural logarithm.
    pub fn log_e(&self) -> f64 {
        self.log_e_against(0.5)
    }

    /// The same, at most [`super::E_VALUE_MAX`].
    pub fn e_value(&self) -> f64 {
        e_value(self.log_e())
    }

    /// Evidence that the candidate is the worse one: against a probability of at most 1/2. The natural logarithm.
    pub fn log_e_worse(&self) -> f64 {
        let pairs = self.candidate_only + self.other_only;
        if pairs == 0 {
            return 0.0;
        }
        self.log_e_against((self.candidate_only as f64 / pairs as f64).min(0.5))
    }

    /// The same, at most [`super::E_VALUE_MAX`].
    pub fn e_worse(&self) -> f64 {
        e_value(self.log_e_worse())
    }

    fn log_e_against(&self, probability: f64) -> f64 {
        let (x, y) = (self.candidate_only as f64, self.other_only as f64);
        log_beta_mixture(JEFFREYS, x, y) - log_likelihood(probability, x, y)
    }
}
