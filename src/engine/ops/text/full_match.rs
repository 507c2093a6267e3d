//! `ai.onnx.RegexFullMatch` (version 20): whether the whole of each text matches an expression of RE2's syntax.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::Built;
use super::super::kernel::{Kernel, built};
use super::pattern::WholeMatch;
use super::{only_text, tensor, texts};

pub fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let pattern = node.get_attr_opt::<String>("pattern")?.unwrap_or_default();
    built(node, RegexFullMatch(WholeMatch::new(&pattern).context("attribute 'pattern'")?))
}

#[derive(Debug)]
struct RegexFullMatch(WholeMatch);

impl Kernel for RegexFullMatch {
    fn name(&self) -> &'static str {
        "RegexFullMatch"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec![bool::fact(only_text(self.name(), inputs)?.shape.clone())])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let matches = texts(&inputs[0])?.iter().map(|text| self.0.matches(text)).collect();
        Ok(tvec![tensor::<bool>(inputs[0].shape(), matches)?])
    }

    fn axes(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Node, run};
    use super::*;

    /// What ONNX Runtime 1.31.1 gives for the same.
    #[test]
    fn the_whole_text_must_match() {
        let texts = tensor1(&["a", "ab", "é", "", "a\n", "_"].map(str::to_owned));
        let matches =
            |pattern: &str| run(Node::new("RegexFullMatch").text("pattern", pattern), std::slice::from_ref(&texts), 1);
        assert_eq!(matches("a|ab").unwrap(), [tensor1(&[true, true, false, false, false, false])]);
        assert_eq!(matches(r"\p{L}").unwrap(), [tensor1(&[true, false, true, false, false, false])]);
        assert!(format!("{:#}", matches("[").unwrap_err()).contains("attribute 'pattern'"));
    }
}
