//! `ai.onnx.NonMaxSuppression` (version 11): the boxes of each class by falling score, without those that overlap a
//! better one.
//!
//! In place of tract's, which takes no scalars for limits and thresholds and reads a limit of 0 as none. Follows ONNX
//! Runtime: boxes of equal score come by index, and a box without an area overlaps none.

use tract_onnx::model::{ParsingContext, optional_inputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::Built;
use super::kernel::{Kernel, built};

/// Numbers of a box.
const BOX: usize = 4;

pub fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let by_center = match node.get_attr_opt::<i64>("center_point_box")?.unwrap_or(0) {
        0 => false,
        1 => true,
        other => bail!("attribute 'center_point_box' is {other}, not 0 or 1"),
    };
    let mut places = optional_inputs(node).skip(2);
    let mut place = || places.next().flatten();
    let (limit, overlap, score) = (place(), place(), place());
    let selected = context.template.symbols.new_with_prefix("selected");
    built(node, NonMaxSuppression { by_center, limit, overlap, score, selected })
}

#[derive(Debug)]
struct NonMaxSuppression {
    /// Whether a box is its center, width and height, and not two corners.
    by_center: bool,
    /// Where the optional inputs are: most boxes of a class, most overlap, least score.
    limit: Option<usize>,
    overlap: Option<usize>,
    score: Option<usize>,
    selected: Symbol,
}

impl Kernel for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "NonMaxSuppression"
    }

    fn facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() >= 2, "NonMaxSuppression lacks boxes or scores");
        let (boxes, scores) = (inputs[0], inputs[1]);
        let is_float = |fact: &TypedFact| fact.datum_type == f32::datum_type() && fact.rank() == 3;
        ensure!(is_float(boxes) && is_float(scores), "boxes and scores of NonMaxSuppression are not floats of rank 3");
        ensure!(boxes.shape[2] == BOX.to_dim(), "a box of NonMaxSuppression is not 4 numbers");
        Ok(tvec![i64::fact([self.selected.to_dim(), 3.to_dim()])])
    }

    fn eval(&self, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
        let (boxes, scores) = (&inputs[0], &inputs[1]);
        let ([batches, spatial, BOX], [of, classes, scored]) = (boxes.shape(), scores.shape()) else {
            bail!("boxes are not [N, B, 4] or scores not [N, C, B]");
        };
        ensure!(batches == of && spatial == scored, "boxes of {:?} have scores of {:?}", boxes.shape(), scores.shape());
        let rule = self.rule(inputs)?;
        let (boxes, scores) =
            (boxes.try_as_plain_ram()?.as_slice::<f32>()?, scores.try_as_plain_ram()?.as_slice::<f32>()?);
        let mut selected: Vec<i64> = vec![];
        if *spatial > 0 && *classes > 0 {
            let images = boxes.chunks_exact(spatial * BOX).zip(scores.chunks_exact(classes * spatial));
            for (batch, (boxes, scores)) in images.enumerate() {
                let areas: Vec<Area> = boxes.chunks_exact(BOX).map(|numbers| self.area(numbers)).collect();
                for (class, scores) in scores.chunks_exact(*spatial).enumerate() {
                    let kept = rule.kept(&areas, scores);
                    selected.extend(kept.into_iter().flat_map(|index| [batch as i64, class as i64, index as i64]));
                }
            }
        }
        Ok(tvec![tract_ndarray::Array2::from_shape_vec((selected.len() / 3, 3), selected)?.into()])
    }

    fn mints_symbols(&self) -> bool {
        true
    }
}

impl NonMaxSuppression {
    fn rule(&self, inputs: &[TValue]) -> TractResult<Rule> {
        fn only<T: Datum + Copy>(inputs: &[TValue], place: Option<usize>) -> TractResult<Option<T>> {
            let Some(input) = place.and_then(|place| inputs.get(place)) else { return Ok(None) };
            ensure!(input.len() == 1, "a limit of NonMaxSuppression has {} values", input.len());
            Ok(input.cast_to::<T>()?.try_as_plain_ram()?.as_slice::<T>()?.first().copied())
        }
        let limit = only::<i64>(inputs, self.limit)?.unwrap_or(0);
        let overlap = only::<f32>(inputs, self.overlap)?.unwrap_or(0.0);
        ensure!((0.0..=1.0).contains(&overlap), "iou_threshold {overlap} is not within 0 and 1");
        let least = only::<f32>(inputs, self.score)?;
        Ok(Rule { limit: usize::try_from(limit).unwrap_or(0), overlap, least })
    }

