//! What every engine does with a model that it has just read: finds inputs on which it runs, proves its batch axis, and
//! knows from then on what made-up inputs look like.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::batch_axis::{Candidate, Runner, candidates, prove};
use super::declared_shapes;
use super::rows::slice_rows;
use super::sample::{self, Sizes, Style, USUAL_SIZE};
use crate::signature::{Batching, Signature, TensorSpec};
use crate::tensor::Tensor;

/// Sizes tried for dimensions that vary and are not the batch, until one runs: a short sequence or a small image, the
/// usual image, a frame of audio, and then what odd graphs want.
pub const OTHER_SIZES: [usize; 7] = [USUAL_SIZE, 64, 224, 576, 1, 8, 2];
/// Values tried at each size.
pub const STYLES: [Style; 3] = [Style::Signed, Style::Zeros, Style::Ones];
/// The note of a model that ran on nothing that was made up for it.
pub const NOT_WARMED_UP: &str = "not warmed up: it ran on none of the inputs made up for it; the log has the cause";

/// Most bytes of the inputs of one row that are made up, where the file leaves their sizes open.
const MAX_MADE_UP_BYTES: u64 = 64 << 20;
/// Most bytes of the inputs of one row by the sizes that the file declares; no request brings as many.
pub const MAX_DECLARED_BYTES: u64 = 256 << 20;
/// What a text counts as: it is held in more than one form at a time.
const TEXT_BYTES: u64 = 64;
/// Most bytes of one row that rows are proven with; larger rows gain nothing by a batch.
const MAX_PROVEN_BYTES: u64 = 16 << 20;
/// Most time of one run on made-up inputs, and of all that fail. A loop may not end on them.
const RUN_TIME: Duration = Duration::from_secs(5);
/// Most time of all runs on made-up inputs of one model, so that a load ends within ten seconds. A row of a quarter of a second
/// finds the time for all that is tried.
const ALL_TIME: Duration = Duration::from_secs(8);

/// How long runs on made-up inputs are waited for. After one that does not end in time, none is.
pub struct Patience {
    ends: Instant,
    run_time: Duration,
    /// The time of runs that failed.
    lost: Cell<Duration>,
    is_over: Cell<bool>,
}

impl Patience {
    pub fn new() -> Self {
        Self::of(RUN_TIME, ALL_TIME)
    }

    fn of(run_time: Duration, all_time: Duration) -> Self {
        Self { ends: Instant::now() + all_time, run_time, lost: Cell::default(), is_over: Cell::new(false) }
    }

    /// Whether a run did not end in time, so that no other is begun.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Gives `run` what it is to ask between operators.
    pub fn run<T, E>(&self, run: impl FnOnce(&dyn Fn() -> bool) -> Result<T, E>) -> Result<T, E> {
        let begun = Instant::now();
        let ends = self.ends.min(begun + self.run_time.saturating_sub(self.lost.get()));
        let ran = run(&|| {
            self.is_over.set(self.is_over.get() || Instant::now() >= ends);
            self.is_over.get()
        });
        if ran.is_err() {
            self.lost.set(self.lost.get() + begun.elapsed());
        }
        ran
    }
}

/// Bytes of a tensor by the sizes that the file declares, others taken for one, and so are
/// sizes of nothing.
pub fn declared_bytes(spec: &TensorSpec) -> u64 {
    bytes(spec, None, Sizes { rows: 1, other: 1 })
}

/// # Errors
/// Inputs that by their declared sizes are beyond all reason, by the name of the largest.
pub fn check_declared(inputs: &[TensorSpec]) -> Result<(), String> {
    let all = inputs.iter().map(declared_bytes).fold(0, u64::saturating_add);
    let Some(largest) = inputs.iter().max_by_key(|spec| declared_bytes(spec)).filter(|_| all > MAX_DECLARED_BYTES)
    else {
        return Ok(());
    };
    let size = declared_bytes(largest);
    Err(format!(
        "one row of its inputs takes {all} bytes ('{}' takes {size}), at most {MAX_DECLARED_BYTES} are served",
        largest.name
    ))
}

fn bytes(spec: &TensorSpec, batch_axis: Option<usize>, sizes: Sizes) -> u64 {
    let width = spec.dtype.size().map_or(TEXT_BYTES, |size| size as u64);
    // Even a tensor of nothing is gone through along its other dimensions.
    let times = |bytes: u64, &size: &usize| bytes.saturating_mul(size.max(1) as u64);
    sample::shape(spec, batch_axis, sizes).iter().fold(width, times)
}

