//! gRPC's message frames, read before the transport reads them.
//!
//! A message comes behind five bytes: a flag and its length. The transport below would reserve whatever length a client
//! claims. Here a message is passed on only once it is whole, and until then costs the byte budget what has arrived of
//! it: a claim alone costs nothing, so nobody is shut out by claims.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use prost::Message;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use crate::budget::{ByteBudget, ByteLease};
use crate::error::{Error, Result};
use crate::inference::Protocol;
use crate::telemetry::metrics;

/// Bytes before each message: a flag (1: compressed) and a length, big-endian.
const PREFIX_BYTES: usize = 5;

/// The least that a chunk of a message costs the budget, for what holding it takes.
const CHUNK_COST_BYTES: u64 = 64;

/// The leases of one call's messages: taken as messages arrive, given back when the call lets go of them.
#[derive(Debug)]
pub struct Leases {
    budget: Arc<ByteBudget>,
    whole: Mutex<VecDeque<MessageLease>>,
}

/// What one message holds of the byte budget.
#[derive(Debug)]
pub struct MessageLease {
    lease: ByteLease,
    compressed: bool,
}

impl Leases {
    pub fn new(budget: Arc<ByteBudget>) -> Arc<Self> {
        Arc::new(Self { budget, whole: Mutex::default() })
    }

    /// The lease of the oldest message that has not been taken: messages are decoded in the order they came in.
    pub fn take(&self) -> Option<MessageLease> {
        self.lock().pop_front()
    }

