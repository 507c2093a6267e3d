//! Content codings both ways: gzip, and deflate in its zlib form.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

use super::reply::Body;
use crate::budget::ByteLease;
use crate::error::{Error, Result};
use crate::inference::printable;

/// What we decode, as an `Accept-Encoding` value.
pub const ACCEPTED: &str = "gzip, deflate";

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// The name in a header; `None` for identity, which is said by leaving the header out.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("deflate") {
            Some(Self::Deflate)
        } else {
            is("identity").then_some(Self::Identity)
        }
    }
}

/// How a request's body is coded.
///
/// # Errors
/// `Unsupported` for anything but one coding of ours.
pub fn of_request(headers: &HeaderMap) -> Result<Coding> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(first) = values.next() else { return Ok(Coding::Identity) };
    let text = String::from_utf8_lossy(first.as_bytes());
    match Coding::from_name(text.trim()) {
        Some(coding) if values.next().is_none() => Ok(coding),
        _ => Err(Error::Unsupported(format!(
            "content encoding '{}' is not supported, expected one of gzip, deflate, identity",
            printable(&text)
        ))),
    }
}

/// The coding that an answer's reader likes best; identity where it says nothing or refuses everything.
///
/// Of codings with equal weight gzip goes before deflate, and both before identity (RFC 9110, section 12.5.3).
pub fn for_response(headers: &HeaderMap) -> Coding {
    let mut best = (0, Coding::Identity);
    let mut identity = None;
    for value in headers.get_all(ACCEPT_ENCODING) {
        for (coding, weight) in value.to_str().unwrap_or("").split(',').filter_map(accepted) {
            match coding {
                Coding::Identity => identity = Some(weight),
                Coding::Gzip if weight >= best.0 => best = (weight, Coding::Gzip),
                Coding::Deflate if weight > best.0 => best = (weight, Coding::Deflate),
                _ => {}
            }
        }
    }
    if best.0 == 0 || identity.is_some_and(|identity| identity > best.0) { Coding::Identity } else { best.1 }
}

/// One member of `Accept-Encoding` with its weight in thousandths.
fn accepted(member: &str) -> Option<(Coding, u32)> {
    let mut parts = member.split(';').map(str::trim);
    let coding = Coding::from_name(parts.next()?)?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |q| q.trim().parse::<f32>().ok())?;
    Some((coding, (weight.clamp(0.0, 1.0) * 1000.0) as u32))
}

/// Decodes a whole body. Blocks for as long as that takes; `limit` bounds the result, and `lease` pays for it.
///
/// # Errors
/// `TooLarge` and `OutOfBudget` as soon as the limits are passed, `Invalid` for bytes that are not so coded.
pub fn decode(coding: Coding, coded: &Bytes, limit: usize, lease: &mut ByteLease) -> Result<Bytes> {
    match coding {
        Coding::Identity => Ok(coded.clone()),
        Coding::Gzip => inflate(MultiGzDecoder::new(&coded[..]), "gzip", limit, lease),
        Coding::Deflate => inflate(ZlibDecoder::new(&coded[..]), "deflate (zlib)", limit, lease),
    }
}

fn inflate(mut decoder: impl Read, name: &str, limit: usize, lease: &mut ByteLease) -> Result<Bytes> {
    const STEP: usize = 64 << 10;
    let mut plain = Vec::new();
    loop {
        let start = plain.len();
        if start == plain.capacity() {
            // Doubled, and never above one byte more than the limit, which shows that it is passed.
            let more = start.max(STEP).min(limit + 1 - start);
            lease.grow(more as u64)?;
            plain.reserve_exact(more);
        }
        let room = plain.capacity() - start;
        let got = decoder
            .by_ref()
            .take(room as u64)
            .read_to_end(&mut plain)
            .map_err(|_| Error::Invalid(format!("the body is not valid {name}, as its content encoding says")))?;
        if plain.len() > limit {
            let hint = " after decompression";
            return Err(Error::TooLarge { got: plain.len() as u64, limit: limit as u64, hint });
        }
        if got < room {
            return Ok(plain.into());
        }
    }
}

/// Codes an answer's body. Blocks for as long as that takes.
///
/// # Errors
/// None in practice: memory takes every write.
pub fn encode(coding: Coding, body: &Body) -> io::Result<Body> {
    // The fastest level: an answer's latency counts for more than its last bytes.
    let level = Compression::fast();
    let write = |sink: &mut dyn Write| body.pieces().try_for_each(|piece| sink.write_all(piece));
    Ok(match coding {
        Coding::Identity => body.pieces().cloned().collect(),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            write(&mut encoder)?;
            encoder.finish()?.into()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            write(&mut encoder)?;
            encoder.finish()?.into()
        }
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::budget::ByteBudget;

    fn preferred(value: &'static str) -> Coding {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
        for_response(&headers)
    }

    #[test]
    fn weights_decide_and_gzip_wins_a_tie() {
        assert_eq!(for_response(&HeaderMap::new()), Coding::Identity);
        for (value, coding) in [
            ("gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("deflate, gzip", Coding::Gzip),
            ("gzip, deflate", Coding::Gzip),
            ("gzip;q=0.5, deflate;q=0.9", Coding::Deflate),
            ("gzip; q=0", Coding::Identity),
            ("identity, gzip;q=0.5", Coding::Identity),
            ("gzip, identity;q=0.5", Coding::Gzip),
            ("br, zstd", Coding::Identity),
            ("*", Coding::Identity),
            ("gzip;q=x", Coding::Identity),
            ("GZIP;Q=0.3", Coding::Gzip),
            ("", Coding::Identity),
        ] {
            assert_eq!(preferred(value), coding, "{value}");
        }
    }

    fn coded(coding: Coding, plain: &[u8]) -> Bytes {
        encode(coding, &Body::from(plain.to_vec())).unwrap().pieces().next().unwrap().clone()
    }

    #[test]
    fn what_is_encoded_decodes() {
        let plain: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
        for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
            let mut lease = ByteBudget::new(1 << 20).lease();
            let back = decode(coding, &coded(coding, &plain), plain.len(), &mut lease).unwrap();
            assert_eq!(back, plain);
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_and_is_paid_from_the_budget() {
        let bomb = coded(Coding::Gzip, &vec![0; 10 << 20]);
        let mut lease = ByteBudget::new(100 << 20).lease();
        let err = decode(Coding::Gzip, &bomb, 1 << 20, &mut lease).unwrap_err();
        assert!(matches!(err, Error::TooLarge { limit: 0x10_0000, .. }));
        let budget = ByteBudget::new(1 << 20);
        let err = decode(Coding::Gzip, &bomb, 100 << 20, &mut budget.lease()).unwrap_err();
        assert!(matches!(err, Error::OutOfBudget { .. }));
    }

    #[test]
    fn cut_off_and_foreign_bytes_are_refused() {
        let mut lease = ByteBudget::new(1 << 20).lease();
        let whole = coded(Coding::Gzip, b"some text, some text, some text");
        for bad in [whole.slice(..whole.len() - 1), whole.slice(1..), Bytes::from_static(b"{}")] {
            assert!(matches!(decode(Coding::Gzip, &bad, 1000, &mut lease), Err(Error::Invalid(_))));
        }
        assert!(matches!(decode(Coding::Deflate, &whole, 1000, &mut lease), Err(Error::Invalid(_))));
    }
}
