//! gRPC's message frames, read before the transport reads them.
//!
//! A message comes behind five bytes: a flag and its length. The transport below would reserve whatever length a client
//! claims. Here a message is passed on only once it is whole, and until then costs the byte budget what has arrived of
//! it: a claim alone costs nothing, so nobody is shut out by claims.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::deframer::{Deframer, Leases};
use crate::error::{Error, Result};
use crate::inference::Protocol;
use crate::telemetry::metrics;

/// What must arrive within the time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The body, to its end.
    WholeBody,
    /// Each message, from its first byte on; between messages the client may pause.
    EachMessage,
}

/// A request's body that gives whole messages only.
pub struct FramedBody<B> {
    inner: B,
    frames: Deframer,
    pace: Pace,
    timeout: Duration,
    /// When the time limit ends; `None` while the client may pause.
    deadline: Option<Instant>,
    /// Made when the body is first waited for.
    timer: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl<B> FramedBody<B> {
    /// Frames `inner`, whose messages may have `limit` bytes each.
    pub fn new(inner: B, leases: Arc<Leases>, limit: usize, pace: Pace, timeout: Duration) -> Self {
        let deadline = (pace == Pace::WholeBody).then(|| Instant::now() + timeout);
        Self { inner, frames: Deframer::new(leases, limit), pace, timeout, deadline, timer: None, failed: false }
    }

    fn take_in(&mut self, data: Bytes) -> Result<()> {
        let finished = self.frames.push(data)?;
        if self.pace == Pace::EachMessage {
            if finished > 0 {
                self.deadline = None;
            }
            if self.frames.is_partial() && self.deadline.is_none() {
                self.deadline = Some(Instant::now() + self.timeout);
            }
        }
        Ok(())
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.failed = true;
        self.frames.clear();
        // Such a request never reaches the path that counts the others.
        metrics::count_request(Protocol::Grpc, Some(error.kind()));
        Poll::Ready(Some(Err(error.into())))
    }
}

impl<B> Body for FramedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(chunk) = self.frames.next_ready() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if self.failed {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(error))) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(Status::from_error(error.into()))));
                }
                Poll::Ready(None) if self.frames.is_partial() => {
                    return self.fail(Error::invalid("the request's body ends in the middle of a message"));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.is_late(cx) => {
                    let seconds = self.timeout.as_secs_f64();
                    return self.fail(Error::BodyTimeout { seconds });
                }
                Poll::Pending => return Poll::Pending,
            };
            match frame.into_data() {
                Ok(data) => {
                    if let Err(error) = self.take_in(data) {
                        return self.fail(error);
                    }
                }
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || (self.frames.is_drained() && !self.frames.is_partial() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ByteBudget;
    use http_body_util::BodyExt;
    use std::collections::VecDeque;
    use std::convert::Infallible;

    const LIMIT: usize = 1000;

    fn message(content: &[u8]) -> Vec<u8> {
        [&[0][..], &(content.len() as u32).to_be_bytes(), content].concat()
    }

    #[tokio::test]
    async fn a_body_that_ends_within_a_message_is_refused() {
        let body = http_body_util::Full::new(Bytes::from_static(&[0, 0, 0, 0, 9, 1]));
        let leases = Leases::new(ByteBudget::new(1000));
        let body = FramedBody::new(body, leases, LIMIT, Pace::WholeBody, Duration::from_secs(9));
        let status = body.collect().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }

    /// Gives these chunks and then nothing, without ending.
    struct Stalling(VecDeque<Bytes>);

    impl Body for Stalling {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.pop_front().map_or(Poll::Pending, |chunk| Poll::Ready(Some(Ok(Frame::data(chunk)))))
        }
    }

    async fn stalled(pace: Pace, chunks: &[&[u8]]) -> Option<Status> {
        let chunks = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk)).collect();
        let leases = Leases::new(ByteBudget::new(1000));
        let mut body = FramedBody::new(Stalling(chunks), leases, LIMIT, pace, Duration::from_millis(20));
        let read = async {
            loop {
                match body.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(status)) => return status,
                    None => unreachable!("a stalling body does not end"),
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(400), read).await.ok()
    }

    #[tokio::test]
    async fn a_message_that_stalls_is_cut_off_and_a_pause_between_messages_is_not() {
        let (whole, half) = (message(b"abc"), &message(b"abc")[..6]);
        let late = stalled(Pace::EachMessage, &[&whole, half]).await.unwrap();
        assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(late.message(), "the request's body did not arrive within 0.02 s");
        assert!(stalled(Pace::EachMessage, &[&whole]).await.is_none());
        assert!(stalled(Pace::EachMessage, &[]).await.is_none());
        assert!(stalled(Pace::WholeBody, &[&whole]).await.is_some());
        assert!(stalled(Pace::WholeBody, &[]).await.is_some());
    }
}