    /// Puts the lease of a message that arrived whole behind the others.
    pub fn put(&self, lease: MessageLease) {
        self.lock().push_back(lease);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<MessageLease>> {
        // Nothing panics while the lock is held.
        self.whole.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl MessageLease {
    /// Pays for what decompression made of the message.
    ///
    /// # Errors
    /// `OutOfBudget`.
    pub fn settle(&mut self, message: &impl Message) -> Result<()> {
        if self.compressed { self.lease.grow_to(message.encoded_len() as u64) } else { Ok(()) }
    }
}

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
            if let Some(chunk) = self.frames.ready.pop_front() {
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
        self.failed || (self.frames.ready.is_empty() && !self.frames.is_partial() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Sorts the chunks of a body into messages.
struct Deframer {
    leases: Arc<Leases>,
    limit: usize,
    prefix: [u8; PREFIX_BYTES],
    /// How much of the prefix has arrived.
    prefix_bytes: usize,
    /// How much of the message behind the prefix is missing.
    missing: usize,
    /// The message under way, its prefix included.
    partial: Vec<Bytes>,
    lease: Option<ByteLease>,
    /// Chunks of whole messages.
    ready: VecDeque<Bytes>,
}

impl Deframer {
    fn new(leases: Arc<Leases>, limit: usize) -> Self {
        Self {
            leases,
            limit,
            prefix: [0; PREFIX_BYTES],
            prefix_bytes: 0,
            missing: 0,
            partial: Vec::new(),
            lease: None,
            ready: VecDeque::new(),
        }
    }

    fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    fn clear(&mut self) {
        self.partial.clear();
        self.lease = None;
        self.ready.clear();
    }

    /// Takes in a chunk; gives how many messages it made whole.
    ///
    /// # Errors
    /// `TooLarge` for a claim over the limit, `OutOfBudget`.
    fn push(&mut self, mut data: Bytes) -> Result<usize> {
        let mut finished = 0;
        while !data.is_empty() {
            let taken = self.advance(&data)?;
            let lease = self.lease.get_or_insert_with(|| self.leases.budget.lease());
            lease.grow((taken as u64).max(CHUNK_COST_BYTES))?;
            self.partial.push(data.split_to(taken));
            if self.prefix_bytes == PREFIX_BYTES && self.missing == 0 {
                self.finish();
                finished += 1;
            }
        }
        Ok(finished)
    }

    /// How many bytes at the front of `data` belong to the message under way.
    fn advance(&mut self, data: &[u8]) -> Result<usize> {
        let mut taken = 0;
        if self.prefix_bytes < PREFIX_BYTES {
            taken = (PREFIX_BYTES - self.prefix_bytes).min(data.len());
            self.prefix[self.prefix_bytes..][..taken].copy_from_slice(&data[..taken]);
            self.prefix_bytes += taken;
            if self.prefix_bytes < PREFIX_BYTES {
                return Ok(taken);
            }
            self.missing = self.announced()?;
        }
        let content = self.missing.min(data.len() - taken);
        self.missing -= content;
        Ok(taken + content)
    }

    fn announced(&self) -> Result<usize> {
        let [_, length @ ..] = self.prefix;
        let length = u32::from_be_bytes(length);
        match usize::try_from(length) {
            Ok(length) if length <= self.limit => Ok(length),
            _ => Err(Error::TooLarge { got: length.into(), limit: self.limit as u64, hint: "" }),
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.leases.put(MessageLease { lease, compressed: self.prefix[0] != 0 });
        }
        self.ready.extend(self.partial.drain(..));
        self.prefix_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::inference::ModelReadyRequest;
    use http_body_util::BodyExt;
    use proptest::prelude::*;
    use std::convert::Infallible;

    const LIMIT: usize = 1000;

    fn message(content: &[u8]) -> Vec<u8> {
        [&[0][..], &(content.len() as u32).to_be_bytes(), content].concat()
    }

    fn deframer(budget_bytes: u64) -> (Arc<ByteBudget>, Deframer) {
        let budget = ByteBudget::new(budget_bytes);
        let deframer = Deframer::new(Leases::new(budget.clone()), LIMIT);
        (budget, deframer)
    }

    #[test]
    fn a_claim_alone_costs_next_to_nothing_and_too_large_a_one_is_refused() {
        let (budget, mut frames) = deframer(1 << 20);
        frames.push(Bytes::from_static(&[0, 0, 0, 3, 0xe8])).unwrap();
        assert!(frames.is_partial() && frames.ready.is_empty());
        assert_eq!(budget.in_use(), CHUNK_COST_BYTES);
        let (_, mut frames) = deframer(1 << 20);
        let error = frames.push(Bytes::from_static(&[0, 0, 0, 3, 0xe9])).unwrap_err();
        assert_eq!(error.to_string(), "request of 1001 bytes exceeds the limit of 1000 bytes");
    }

    #[test]
    fn what_arrives_is_paid_for_until_its_lease_is_dropped() {
        let (budget, mut frames) = deframer(1 << 20);
        frames.push(message(&[7; 500]).into()).unwrap();
        frames.push(message(&[7; 300]).into()).unwrap();
        assert_eq!(budget.in_use(), 810);
        drop(frames.leases.take());
        assert_eq!(budget.in_use(), 305);
        drop(frames);
        assert_eq!(budget.in_use(), 0);
    }

    #[test]
    fn one_byte_chunks_cost_what_holding_them_takes() {
        let (budget, mut frames) = deframer(640);
        let bytes = Bytes::from(message(&[7; 500]));
        let refused = (0..bytes.len()).find_map(|i| frames.push(bytes.slice(i..i + 1)).err());
        assert!(matches!(refused, Some(Error::OutOfBudget { in_use: 640, .. })));
        assert_eq!(frames.partial.len(), 10);
        assert_eq!(budget.in_use(), 640);
    }

    #[test]
    fn decompressed_messages_are_paid_for_by_their_real_size() {
        let (budget, mut frames) = deframer(1000);
        frames.push(Bytes::from_static(&[1, 0, 0, 0, 1, 9])).unwrap();
        let mut lease = frames.leases.take().unwrap();
        let message = ModelReadyRequest { name: "n".repeat(600), version: String::new() };
        lease.settle(&message).unwrap();
        assert_eq!(budget.in_use(), message.encoded_len() as u64);
        let larger = ModelReadyRequest { name: "n".repeat(2000), version: String::new() };
        assert!(matches!(lease.settle(&larger), Err(Error::OutOfBudget { .. })));
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

    proptest! {
        #[test]
        fn messages_come_out_whole_however_they_are_cut(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(1usize..20, 1..20),
        ) {
            let sent: Vec<u8> = contents.iter().flat_map(|content| message(content)).collect();
            let (budget, mut frames) = deframer(1 << 20);
            let (mut rest, mut finished) = (Bytes::from(sent.clone()), 0);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                finished += frames.push(rest.split_to((*cut).min(rest.len()))).unwrap();
            }
            prop_assert_eq!(finished, contents.len());
            prop_assert_eq!(frames.ready.iter().flatten().copied().collect::<Vec<_>>(), sent);
            drop(frames);
            prop_assert_eq!(budget.in_use(), 0);
        }
    }
}
