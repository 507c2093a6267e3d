//! `headgate.v1.FeedbackService`: what really happened, as a stream of batches.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::deframer::Leases;
use super::stream::shutting_down;
use crate::data_plane::DataPlane;
use crate::prediction_log::feedback::{Told, ToldTime, ToldValue, check_count, unix_us};
use crate::proto::headgate::v1::feedback::{Subject, Value};
use crate::proto::headgate::v1::feedback_service_server::FeedbackService;
use crate::proto::headgate::v1::{Feedback, FeedbackBatch, FeedbackError, FeedbackSummary};

/// Items at fault that a summary names; it counts them all.
const MAX_ERRORS: usize = 100;

/// Answers the calls of the feedback service.
pub struct Service {
    plane: Arc<DataPlane>,
    drain: CancellationToken,
}

impl Service {
    /// `drain` ends streams that are still sent to.
    pub fn new(plane: Arc<DataPlane>, drain: CancellationToken) -> Self {
        Self { plane, drain }
    }

    async fn take(&self, batch: FeedbackBatch, sum: &mut Sum) -> Result<(), Status> {
        let now_us = unix_us(SystemTime::now());
        let count = batch.items.len();
        check_count(count)?;
        let items = batch.items.into_iter().map(|item| told(item).check(now_us)).collect();
        let taken = self.plane.feedback.take(items).await?;
        let FeedbackSummary { accepted, unknown, refused, errors } = &mut sum.summary;
        *accepted += taken.accepted;
        *unknown += taken.unknown;
        *refused += taken.errors.len() as u64;
        let room = MAX_ERRORS.saturating_sub(errors.len());
        errors.extend(taken.errors.into_iter().take(room).map(|(index, fault)| FeedbackError {
            index: sum.items + index as u64,
            field: fault.field.to_string(),
            error: fault.to_string(),
        }));
        sum.items += count as u64;
        Ok(())
    }
}

/// What has become of a stream so far.
#[derive(Default)]
struct Sum {
    summary: FeedbackSummary,
    /// Of the batches before.
    items: u64,
}

#[tonic::async_trait]
impl FeedbackService for Service {
    async fn send_feedback(
        &self,
        request: Request<Streaming<FeedbackBatch>>,
    ) -> Result<Response<FeedbackSummary>, Status> {
        let leases = request.extensions().get::<Arc<Leases>>().cloned();
        let mut batches = request.into_inner();
        let mut sum = Sum::default();
        loop {
            let batch = tokio::select! {
                // What has arrived is taken first.
                biased;
                batch = batches.message() => batch?,
                () = self.drain.cancelled() => return Err(shutting_down()),
            };
            // Held until the batch is written.
            let _lease = leases.as_ref().and_then(|leases| leases.take());
            match batch {
                Some(batch) => self.take(batch, &mut sum).await?,
                None => return Ok(Response::new(sum.summary)),
            }
        }
    }
}

/// An item without what the wire has for "nothing".
fn told(item: Feedback) -> Told {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let (prediction_id, request_id, row_index) = match item.subject {
        None => (None, None, None),
        Some(Subject::PredictionId(id)) => (Some(id), None, None),
        Some(Subject::Request(row)) => (None, Some(row.id), Some(u64::from(row.row_index))),
    };
    Told {
        prediction_id,
        request_id,
        row_index,
        name: text(item.name),
        value: item.value.map(|value| match value {
            Value::Number(number) => ToldValue::Number(number),
            Value::Label(label) => ToldValue::Text(label),
            Value::Flag(flag) => ToldValue::Flag(flag),
        }),
        event_time: item.event_time.map(|time| {
            let us = time.seconds.saturating_mul(1_000_000);
            ToldTime::Micros(us.saturating_add(i64::from(time.nanos) / 1000))
        }),
        source: text(item.source),
        weight: item.weight,
    }
}
