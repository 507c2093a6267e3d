//! One step of each kind of recurrence, by the formulas of ONNX's operators.

use tract_onnx::tract_hir::internal::tract_ndarray::{ArrayView1, ArrayView2, s};

use super::activation::Activation;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Rnn,
    Gru {
        /// Whether the hidden state is multiplied before it is reset (`linear_before_reset`).
        resets_after: bool,
    },
    Lstm {
        /// Whether what is forgotten is what is not taken in (`input_forget`).
        couples: bool,
    },
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rnn => "RNN",
            Self::Gru { .. } => "GRU",
            Self::Lstm { .. } => "LSTM",
        }
    }

    pub fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    /// The usual functions of one direction.
    pub fn activations(self) -> &'static [Activation] {
        match self {
            Self::Rnn => &[Activation::Tanh],
            Self::Gru { .. } => &[Activation::Sigmoid, Activation::Tanh],
            Self::Lstm { .. } => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        }
    }
}

/// One direction of a recurrence.
#[derive(Debug)]
pub struct Cell {
    pub kind: Kind,
    pub activations: Vec<Activation>,
    pub clip: Option<f32>,
}

/// The weights of one direction.
pub struct Weights<'a> {
    /// `[gates * hidden, hidden]`
    pub recurrent: ArrayView2<'a, f32>,
    /// What is added to the product with R, `[gates * hidden]`; that to the product with W is in the step's input.
    pub bias: Option<ArrayView1<'a, f32>>,
    /// `[3 * hidden]`, for the gates i, o and f.
    pub peepholes: Option<ArrayView1<'a, f32>>,
}

/// What goes from one step of a row to the next.
pub struct State {
    pub hidden: Vec<f32>,
    /// Only an LSTM's.
    pub cell: Vec<f32>,
}

impl Cell {
    /// One step; `input` is the step's input times W, with its bias.
    pub fn step(&self, input: ArrayView1<f32>, weights: &Weights, state: &mut State) {
        let mut turned = weights.recurrent.dot(&ArrayView1::from(&state.hidden[..]));
        if let Some(bias) = &weights.bias {
            turned += bias;
        }
        match self.kind {
            Kind::Rnn => {
                for (at, hidden) in state.hidden.iter_mut().enumerate() {
                    *hidden = self.gate(0, input[at] + turned[at]);
                }
            }
            Kind::Gru { resets_after } => self.gru(input, turned.view(), weights, resets_after, state),
            Kind::Lstm { couples } => self.lstm(input, turned.view(), weights, couples, state),
        }
    }

    fn gru(
        &self,
        input: ArrayView1<f32>,
        turned: ArrayView1<f32>,
        weights: &Weights,
        resets_after: bool,
        state: &mut State,
    ) {
        let size = state.hidden.len();
        let gate = |at: usize| self.gate(0, input[at] + turned[at]);
        let (update, reset): (Vec<f32>, Vec<f32>) = (0..size).map(|at| (gate(at), gate(size + at))).unzip();
        let candidate: Vec<f32> = match resets_after {
            true => (0..size).map(|at| reset[at] * turned[2 * size + at]).collect(),
            false => {
                let left: Vec<f32> = reset.iter().zip(&state.hidden).map(|(reset, hidden)| reset * hidden).collect();
                let recurrent = weights.recurrent.slice(s![2 * size.., ..]);
                let mut turned = recurrent.dot(&ArrayView1::from(&left[..]));
                if let Some(bias) = &weights.bias {
                    turned += &bias.slice(s![2 * size..]);
                }
                turned.to_vec()
            }
        };
        for (at, hidden) in state.hidden.iter_mut().enumerate() {
            let new = self.gate(1, input[2 * size + at] + candidate[at]);
            *hidden = (1.0 - update[at]) * new + update[at] * *hidden;
        }
    }

    fn lstm(
        &self,
        input: ArrayView1<f32>,
        turned: ArrayView1<f32>,
        weights: &Weights,
        couples: bool,
        state: &mut State,
    ) {
        let size = state.hidden.len();
        for at in 0..size {
            let sum = |gate: usize| input[gate * size + at] + turned[gate * size + at];
            let peep = |gate: usize, cell: f32| weights.peepholes.map_or(0.0, |all| all[gate * size + at] * cell);
            let before = state.cell[at];
            let taken = self.gate(0, sum(0) + peep(0, before));
            let kept = if couples { 1.0 - taken } else { self.gate(0, sum(2) + peep(2, before)) };
            let cell = kept * before + taken * self.gate(1, sum(3));
            let shown = self.gate(0, sum(1) + peep(1, cell));
            state.cell[at] = cell;
            state.hidden[at] = shown * self.activations[2].apply(cell);
        }
    }

    /// A gate's function of its input, which is clipped first. ONNX Runtime leaves the LSTM's cell as it is.
    fn gate(&self, function: usize, x: f32) -> f32 {
        let x = self.clip.map_or(x, |clip| x.clamp(-clip, clip));
        self.activations[function].apply(x)
    }
}
