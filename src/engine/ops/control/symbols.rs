//! Dimensions that only a run tells.

use std::collections::HashSet;

use tract_onnx::model::ParsingContext;
use tract_onnx::tract_hir::internal::*;

/// The symbols in the shapes of values.
pub fn symbols<'a>(facts: impl IntoIterator<Item = &'a TypedFact>) -> HashSet<Symbol> {
    facts.into_iter().flat_map(|fact| fact.shape.iter()).flat_map(|dim| dim.symbols()).collect()
}

/// Makes symbols of one model's scope, the same for the same axis.
#[derive(Debug, Clone)]
pub struct Fresh(TVec<Symbol>);

/// Highest rank of a tensor whose dimensions may differ between branches or turns.
const MAX_RANK: usize = 8;

impl Fresh {
    pub fn of(context: &ParsingContext) -> Self {
        Self((0..MAX_RANK).map(|_| context.template.symbols.new_with_prefix("inner")).collect())
    }

    pub fn axis(&self, axis: usize) -> TractResult<TDim> {
        self.0
            .get(axis)
            .map(|symbol| symbol.to_dim())
            .with_context(|| format!("a tensor of more than {MAX_RANK} dimensions"))
    }
}
