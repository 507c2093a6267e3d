//! `Attention` (ONNX 23 to 25) with what tract's own lacks or gets wrong: masks, a cache with causal order, windows, softcap,
//! the product of queries and keys as an output, and caches of their own length (`nonpad_kv_seqlen`).
//!
//! tract's stays for the plain cases, where it is faster. Ours computes in FLOAT, one head of one row after the other.

mod mask;
mod run;

use tract_onnx::model::{OnnxOpRegister, ParsingContext, optional_inputs, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::kernel::{Kernel, built};

/// Most heads that an attribute may name.
const MAX_HEADS: i64 = 1 << 16;

/// What tract's own operator is called beside ours.
const TRACTS: &str = "HeadgateTractAttention";

/// Puts ours in the place of tract's, and that under another name.
pub fn register(register: &mut OnnxOpRegister) {
    if let Some(tracts) = register.0.get("Attention").copied() {
        register.insert(TRACTS, tracts);
    }
    register.insert("Attention", build);
}

fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let attention = Attention::read(node)?;
    let has_y = optional_outputs(node).next().flatten().is_some();
    match context.framework.op_register.0.get(TRACTS) {
        Some(tracts) if has_y && attention.is_plain() => tracts(context, node),
        _ => built(node, attention),
    }
}

/// The places of optional inputs among those that are there.
#[derive(Debug, Default)]
struct Inputs {
    mask: Option<usize>,
    past_key: Option<usize>,
    past_value: Option<usize>,
    /// How many keys of each row count, where the cache is kept outside (`nonpad_kv_seqlen`).
    lengths: Option<usize>,
}

/// What the output `qk_matmul_output` shows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    Product,
    Capped,
    Biased,
    Probabilities,
}

#[derive(Debug)]
struct Attention {
    inputs: Inputs,
    query_heads: Option<usize>,
    key_heads: Option<usize>,
    scale: Option<f32>,
    softcap: f32,
    is_causal: bool,
    /// Keys that a query sees before and after its own place; `None` for all.
    window: (Option<usize>, Option<usize>),
    shown: Shown,
    /// Whether the node has that output.
    shows: bool,
}

impl Attention {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let heads = |name: &str| -> TractResult<Option<usize>> {
            let heads = node.get_attr_opt::<i64>(name)?.filter(|heads| *heads != 0);
            ensure!(heads.is_none_or(|heads| (1..=MAX_HEADS).contains(&heads)), "attribute '{name}' holds {heads:?}");
            Ok(heads.map(|heads| heads as usize))
        };
        let side = |name: &str| -> TractResult<Option<usize>> {
            let size = node.get_attr_opt::<i64>(name)?.unwrap_or(-1);
            ensure!(size >= -1, "attribute '{name}' holds {size}");
            Ok(usize::try_from(size).ok())
        };
        let softcap = node.get_attr_opt::<f32>("softcap")?.unwrap_or(0.0);
        ensure!(softcap >= 0.0, "attribute 'softcap' holds {softcap}");
        let shown = match node.get_attr_opt::<i64>("qk_matmul_output_mode")?.unwrap_or(0) {
            0 => Shown::Product,
            1 => Shown::Capped,
            2 => Shown::Biased,
            3 => Shown::Probabilities,
            other => bail!("attribute 'qk_matmul_output_mode' holds {other}"),
        };
        let mut held = optional_inputs(node).chain(std::iter::repeat(None));
        ensure!((0..3).all(|_| held.next().flatten().is_some()), "it needs its queries, keys and values");
        let mut next = || held.next().flatten();
        let inputs = Inputs { mask: next(), past_key: next(), past_value: next(), lengths: next() };
        ensure!(inputs.past_key.is_some() == inputs.past_value.is_some(), "of past keys and values one is left out");
        ensure!(inputs.past_key.is_none() || inputs.lengths.is_none(), "'nonpad_kv_seqlen' beside past keys");
        Ok(Self {
            inputs,
            query_heads: heads("q_num_heads")?,
            key_heads: heads("kv_num_heads")?,
            scale: node.get_attr_opt("scale")?,
            softcap,
            is_causal: node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) != 0,
            window: (side("left_window_size")?, side("right_window_size")?),
            shown,
            shows: optional_outputs(node).nth(3).flatten().is_some(),
        })
    }

    /// Whether tract's own computes it, and rightly.
    fn is_plain(&self) -> bool {
        let has_window = self.window != (None, None);
        let continues = self.is_causal && self.inputs.past_key.is_some();
        let odd = has_window || continues || self.softcap > 0.0 || self.shows || self.shown != Shown::Product;
        !odd && self.inputs.mask.is_none() && self.inputs.lengths.is_none()
    }

    /// The sizes of queries, keys and values as `[rows, heads, places, width]`.
    fn split<D: DimLike>(&self, inputs: &[&[D]]) -> TractResult<[[D; 4]; 3]> {
        let mut split = vec![];
        for (shape, heads) in inputs.iter().zip([self.query_heads, self.key_heads, self.key_heads]) {
            split.push(match shape {
                [rows, heads, places, width] => [rows.clone(), heads.clone(), places.clone(), width.clone()],
                [rows, places, width] => {
                    let heads = heads.context("attributes 'q_num_heads' and 'kv_num_heads' are needed for 3 axes")?;
                    if let Ok(width) = width.to_usize() {
                        ensure!(width % heads == 0, "{heads} heads don't divide {width}");
                    }
                    [rows.clone(), heads.into(), places.clone(), width.clone() / heads]
                }
                _ => bail!("an input of {} axes instead of 3 or 4", shape.len()),
            });
        }
        split.try_into().map_err(|_| anyhow!("it needs its queries, keys and values"))
    }
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 3, "it needs its queries, keys and values");
        let floats = inputs[..3].iter().chain(self.inputs.past_key.map(|at| &inputs[at]));
        for input in floats.chain(self.inputs.past_value.map(|at| &inputs[at])) {
            ensure!(input.datum_type == DatumType::F32, "an input of {:?} instead of FLOAT", input.datum_type);
        }
        let shapes: Vec<TVec<TDim>> = inputs.iter().map(|input| input.shape.to_tvec()).collect();
        let [queries, keys, values] = self.split(&[&*shapes[0], &*shapes[1], &*shapes[2]])?;
        let mut all_keys = keys[2].clone();
        if let Some(past) = self.inputs.past_key {
            ensure!(shapes[past].len() == 4, "past keys of {} axes instead of 4", shapes[past].len());
            all_keys += &shapes[past][2];
        }
        let [rows, heads, places, _] = queries;
        let y = match shapes[0].len() {
            4 => tvec!(rows.clone(), heads.clone(), places.clone(), values[3].clone()),
            _ => tvec!(rows.clone(), places.clone(), heads.clone() * &values[3]),
        };
        let [key_rows, key_heads, _, key_width] = keys;
        let [value_rows, value_heads, _, value_width] = values;
        let mut made = tvec!(
            f32::fact(y),
            f32::fact([key_rows, key_heads, all_keys.clone(), key_width]),
            f32::fact([value_rows, value_heads, all_keys.clone(), value_width]),
        );
        made.extend(self.shows.then(|| f32::fact([rows, heads, places, all_keys])));
        Ok(made)
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        run::run(self, inputs)
    }
}

#[cfg(test)]
mod tests;
