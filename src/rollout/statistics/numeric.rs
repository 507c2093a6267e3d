//! Numbers in log space.

use std::f64::consts::PI;

/// The largest e-value that is shown; the states themselves keep logarithms and do not overflow.
pub const E_VALUE_MAX: f64 = 1e300;

/// The e-value of its natural logarithm, at most [`E_VALUE_MAX`].
pub fn e_value(log_e: f64) -> f64 {
    if log_e >= E_VALUE_MAX.ln() { E_VALUE_MAX } else { log_e.exp() }
}

/// `ln Σ exp(x)` of at least one value.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + values.iter().map(|value| (value - most).exp()).sum::<f64>().ln()
}

/// `ln Γ(x)` for x > 0: the recurrence up to 10, then Stirling's series (DLMF 5.11.1), to about 1e-14.
pub fn log_gamma(x: f64) -> f64 {
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    let series = 1.0 / 12.0
        - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y * (1.0 / 1188.0 - y * (691.0 / 360_360.0)))));
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series / x - f64::ln(product)
}

fn log_beta(a: f64, b: f64) -> f64 {
    log_gamma(a) + log_gamma(b) - log_gamma(a + b)
}

/// `x·ln(y)`, where nothing times anything is nothing.
pub fn x_log_y(x: f64, y: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x * y.ln() }
}

/// The log-likelihood of `yes` and `no` outcomes in a given order at a rate.
pub fn log_likelihood(rate: f64, yes: f64, no: f64) -> f64 {
    x_log_y(yes, rate) + if no == 0.0 { 0.0 } else { no * (-rate).ln_1p() }
}

/// The logarithm of that likelihood averaged over rates that are Beta(a, b): `B(a+yes, b+no) / B(a, b)`.
pub fn log_beta_mixture((a, b): (f64, f64), yes: f64, no: f64) -> f64 {
    log_beta(a + yes, b + no) - log_beta(a, b)
}

/// Beta(1/2, 1/2), Jeffreys' prior: it costs at most half a logarithm of the number of outcomes over the best rate.
pub const JEFFREYS: (f64, f64) = (0.5, 0.5);

/// Where a function changes its sign between two places, to the precision of the numbers. `inside` is where it is
/// negative.
pub fn crossing(mut inside: f64, mut outside: f64, f: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..80 {
        let middle = 0.5 * (inside + outside);
        if f(middle) < 0.0 { inside = middle } else { outside = middle }
    }
    0.5 * (inside + outside)
}

/// Floats in a checkpoint as their bits: text readers may be off by the last digit.
pub mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}
