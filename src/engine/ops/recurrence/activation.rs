//! The functions of a recurrence, with their parameters.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// One of ONNX's functions for recurrences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    Affine(f32, f32),
    Elu(f32),
    HardSigmoid(f32, f32),
    LeakyRelu(f32),
    Relu,
    ScaledTanh(f32, f32),
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu(f32),
}

impl Activation {
    /// The functions of every direction, one direction after the other; `usual` for each where the node names none.
    /// Those that take parameters take the next ones of `activation_alpha` and `activation_beta`, or their usual ones
    /// where these lists are at an end. Affine, ScaledTanh and ThresholdedRelu must have theirs: ONNX names no usual ones
    /// or others than the 0 of ONNX Runtime.
    pub fn read(node: &NodeProto, usual: &[Self], directions: usize) -> TractResult<Vec<Self>> {
        let Some(names) = node.get_attr_opt_vec::<String>("activations")?.filter(|names| !names.is_empty()) else {
            return Ok(usual.repeat(directions));
        };
        let wanted = usual.len() * directions;
        ensure!(names.len() == wanted, "attribute 'activations' has {} entries instead of {wanted}", names.len());
        let list = |name: &str| TractResult::Ok(node.get_attr_opt_vec::<f32>(name)?.unwrap_or_default().into_iter());
        let (mut alphas, mut betas) = (list("activation_alpha")?, list("activation_beta")?);
        let named = |name: &String| {
            let missing = |list: &str| format!("attribute '{list}' has no entry for '{name}'");
            let mut alpha = || alphas.next().with_context(|| missing("activation_alpha"));
            let mut beta = || betas.next().with_context(|| missing("activation_beta"));
            // Names are compared without case (ONNX, RNN).
            Ok(match &*name.to_ascii_lowercase() {
                "affine" => Self::Affine(alpha()?, beta()?),
                "elu" => Self::Elu(alpha().unwrap_or(1.0)),
                "hardsigmoid" => Self::HardSigmoid(alpha().unwrap_or(0.2), beta().unwrap_or(0.5)),
                "leakyrelu" => Self::LeakyRelu(alpha().unwrap_or(0.01)),
                "relu" => Self::Relu,
                "scaledtanh" => Self::ScaledTanh(alpha()?, beta()?),
                "sigmoid" => Self::Sigmoid,
                "softplus" => Self::Softplus,
                "softsign" => Self::Softsign,
                "tanh" => Self::Tanh,
                "thresholdedrelu" => Self::ThresholdedRelu(alpha()?),
                _ => bail!("attribute 'activations' holds '{name}'"),
            })
        };
        names.iter().map(named).collect()
    }

    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Affine(alpha, beta) => alpha * x + beta,
            Self::Elu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x.exp_m1()
                }
            }
            Self::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            Self::LeakyRelu(alpha) => {
                if x >= 0.0 {
                    x
                } else {
                    alpha * x
                }
            }
            Self::Relu => x.max(0.0),
            Self::ScaledTanh(alpha, beta) => alpha * (beta * x).tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Tanh => x.tanh(),
            Self::ThresholdedRelu(alpha) => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
        }
    }
}