    fn area(&self, numbers: &[f32]) -> Area {
        let [a, b, c, d] = [numbers[0], numbers[1], numbers[2], numbers[3]];
        if self.by_center {
            let (half_width, half_height) = (c / 2.0, d / 2.0);
            Area { x: (a - half_width, a + half_width), y: (b - half_height, b + half_height) }
        } else {
            Area { x: (b.min(d), b.max(d)), y: (a.min(c), a.max(c)) }
        }
    }
}

struct Rule {
    limit: usize,
    overlap: f32,
    least: Option<f32>,
}

impl Rule {
    /// Indices of the boxes of one class that are kept, best first. Time is at most the square of the boxes.
    fn kept(&self, areas: &[Area], scores: &[f32]) -> Vec<usize> {
        let is_candidate = |&index: &usize| self.least.is_none_or(|least| scores[index] > least);
        let mut candidates: Vec<usize> = (0..areas.len()).filter(is_candidate).collect();
        // Stable, so that equal scores keep the order of their indices.
        candidates.sort_by(|&left, &right| scores[right].total_cmp(&scores[left]));
        let mut kept: Vec<usize> = vec![];
        for candidate in candidates {
            if kept.len() >= self.limit {
                break;
            }
            if !kept.iter().any(|&better| areas[better].overlap(&areas[candidate]) > self.overlap) {
                kept.push(candidate);
            }
        }
        kept
    }
}

/// The least and largest coordinates of a box.
struct Area {
    x: (f32, f32),
    y: (f32, f32),
}

impl Area {
    fn size(&self) -> f32 {
        (self.x.1 - self.x.0) * (self.y.1 - self.y.0)
    }

    /// The area of both as a part of the area of either; 0 where one has none.
    fn overlap(&self, other: &Self) -> f32 {
        let width = self.x.1.min(other.x.1) - self.x.0.max(other.x.0);
        let height = self.y.1.min(other.y.1) - self.y.0.max(other.y.0);
        if width <= 0.0 || height <= 0.0 {
            return 0.0;
        }
        let both = width * height;
        let (left, right) = (self.size(), other.size());
        let either = left + right - both;
        if left <= 0.0 || right <= 0.0 || either <= 0.0 { 0.0 } else { both / either }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Node, run};
    use super::*;

    fn boxes() -> [Tensor; 2] {
        let boxes = tensor3(&[[
            [0f32, 0.0, 1.0, 1.0],
            [0.0, 0.1, 1.0, 1.1],
            [0.0, -0.1, 1.0, 0.9],
            [0.0, 10.0, 1.0, 11.0],
            [0.0, 10.1, 1.0, 11.1],
            [0.0, 100.0, 1.0, 101.0],
        ]]);
        [boxes, tensor3(&[[[0.9f32, 0.75, 0.6, 0.95, 0.5, 0.3]]])]
    }

    fn selected(limits: &[Tensor]) -> Vec<i64> {
        let inputs: Vec<Tensor> = boxes().into_iter().chain(limits.iter().cloned()).collect();
        let output = run(Node::new("NonMaxSuppression"), &inputs, 1).unwrap().remove(0);
        output.try_as_plain_ram().unwrap().as_slice::<i64>().unwrap().chunks(3).map(|row| row[2]).collect()
    }

    /// `test_nonmaxsuppression_suppress_by_IOU` and its kin of ONNX's node tests, with scalars as exporters write them.
    #[test]
    fn overlapping_boxes_give_way_to_better_ones() {
        assert_eq!(selected(&[tensor0(3i64), tensor0(0.5f32), tensor0(0.0f32)]), [3, 0, 5]);
        assert_eq!(selected(&[tensor1(&[2i64]), tensor1(&[0.5f32]), tensor1(&[0.0f32])]), [3, 0]);
        assert_eq!(selected(&[tensor0(9i64), tensor0(0.5f32), tensor0(0.4f32)]), [3, 0]);
        assert_eq!(selected(&[tensor0(9i64), tensor0(1.0f32)]), [3, 0, 1, 2, 4, 5]);
    }

    /// As ONNX has it: without a limit nothing is selected.
    #[test]
    fn a_limit_of_0_selects_nothing() {
        assert!(selected(&[tensor0(0i64), tensor0(0.5f32)]).is_empty());
        assert!(selected(&[]).is_empty());
    }

    #[test]
    fn shapes_that_do_not_belong_together_are_refused() {
        let [boxes, _] = boxes();
        let limit = tensor0(1i64);
        let scores = tensor3(&[[[0.5f32]]]);
        assert!(run(Node::new("NonMaxSuppression"), &[boxes, scores, limit], 1).is_err());
    }
}
