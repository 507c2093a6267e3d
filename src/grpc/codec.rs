//! Protobuf messages on the wire, behind a guard.
//!
//! Two bytes can say "one more input", and each decoded input takes hundreds; so the fields of a message are counted
//! before anything is decoded.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::prediction_log::feedback::MAX_ITEMS;

/// Most fields at the top of one message: every input, output, parameter and raw content is one, and every item of
/// feedback.
pub const MAX_FIELDS: usize = 16_384;

// A batch that has a few items too many is told so in the words of the feedback itself.
const _: () = assert!(MAX_FIELDS > MAX_ITEMS);

/// The codec of every message that is generated from proto/.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = GuardedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> GuardedDecoder<U> {
        GuardedDecoder(PhantomData)
    }
}

/// Decodes a message that has at most [`MAX_FIELDS`] fields.
#[derive(Debug)]
pub struct GuardedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for GuardedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The transport gathers a message in one piece before it is decoded.
        let fields = count_fields(buf.chunk())?;
        if fields > MAX_FIELDS {
            return Err(Status::invalid_argument(format!(
                "the message has more than {MAX_FIELDS} inputs, outputs, parameters, contents or items"
            )));
        }
        U::decode(buf).map(Some).map_err(|error| Status::invalid_argument(format!("not a valid message: {error}")))
    }
}

/// Counts the fields at the top of a message, one past the limit at most.
fn count_fields(mut message: &[u8]) -> Result<usize, Status> {
    let cut_off = || Status::invalid_argument("not a valid message: a field is cut off");
    let mut fields = 0;
    while !message.is_empty() && fields <= MAX_FIELDS {
        let key = varint(&mut message).ok_or_else(cut_off)?;
        let length = match key & 7 {
            0 => varint(&mut message).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut message),
            5 => Some(4),
            other => {
                return Err(Status::invalid_argument(format!("not a valid message: a field of wire type {other}")));
            }
        };
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(cut_off)?;
        message = message.get(length..).ok_or_else(cut_off)?;
        fields += 1;
    }
    Ok(fields)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::inference::ModelInferRequest;

    #[test]
    fn fields_of_every_wire_type_are_counted() {
        // 1: varint, 2: 8 bytes, 3: two bytes of content, 4: 4 bytes
        let message = [&[0x08, 0x96, 0x01][..], &[0x11, 0, 0, 0, 0, 0, 0, 0, 0], &[0x1a, 2, 9, 9], &[0x25, 0, 0, 0, 0]];
        assert_eq!(count_fields(&message.concat()).unwrap(), 4);
        assert_eq!(count_fields(&[]).unwrap(), 0);
    }

    #[test]
    fn what_is_cut_off_or_no_field_is_refused() {
        for broken in [&[0x1a, 5, 1][..], &[0x1a], &[0x08], &[0x11, 0], &[0x0b], &[0x1a, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert_eq!(count_fields(broken).unwrap_err().code(), tonic::Code::InvalidArgument, "{broken:?}");
        }
    }

    #[test]
    fn a_real_message_counts_its_inputs_and_contents() {
        let message = ModelInferRequest {
            model_name: "m".to_owned(),
            inputs: vec![Default::default(); 3],
            raw_input_contents: vec![bytes::Bytes::from_static(b"1234"); 3],
            ..Default::default()
        };
        assert_eq!(count_fields(&message.encode_to_vec()).unwrap(), 7);
    }
}