/// What the model was found to run on when it was loaded.
pub struct Sample {
    /// Where rows were looked for, which is of use where none were proven.
    pub axes: Option<Vec<Option<usize>>>,
    /// The size of every dimension that varies, rows aside.
    pub other: usize,
    pub style: Style,
}

impl Sample {
    /// Inputs of `rows` rows, or of one row where no batch axis is proven.
    pub fn inputs(&self, signature: &Signature, rows: usize) -> Vec<Tensor> {
        let Self { axes, other, style } = self;
        if signature.batch_axes().is_some() {
            return sample::inputs(signature, Sizes { rows, other: *other }, *style);
        }
        sample::inputs_along(&signature.inputs, axes.as_deref(), Sizes { rows: 1, other: *other }, *style)
    }
}

/// The axis of each input where rows are looked for first.
pub fn likely_axes(inputs: &[TensorSpec]) -> Option<Vec<Option<usize>>> {
    candidates(inputs).into_iter().next().map(|Candidate { axes, .. }| axes)
}

/// The sizes of [`OTHER_SIZES`] that make a difference to these inputs.
pub fn other_sizes(inputs: &[TensorSpec], axes: Option<&[Option<usize>]>) -> Vec<usize> {
    let varies = varies(inputs, axes, [Sizes { rows: 1, other: 1 }, Sizes { rows: 1, other: 2 }]);
    if !varies {
        return OTHER_SIZES[..1].to_vec();
    }
    let declared = inputs.iter().map(declared_bytes).fold(0, u64::saturating_add);
    let fits = |&other: &usize| {
        let axis = |input: usize| axes.and_then(|axes| axes[input]);
        let all = inputs.iter().enumerate().map(|(input, spec)| bytes(spec, axis(input), Sizes { rows: 1, other }));
        all.fold(0, u64::saturating_add) <= declared.max(MAX_MADE_UP_BYTES)
    };
    OTHER_SIZES.into_iter().filter(fits).collect()
}

/// Whether inputs of one of these sizes have other shapes than those of the other.
pub fn varies(inputs: &[TensorSpec], axes: Option<&[Option<usize>]>, [one, other]: [Sizes; 2]) -> bool {
    let axis = |input: usize| axes.and_then(|axes| axes[input]);
    let shapes = |sizes| -> Vec<Vec<usize>> {
        inputs.iter().enumerate().map(|(input, spec)| sample::shape(spec, axis(input), sizes)).collect()
    };
    shapes(one) != shapes(other)
}

/// Proves the batch axis by running the model as it will serve, and corrects the declared outputs by what it gave.
/// `other` is the size of the other dimensions that vary, `first_shapes` those of the outputs of a run before.
pub fn prove_batch_axis(signature: &mut Signature, other: usize, first_shapes: Vec<Vec<usize>>, run: &mut Runner) {
    let row = signature.inputs.iter().map(declared_bytes);
    if row.fold(0, u64::saturating_add) > MAX_PROVEN_BYTES {
        signature.batching = Batching::Unproven(format!("a row has more than {MAX_PROVEN_BYTES} bytes"));
        return;
    }
    let mut observed = vec![first_shapes];
    let (batching, dim) = prove(&signature.inputs, &signature.outputs, other, &mut |rows| {
        let tensors = run(rows)?;
        observed.push(shapes(&tensors));
        Ok(tensors)
    });
    declared_shapes::correct(&mut signature.outputs, &observed, &batching, dim.as_deref());
    signature.batching = batching;
}

/// The shape of each tensor.
pub fn shapes(tensors: &[Tensor]) -> Vec<Vec<usize>> {
    tensors.iter().map(|tensor| tensor.shape().to_vec()).collect()
}

/// The inputs with one row of zeros where the batch has no rows; `None` where it has some. No rows in give no rows out,
/// but few graphs take a dimension of nothing, so one row is run for the outputs' shapes and [`without_rows`] leaves it
/// out.
pub fn one_row_for_none(signature: &Signature, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
    let axes = signature.batch_axes()?;
    if signature.batch_size(inputs) > 0 {
        return None;
    }
    let filled = |(tensor, axis): (&Tensor, &Option<usize>)| match axis {
        None => tensor.clone(),
        Some(axis) => {
            let mut shape = tensor.shape().to_vec();
            shape[*axis] = 1;
            Tensor::zeros(tensor.dtype(), shape)
        }
    };
    Some(inputs.iter().zip(&axes.inputs).map(filled).collect())
}

