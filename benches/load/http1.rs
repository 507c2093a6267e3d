//! A client of HTTP/1.1 that sends prepared bytes and reads no more of an answer than it needs.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::Body;

/// Longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// One connection, with one request at a time.
pub struct Http1 {
    stream: TcpStream,
    /// Grows to the largest answer.
    buffer: Vec<u8>,
    head: Head,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes up to the body.
    bytes: usize,
    content_length: Option<usize>,
    json_length: Option<usize>,
}

impl Http1 {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 4096], head: Head::default() })
    }

    /// Sends a request, reads its answer to the end, and gives its status. The connection is of no more use after an
    /// error.
    pub async fn call(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        self.head = loop {
            filled += self.read(filled).await?;
            if let Some(end) = end_of_head(&self.buffer[..filled]) {
                break parse(&self.buffer[..end])?;
            }
            if filled > MAX_HEAD_BYTES {
                return Err(fault("an answer's head doesn't end"));
            }
        };
        let length = self.head.content_length.ok_or_else(|| fault("an answer without content-length"))?;
        let end = self.head.bytes + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += self.read(filled).await?;
        }
        if filled > end {
            return Err(fault("more bytes than one answer"));
        }
        Ok(self.head.status)
    }

    /// The body of the last answer.
    pub fn body(&self) -> Body<'_> {
        let length = self.head.content_length.unwrap_or_default();
        Body { bytes: &self.buffer[self.head.bytes..self.head.bytes + length], head: self.head.json_length }
    }

    async fn read(&mut self, filled: usize) -> io::Result<usize> {
        if filled == self.buffer.len() {
            self.buffer.resize(filled * 2, 0);
        }
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => Err(fault("the server closed the connection")),
            count => Ok(count),
        }
    }
}

fn fault(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let text = str::from_utf8(head).map_err(|_| fault("an answer's head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let mut parsed =
        Head { status: status.ok_or_else(|| fault("not an HTTP answer"))?, bytes: head.len(), ..Head::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            parsed.content_length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("inference-header-content-length") {
            parsed.json_length = value.trim().parse().ok();
        }
    }
    Ok(parsed)
}
