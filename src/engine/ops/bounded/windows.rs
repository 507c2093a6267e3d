//! That an image, with its padding, is as large as the window that moves over it. Where it is smaller tract gives a tensor
//! of nothing, or what the window sees of the image at a place that it doesn't have.
//!
//! By ONNX's formulas for the number of places. ONNX Runtime refuses most of these images too; some of them it pools at one
//! place, for it divides a negative number towards zero.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::{as_op, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

use super::super::unfit::unfit;

/// What the window of one node takes for granted.
#[derive(Debug, Clone)]
pub struct Reach {
    operator: String,
    kernel: Kernel,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    /// Before and behind each axis together; none where there is as much as it takes.
    pads: Option<Vec<i64>>,
    pools: bool,
    /// Whether a last place counts that lies within the image in part.
    rounds_up: bool,
}

#[derive(Debug, Clone)]
enum Kernel {
    Known(Vec<i64>),
    /// As large as the image.
    Whole,
    /// Among the node's inputs: weights by output channels, channels and then the kernel's axes.
    OfWeights(usize),
}

impl Reach {
    /// # Errors
    /// An attribute of another type.
    pub fn of(node: &NodeProto) -> TractResult<Option<Self>> {
        let weights = match node.op_type.as_str() {
            "AveragePool" | "MaxPool" => None,
            "Conv" | "ConvInteger" => Some(1),
            "QLinearConv" => Some(3),
            "GlobalAveragePool" | "GlobalMaxPool" => None,
            _ => return Ok(None),
        };
        let list = |name: &str| node.get_attr_opt_vec::<i64>(name);
        let kernel = match (list("kernel_shape")?, weights) {
            _ if node.op_type.starts_with("Global") => Kernel::Whole,
            (Some(sizes), _) => Kernel::Known(sizes),
            (None, Some(place)) => Kernel::OfWeights(place),
            (None, None) => return Ok(None),
        };
        let pads = match (list("pads")?, node.get_attr_opt::<String>("auto_pad")?.as_deref()) {
            (Some(pads), _) => {
                let (before, behind) = pads.split_at(pads.len() / 2);
                Some(before.iter().zip(behind).map(|(before, behind)| before.saturating_add(*behind)).collect())
            }
            (None, Some("SAME_UPPER" | "SAME_LOWER")) => None,
            (None, _) => Some(vec![]),
        };
        Ok(Some(Self {
            operator: node.op_type.clone(),
            kernel,
            strides: list("strides")?.unwrap_or_default(),
            dilations: list("dilations")?.unwrap_or_default(),
            pads,
            pools: weights.is_none(),
            rounds_up: node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) != 0,
        }))
    }

    /// The least size of each of the image's axes behind its channels.
    fn least(&self, kernel: &[i64]) -> Vec<i64> {
        let at = |list: &[i64], axis: usize, absent: i64| list.get(axis).copied().unwrap_or(absent);
        let least = |(axis, size): (usize, &i64)| {
            let Some(pads) = &self.pads else { return 1 };
            let window = (size - 1).saturating_mul(at(&self.dilations, axis, 1)).saturating_add(1);
            let partly = if self.pools && self.rounds_up { at(&self.strides, axis, 1) - 1 } else { 0 };
            (window.saturating_sub(at(pads, axis, 0)).saturating_sub(partly)).max(i64::from(self.pools))
        };
        kernel.iter().enumerate().map(least).collect()
    }

    /// The same for an image of this rank.
    fn least_for(&self, rank: usize, weights: impl Fn(usize) -> Option<TVec<i64>>) -> Option<Vec<i64>> {
        match &self.kernel {
            Kernel::Known(sizes) => Some(self.least(sizes)),
            Kernel::OfWeights(place) => Some(self.least(weights(*place)?.get(2..)?)),
            Kernel::Whole => Some(vec![1; rank.saturating_sub(2)]),
        }
    }

    /// # Errors
    /// An image that is known to be too small.
    pub fn check(&self, inputs: &[&InferenceFact]) -> TractResult<()> {
        // The first dimension may well be open: how many images there are is of no concern.
        let shape = |place: usize| -> Option<TVec<i64>> {
            let shape = &inputs.get(place).filter(|input| !input.shape.is_open())?.shape;
            let size = |(axis, size): (usize, &DimFact)| match axis {
                0 | 1 => Some(0),
                _ => size.concretize()?.to_i64().ok(),
            };
            shape.dims().enumerate().map(size).collect()
        };
        let Some(image) = shape(0) else { return Ok(()) };
        self.least_for(image.len(), shape).map_or(Ok(()), |least| fits(&self.operator, &image, &least))
    }

    /// What is to check the image at run, where its size is not known before and may be too small.
    pub fn guard(&self, inputs: &[&TypedFact]) -> Option<Fits> {
        let weights = |place: usize| -> Option<TVec<i64>> {
            inputs.get(place)?.shape.iter().map(|size| size.to_i64().ok()).collect()
        };
        let image = &inputs.first()?.shape;
        let least = self.least_for(image.rank(), weights)?;
        let is_open = image.iter().skip(2).any(|size| size.to_i64().is_err());
        let may_be_too_small = least.iter().any(|&least| least > 0);
        (is_open && may_be_too_small).then(|| Fits { operator: self.operator.clone(), least })
    }
}

