//! The statistics of a rollout: pure functions and states, with no clock, no I/O and no randomness of their own.
//!
//! Every signal is turned into a yes or no (an event) for each request or key: an error, slower than a threshold, not
//! finite, differs from stable. The evidence is an **e-process**: a running number that starts at 1 and whose
//! expectation never exceeds 1 while the null hypothesis holds. By Ville's inequality it then ever reaches `1/alpha`
//! with a probability of at most `alpha`, however often one looks (G. Shafer, *Testing by betting*, 2021). So the
//! evidence may be read at every event, and a rollout may stop as soon as it is enough.
//!
//! | What | Answers |
//! |---|---|
//! | [`RateRatio`] | do events hit the candidate more (or less) often than `ratio` times the comparator? |
//! | [`RatioInterval`] | between which values does that ratio lie? |
//! | [`AbsoluteCertificate`] | is a rate below (or above) a fixed maximum? |
//! | [`SampleRatio`] | does the router split as the weights say? |
//! | [`PairedSign`] | of requests that went through both versions, which one fails more often? |
//! | [`LatencyHistogram`], [`QuantileBand`] | quantiles of a latency, and how well they are known |
//! | [`KeyedEvents`] | has this key had an event in this step already? |
//! | [`judge`], [`forecast`] | the verdict of a check, and how far away it is |
//!
//! All states are of constant or bounded size and are read back from a checkpoint bit for bit.

mod absolute;
mod band;
mod forecast;
mod histogram;
mod keyed_events;
mod numeric;
mod paired;
mod rate_ratio;
mod ratio_interval;
mod sample_ratio;
#[cfg(test)]
mod tests;
mod verdict;

pub use absolute::{AbsoluteCertificate, requests_without_event};
pub use band::{QuantileBand, QuantileBounds};
pub use forecast::{Observed, forecast};
pub use histogram::LatencyHistogram;
pub use keyed_events::KeyedEvents;
pub use numeric::E_VALUE_MAX;
pub use paired::PairedSign;
pub use rate_ratio::RateRatio;
pub use ratio_interval::{RatioBounds, RatioInterval};
pub use sample_ratio::SampleRatio;
pub use verdict::{Check, Evidence, Judgement, Verdict, judge};
