//! From an error to the status that the client sees.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::context::REQUEST_ID;
use crate::error::Error;
use crate::inference::RequestId;

/// Longest text of a status, in bytes: it travels in a header, percent-encoded, and clients refuse large headers.
const MAX_TEXT_BYTES: usize = 1024;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = Code::from_i32(error.kind().grpc_code());
        let text = shortened(error.to_string());
        match error.retry_after() {
            None => Self::new(code, text),
            Some(delay) => {
                let details = retry_details(code, &text, delay);
                Self::with_details(code, text, details)
            }
        }
    }
}

/// The status with the id under which the server's log knows the request.
pub fn with_request_id(mut status: Status, id: &RequestId) -> Status {
    if let Ok(id) = MetadataValue::try_from(id.as_str()) {
        status.metadata_mut().insert(REQUEST_ID, id);
    }
    status
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

/// `google.rpc.Status`, which `grpc-status-details-bin` holds.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

fn retry_details(code: Code, text: &str, delay: Duration) -> Bytes {
    let delay = prost_types::Duration { seconds: delay.as_secs() as i64, nanos: delay.subsec_nanos() as i32 };
    let info = RetryInfo { retry_delay: Some(delay) };
    let info = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    RpcStatus { code: code.into(), message: text.to_owned(), details: vec![info] }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Overload;

    #[test]
    fn a_retry_that_helps_says_when() {
        let retry_after = Duration::from_millis(1500);
        let status: Status = Error::Overloaded(Box::new(Overload::example(retry_after))).into();
        assert_eq!(status.code(), Code::Unavailable);
        let details = RpcStatus::decode(status.details()).unwrap();
        assert_eq!((details.code, details.message.as_str()), (14, status.message()));
        assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        let info = RetryInfo::decode(&*details.details[0].value).unwrap();
        assert_eq!(info.retry_delay, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
    }

    #[test]
    fn what_no_retry_helps_has_no_details() {
        let status: Status = Error::TooLarge { got: 2, limit: 1, hint: "" }.into();
        assert_eq!((status.code(), status.details()), (Code::ResourceExhausted, &[][..]));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let status: Status = Error::invalid("é".repeat(3000)).into();
        assert!(status.message().len() <= MAX_TEXT_BYTES + 3);
        assert!(status.message().ends_with("é…"));
    }
}