/// # Errors
/// An image, with its batch and its channels, that is smaller.
fn fits(operator: &str, image: &[i64], least: &[i64]) -> TractResult<()> {
    let Some(sizes) = image.get(2..).filter(|sizes| sizes.len() == least.len()) else { return Ok(()) };
    if sizes.iter().zip(least).all(|(size, least)| size >= least) {
        return Ok(());
    }
    let shown = |sizes: &[i64]| sizes.iter().map(i64::to_string).collect::<Vec<_>>().join(" x ");
    let (sizes, least) = (shown(sizes), shown(least));
    Err(unfit(format!("{operator} of an image of {sizes}, for its window and padding expected at least {least}")))
}

/// Gives an image as it is, which must be large enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fits {
    operator: String,
    least: Vec<i64>,
}

impl Op for Fits {
    fn name(&self) -> StaticName {
        "Fits".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Fits {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        EvalOp::eval(self, &EvalContext::out_of_plan(), inputs).map(Some)
    }

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let shape: TVec<i64> = inputs[0].shape().iter().map(|&size| size as i64).collect();
        fits(&self.operator, &shape, &self.least)?;
        Ok(inputs)
    }
}

impl TypedOp for Fits {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    /// The image's own axes are not followed: what tract moves along them to before the check would change what it sees.
    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        let mapping = AxesMapping::disconnected(inputs, outputs)?;
        (0..2).try_fold(mapping, |mapping, axis| mapping.linking((InOut::In(0), axis), (InOut::Out(0), axis)))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::super::super::is_unfit;
    use super::super::super::testing::{Node, run};
    use super::*;

    fn pooled(node: Node, sizes: [usize; 2]) -> TractResult<Vec<usize>> {
        let image = Tensor::zero::<f32>(&[1, 2, sizes[0], sizes[1]])?;
        Ok(run(node, &[image], 1)?[0].shape().to_vec())
    }

    #[test]
    fn an_image_that_a_window_does_not_fit_into_is_refused() {
        let pool = |name: &str| Node::new(name).ints("kernel_shape", &[3, 2]);
        for name in ["AveragePool", "MaxPool"] {
            assert_eq!(pooled(pool(name), [3, 2]).unwrap(), [1, 2, 1, 1]);
            assert_eq!(pooled(pool(name).ints("pads", &[1, 0, 1, 0]), [1, 2]).unwrap(), [1, 2, 1, 1]);
            let same = |sizes| pooled(pool(name).text("auto_pad", "SAME_UPPER"), sizes);
            assert_eq!(same([1, 1]).unwrap(), [1, 2, 1, 1]);
            assert!(is_unfit(&same([0, 1]).unwrap_err()));
            let whole = |sizes| pooled(Node::new(&format!("Global{name}")), sizes);
            assert_eq!(whole([1, 1]).unwrap(), [1, 2, 1, 1]);
            assert!(is_unfit(&whole([3, 0]).unwrap_err()));
            let error = pooled(pool(name).text("auto_pad", "VALID"), [2, 5]).unwrap_err();
            let expected = format!("{name} of an image of 2 x 5, for its window and padding expected at least 3 x 2");
            assert!(is_unfit(&error) && format!("{error:#}").contains(&expected), "{error:#}");
            // A last place may lie within the image in part.
            let partly = || pool(name).ints("strides", &[2, 1]).int("ceil_mode", 1);
            assert_eq!(pooled(partly(), [2, 2]).unwrap(), [1, 2, 1, 1]);
            assert!(pooled(partly(), [1, 2]).is_err());
        }
    }

    #[test]
    fn a_convolution_knows_its_window_from_its_weights() {
        let filtered = |width: usize| {
            let inputs = [Tensor::zero::<f32>(&[1, 1, width]).unwrap(), Tensor::zero::<f32>(&[1, 1, 3]).unwrap()];
            run(Node::new("Conv").ints("dilations", &[2]).ints("pads", &[1, 0]), &inputs, 1)
        };
        assert_eq!(filtered(4).unwrap()[0].shape(), [1, 1, 1]);
        assert!(is_unfit(&filtered(3).unwrap_err()));
    }
}
