//! What the log's files still know after a restart, so that feedback finds the predictions of the process before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::early::Told;
use super::extract::{Instance, instances};
use super::join::Sight;
use super::plan::Plan;
use super::tracker::Tracker;
use crate::inference::PredictionId;
use crate::prediction_log::entry::RolloutPart;
use crate::prediction_log::feedback::Feedback;
use crate::routing::{Arm, Weights};
use crate::tensor::{DataType, Element, Tensor};

/// How far back is looked, and how many rows at most, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreBounds {
    pub max_age: Duration,
    pub max_rows: usize,
}

impl Default for RestoreBounds {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(24 * 3600), max_rows: 500_000 }
    }
}

/// A logged row that feedback may be about.
#[derive(Debug, Clone)]
pub struct RestoredPrediction {
    pub plan: Arc<Plan>,
    pub model: String,
    pub version: u64,
    pub arm: Arm,
    pub id: PredictionId,
    pub request: String,
    pub row: u32,
    /// Of its request.
    pub rows: u32,
    /// Unix time in µs.
    pub ended_us: i64,
    pub rollout: Option<RolloutPart>,
    pub instance: Instance,
}

/// Rows that are taken in at a time, so that those who write live wait for no longer.
const AT_ONCE: usize = 256;

impl Tracker {
    /// Takes in what an earlier process has answered and was told. None of it becomes evidence for a rollout: it was that
    /// before. Rows and feedback that are known already change nothing, and those of this process are left out. Blocks for as long as the files take to be read.
    /// Gives how many predictions and pieces of feedback there were.
    pub fn restore(
        &self,
        predictions: impl Iterator<Item = RestoredPrediction>,
        feedback: impl Iterator<Item = Feedback>,
    ) -> (usize, usize) {
        let (mut rows, mut told) = (0, 0);
        let mut predictions = predictions.peekable();
        while predictions.peek().is_some() {
            let some: Vec<RestoredPrediction> = predictions.by_ref().take(AT_ONCE).collect();
            rows += some.len();
            self.with(|join| {
                for row in some {
                    if !join.is_older(row.ended_us) {
                        continue;
                    }
                    join.silence_until(row.ended_us);
                    join.see(Sight {
                        plan: &row.plan,
                        model: &row.model,
                        version: row.version,
                        arm: row.arm,
                        id: row.id,
                        row: row.row,
                        request: &row.request,
                        ended_us: row.ended_us,
                        rollout: row.rollout.as_ref(),
                        rows: row.rows,
                        instances: vec![row.instance],
                    });
                }
            });
        }
        let mut feedback = feedback.peekable();
        while feedback.peek().is_some() {
            let some: Vec<Feedback> = feedback.by_ref().take(AT_ONCE).collect();
            told += some.len();
            self.with(|join| {
                for feedback in some {
                    if !join.is_older(feedback.received_us) {
                        continue;
                    }
                    join.silence_until(feedback.received_us);
                    join.tell(&feedback.subject, Told::of(&feedback, true));
                }
            });
        }
        (rows, told)
    }
}

/// The rows of a batch of the log that were answered and whose version has a plan; a row that can't be read is left out,
/// as one is whose prediction was too large to be written.
pub fn restored(batch: &RecordBatch, plan_of: impl Fn(&str, u64) -> Option<Arc<Plan>>) -> Vec<RestoredPrediction> {
    let mut plans: HashMap<(String, u64), Option<Arc<Plan>>> = HashMap::new();
    let mut rows = vec![];
    for row in 0..batch.num_rows() {
        let cells = Cells { batch, row };
        let (Some(model), Some(version)) = (cells.text("model_name"), cells.number::<UInt64Type>("model_version"))
        else {
            continue;
        };
        let plan = plans.entry((model.to_owned(), version)).or_insert_with(|| plan_of(model, version));
        if let Some(plan) = plan.as_ref().filter(|_| cells.text("status") == Some("ok"))
            && let Some(restored) = cells.prediction(plan, model, version)
        {
            rows.push(restored);
        }
    }
    rows
}

