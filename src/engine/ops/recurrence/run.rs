//! A whole call: every direction of every row, step after step.

use tract_onnx::tract_hir::internal::tract_ndarray::{Array3, Array4, ArrayView2, ArrayView3, Axis, Ix2, Ix3, s};
use tract_onnx::tract_hir::internal::*;

use super::Recurrence;
use super::cell::{State, Weights};

pub fn run(recurrence: &Recurrence, inputs: &[TValue]) -> TractResult<TVec<Tensor>> {
    let three = |at: usize| -> TractResult<ArrayView3<f32>> {
        Ok(inputs[at].to_plain_array_view::<f32>()?.into_dimensionality::<Ix3>()?)
    };
    let two = |at: usize| -> TractResult<ArrayView2<f32>> {
        Ok(inputs[at].to_plain_array_view::<f32>()?.into_dimensionality::<Ix2>()?)
    };
    let states = |at: usize| three(at).map(|states| by_direction(states, recurrence.rows_first));
    let (x, w, r) = (by_direction(three(0)?, !recurrence.rows_first), three(1)?, three(2)?);
    let (rows, steps, width) = x.dim();
    // Without a width, a tensor of nothing could ask for any number of steps.
    ensure!(width > 0, "X of {:?} without a width", inputs[0].shape());
    let (directions, _, size) = r.dim();
    let lengths = lengths(recurrence, inputs, rows, steps)?;
    let bias = recurrence.inputs.bias.map(two).transpose()?;
    let peepholes = recurrence.inputs.peepholes.map(two).transpose()?;
    let hidden = recurrence.inputs.hidden.map(states).transpose()?;
    let cell = recurrence.inputs.cell.map(states).transpose()?;

    let mut y = Array4::<f32>::zeros((rows, steps, directions, size));
    let (mut last_hidden, mut last_cell) =
        (Array3::zeros((directions, rows, size)), Array3::zeros((directions, rows, size)));
    for (direction, its_cell) in recurrence.cells.iter().enumerate() {
        let gates = w.len_of(Axis(1));
        let bias = bias.as_ref().map(|bias| bias.row(direction));
        let weights = Weights {
            recurrent: r.index_axis(Axis(0), direction),
            bias: bias.map(|bias| bias.slice_move(s![gates..])),
            peepholes: peepholes.as_ref().map(|peepholes| peepholes.row(direction)),
        };
        let backwards = recurrence.reverse || direction == 1;
        for (row, &length) in lengths.iter().enumerate().take(rows) {
            let mut turned = x.index_axis(Axis(0), row).dot(&w.index_axis(Axis(0), direction).t());
            if let Some(bias) = bias {
                turned += &bias.slice(s![..gates]);
            }
            let start = |states: &Option<ArrayView3<f32>>| match states {
                Some(states) => states.slice(s![direction, row, ..]).to_vec(),
                None => vec![0.0; size],
            };
            let mut state = State { hidden: start(&hidden), cell: start(&cell) };
            for at in 0..length {
                let step = if backwards { length - 1 - at } else { at };
                its_cell.step(turned.row(step), &weights, &mut state);
                y.slice_mut(s![row, step, direction, ..]).assign(&tract_ndarray::ArrayView1::from(&state.hidden[..]));
            }
            last_hidden.slice_mut(s![direction, row, ..]).assign(&tract_ndarray::ArrayView1::from(&state.hidden[..]));
            last_cell.slice_mut(s![direction, row, ..]).assign(&tract_ndarray::ArrayView1::from(&state.cell[..]));
        }
    }
    let in_layout = |states: Array3<f32>| -> Tensor {
        by_direction(states.view(), recurrence.rows_first).as_standard_layout().into_owned().into()
    };
    let y = if recurrence.rows_first { y } else { y.permuted_axes([1, 2, 0, 3]) };
    Ok(tvec!(y.as_standard_layout().into_owned().into(), in_layout(last_hidden), in_layout(last_cell)))
}

/// Swaps the first two axes, if asked.
fn by_direction(view: ArrayView3<f32>, swaps: bool) -> ArrayView3<f32> {
    if swaps { view.permuted_axes([1, 0, 2]) } else { view }
}

/// How many steps of each row count.
fn lengths(recurrence: &Recurrence, inputs: &[TValue], rows: usize, steps: usize) -> TractResult<Vec<usize>> {
    let Some(at) = recurrence.inputs.lengths else { return Ok(vec![steps; rows]) };
    let lengths = inputs[at].cast_to::<i64>()?;
    let lengths = lengths.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(|&length| {
        let known = usize::try_from(length).ok().filter(|length| *length <= steps);
        known.with_context(|| format!("'sequence_lens' holds {length} of {steps} steps"))
    });
    let lengths = lengths.collect::<TractResult<Vec<usize>>>()?;
    ensure!(lengths.len() == rows, "'sequence_lens' of {} for {rows} rows", lengths.len());
    Ok(lengths)
}