/// The outputs of a run of one row, less that row.
pub fn without_rows(signature: &Signature, outputs: Vec<Tensor>) -> Vec<Tensor> {
    let axes = signature.batch_axes().map(|axes| axes.outputs.as_slice()).unwrap_or_default();
    let cut = |(tensor, axis): (Tensor, &Option<usize>)| match axis {
        Some(axis) => slice_rows(&tensor, *axis, 0, 0),
        None => tensor,
    };
    outputs.into_iter().zip(axes).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{BatchAxes, Dim};
    use crate::tensor::DataType;

    #[test]
    fn a_batch_of_no_rows_is_run_as_one_row_and_cut_again() {
        let spec = |name: &str, dims| TensorSpec {
            name: name.into(),
            dtype: DataType::Fp32,
            dims: Some(dims),
            classes: vec![],
        };
        let rows = vec![Dim::Named("N".into()), Dim::Fixed(2)];
        let axes = BatchAxes { inputs: vec![Some(0), None], outputs: vec![Some(0)] };
        let signature = Signature {
            inputs: vec![spec("x", rows.clone()), spec("k", vec![Dim::Fixed(1)])],
            outputs: vec![spec("y", rows)],
            batching: Batching::Proven(axes),
        };
        let of = |shape: &[usize]| Tensor::zeros(DataType::Fp32, shape.to_vec());
        assert!(one_row_for_none(&signature, &[of(&[1, 2]), of(&[1])]).is_none());
        let filled = one_row_for_none(&signature, &[of(&[0, 2]), of(&[1])]).unwrap();
        assert_eq!(shapes(&filled), [vec![1, 2], vec![1]]);
        assert_eq!(shapes(&without_rows(&signature, vec![of(&[1, 2])])), [vec![0, 2]]);
    }

    #[test]
    fn after_a_run_that_does_not_end_none_is_waited_for() {
        let patience = Patience::of(Duration::from_millis(20), Duration::from_secs(60));
        let asked = |patience: &Patience| patience.run(|stop| Ok::<_, ()>(stop())).unwrap();
        assert!(!asked(&patience));
        patience.run(|stop| Ok::<_, ()>((0..).take_while(|_| !stop()).count())).unwrap();
        assert!(asked(&patience));
        assert!(asked(&Patience::of(Duration::from_secs(60), Duration::ZERO)));
    }

    #[test]
    fn runs_that_fail_are_waited_for_as_long_as_one() {
        let patience = Patience::of(Duration::from_millis(20), Duration::from_secs(60));
        let slept = |outcome: Result<(), ()>| {
            std::thread::sleep(Duration::from_millis(15));
            outcome
        };
        patience.run(|_| slept(Ok(()))).unwrap();
        assert!(!patience.run(|stop| Ok::<_, ()>(stop())).unwrap());
        for _ in 0..2 {
            patience.run(|_| slept(Err(()))).unwrap_err();
        }
        assert!(patience.run(|stop| Ok::<_, ()>(stop())).unwrap());
    }

    #[test]
    fn sizes_beyond_all_reason_are_neither_made_up_nor_served() {
        let spec = |dims: &[Dim]| {
            [TensorSpec { name: "x".into(), dtype: DataType::Fp32, dims: Some(dims.to_vec()), classes: vec![] }]
        };
        let open = spec(&[const { Dim::Unknown }; 4]);
        assert_eq!(other_sizes(&open, None), [16, 64, 1, 8, 2]);
        assert_eq!(other_sizes(&spec(&[Dim::Unknown, Dim::Fixed(1 << 26)]), None), [1]);
        assert!(check_declared(&open).is_ok());
        let cause = check_declared(&spec(&[Dim::Unknown, Dim::Fixed(1 << 62), Dim::Fixed(1 << 62)])).unwrap_err();
        assert!(cause.contains("'x'") && cause.contains("at most 268435456"), "{cause}");
    }

    #[test]
    fn sizes_are_tried_only_where_they_make_a_difference() {
        let spec = |dims| [TensorSpec { name: "x".into(), dtype: DataType::Fp32, dims: Some(dims), classes: vec![] }];
        let rows = spec(vec![Dim::Named("N".into()), Dim::Fixed(2)]);
        assert_eq!(other_sizes(&rows, likely_axes(&rows).as_deref()), [USUAL_SIZE]);
        let text = spec(vec![Dim::Named("N".into()), Dim::Named("T".into())]);
        assert_eq!(other_sizes(&text, likely_axes(&text).as_deref()), OTHER_SIZES);
    }
}