/// One row of a batch.
struct Cells<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl<'a> Cells<'a> {
    fn column(&self, name: &str) -> Option<&'a ArrayRef> {
        self.batch.column_by_name(name).filter(|column| !column.is_null(self.row))
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        let column = self.column(name)?;
        column.as_string_opt::<i32>().map(|texts| texts.value(self.row))
    }

    fn number<T: ArrowPrimitiveType>(&self, name: &str) -> Option<T::Native> {
        self.column(name)?.as_primitive_opt::<T>().map(|numbers| numbers.value(self.row))
    }

    fn prediction(&self, plan: &Arc<Plan>, model: &str, version: u64) -> Option<RestoredPrediction> {
        let arm = Arm::ALL.into_iter().find(|arm| Some(arm.name()) == self.text("arm"))?;
        let output = self.tensor(plan.output_column.as_deref()?)?;
        let segments = plan.segments.iter().map(|segment| self.tensor(&segment.column).unwrap_or_else(no_value));
        // Each column is a tensor of one row, whatever its place in the request was.
        let mut of_row = Plan { output: 0, axis: Some(0), ..(**plan).clone() };
        for (at, segment) in of_row.segments.iter_mut().enumerate() {
            (segment.input, segment.axis, segment.element) = (at, Some(0), 0);
        }
        let inputs: Vec<Tensor> = segments.collect();
        let instance = instances(&of_row, &inputs, &[output], 1).pop()?;
        Some(RestoredPrediction {
            plan: plan.clone(),
            model: model.to_owned(),
            version,
            arm: Some(arm).filter(|arm| *arm != Arm::Shadow)?,
            id: self.text("prediction_id")?.parse().ok()?,
            request: self.text("request_id")?.to_owned(),
            row: self.number::<UInt32Type>("row_index")?,
            rows: self.number::<UInt32Type>("n_rows").unwrap_or(1),
            ended_us: self.number::<TimestampMicrosecondType>("ts")?,
            rollout: self.rollout(),
            instance,
        })
    }

    fn rollout(&self) -> Option<RolloutPart> {
        let weights = Weights::new(self.number::<UInt16Type>("weight_bp")?, self.number::<UInt16Type>("control_bp")?);
        Some(RolloutPart {
            id: self.text("rollout_id")?.into(),
            weights,
            key: self.number::<UInt64Type>("key_hash"),
            forced: self.text("assigned_by") == Some("forced"),
        })
    }

    /// What a row has in a column, as a tensor of one row.
    fn tensor(&self, column: &str) -> Option<Tensor> {
        let column = self.column(column)?;
        let values = match (column.as_fixed_size_list_opt(), column.as_list_opt::<i32>()) {
            (Some(list), _) => list.value(self.row),
            (None, Some(list)) => list.value(self.row),
            (None, None) => column.slice(self.row, 1),
        };
        tensor(&values)
    }
}

fn no_value() -> Tensor {
    Tensor::zeros(DataType::Bytes, vec![1])
}

/// An array without nulls as a tensor of one row.
fn tensor(values: &ArrayRef) -> Option<Tensor> {
    if values.null_count() > 0 {
        return None;
    }
    let shape = vec![1, values.len()];
    if let Some(texts) = values.as_string_opt::<i32>() {
        return Tensor::from_byte_elements(shape, &texts.iter().flatten().collect::<Vec<_>>()).ok();
    }
    if let Some(truths) = values.as_boolean_opt() {
        let bytes: Vec<u8> = truths.iter().flatten().map(u8::from).collect();
        return Tensor::from_elements(DataType::Bool, shape, &bytes).ok();
    }
    numbers::<Float32Type>(values, DataType::Fp32)
        .or_else(|| numbers::<Float64Type>(values, DataType::Fp64))
        .or_else(|| numbers::<Int64Type>(values, DataType::Int64))
        .or_else(|| numbers::<Int32Type>(values, DataType::Int32))
        .or_else(|| numbers::<Int16Type>(values, DataType::Int16))
        .or_else(|| numbers::<Int8Type>(values, DataType::Int8))
        .or_else(|| numbers::<UInt64Type>(values, DataType::Uint64))
        .or_else(|| numbers::<UInt32Type>(values, DataType::Uint32))
        .or_else(|| numbers::<UInt16Type>(values, DataType::Uint16))
        .or_else(|| numbers::<UInt8Type>(values, DataType::Uint8))
}

fn numbers<T: ArrowPrimitiveType<Native: Element>>(values: &ArrayRef, dtype: DataType) -> Option<Tensor> {
    let values = values.as_primitive_opt::<T>()?;
    Tensor::from_elements(dtype, vec![1, values.len()], values.values()).ok()
}
