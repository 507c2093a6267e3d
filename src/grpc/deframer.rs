//! The framing itself: chunks of a body sorted into messages, each paid for from the byte budget.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use prost::Message;

use crate::budget::{ByteBudget, ByteLease};
use crate::error::{Error, Result};

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

/// Sorts the chunks of a body into messages.
pub struct Deframer {
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
    /// A deframer of messages of at most `limit` bytes, whose leases go to `leases`.
    pub fn new(leases: Arc<Leases>, limit: usize) -> Self {
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

    /// Whether a message is under way.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Gives up whatever is held.
    pub fn clear(&mut self) {
        self.partial.clear();
        self.lease = None;
        self.ready.clear();
    }

    /// The next chunk of a whole message.
    pub fn next_ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether every whole message has been given out.
    pub fn is_drained(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes in a chunk; gives how many messages it made whole.
    ///
    /// # Errors
    /// `TooLarge` for a claim over the limit, `OutOfBudget`.
    pub fn push(&mut self, mut data: Bytes) -> Result<usize> {
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
    use proptest::prelude::*;

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
