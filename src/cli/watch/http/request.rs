//! A request read from a connection, within limits of size and of time.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest request line and headers together, in bytes.
pub const MAX_HEAD: usize = 16 << 10;
/// Longest body, in bytes.
pub const MAX_BODY: usize = 64 << 10;
/// Most headers.
const MAX_HEADERS: usize = 64;
/// A request is complete within this time of its first byte.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request.
const IDLE: Duration = Duration::from_secs(20);

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The client is gone, or said nothing for too long.
    #[error("the connection is over")]
    Over,
    /// The request was not complete in time.
    #[error("the request did not come within {} s", WITHIN.as_secs())]
    Slow,
    /// The bytes are no HTTP request.
    #[error("not an HTTP request: {0}")]
    Malformed(String),
    /// The request line and headers are too long.
    #[error("request line and headers are limited to {MAX_HEAD} bytes and {MAX_HEADERS} headers")]
    HeadTooLarge,
    /// The body is too long.
    #[error("a body is limited to {MAX_BODY} bytes")]
    BodyTooLarge,
    /// The body's length is not known beforehand.
    #[error("a body needs a Content-Length: transfer encodings are not read")]
    NoLength,
}

impl RequestError {
    /// The status that tells the client, if there is one to tell.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Over => None,
            Self::Slow => Some(408),
            Self::Malformed(_) => Some(400),
            Self::HeadTooLarge => Some(431),
            Self::BodyTooLarge => Some(413),
            Self::NoLength => Some(411),
        }
    }
}

/// A request.
#[derive(Debug, Default)]
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// What stands before the `?`, as it came.
    pub path: String,
    /// What stands after it.
    query: String,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the client wants the connection kept.
    pub keep_alive: bool,
}

impl Request {
    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter in the address.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The value of a field of a form in the body.
    pub fn field(&self, name: &str) -> Option<String> {
        let pairs = form_urlencoded::parse(&self.body);
        pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// A request with these headers and nothing else.
    #[cfg(test)]
    pub fn with_headers(headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Self { headers: headers.collect(), ..Self::default() }
    }

    fn parse(head: &[u8]) -> Result<Option<(Self, usize)>, RequestError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(head) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeadTooLarge),
            Err(error) => return Err(RequestError::Malformed(error.to_string())),
        };
        let target = parsed.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            keep_alive: parsed.version == Some(1),
            ..Self::default()
        };
        for header in parsed.headers.iter() {
            let value = std::str::from_utf8(header.value)
                .map_err(|_| RequestError::Malformed("a header is not UTF-8".to_owned()))?;
            request.headers.push((header.name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        for once in ["host", "content-length", "origin"] {
            if request.headers.iter().filter(|(name, _)| name == once).count() > 1 {
                return Err(RequestError::Malformed(format!("more than one {once} header")));
            }
        }
        if let Some(connection) = request.header("connection") {
            request.keep_alive &= !connection.eq_ignore_ascii_case("close");
        }
        Ok(Some((request, length)))
    }

    fn body_length(&self) -> Result<usize, RequestError> {
        if self.header("transfer-encoding").is_some() {
            return Err(RequestError::NoLength);
        }
        let Some(length) = self.header("content-length") else { return Ok(0) };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        // The standard library would take a sign too, HTTP does not (RFC 9110, section 8.6).
        if !digits {
            return Err(RequestError::Malformed("Content-Length is not a number".to_owned()));
        }
        match length.parse::<u64>() {
            Ok(length) if length <= MAX_BODY as u64 => Ok(length as usize),
            // Digits that no number holds are too many bytes as well.
            _ => Err(RequestError::BodyTooLarge),
        }
    }
}

/// A connection's incoming bytes.
#[derive(Debug)]
pub struct Incoming<'a> {
    stream: &'a TcpStream,
    /// What came and was not used yet.
    bytes: Vec<u8>,
}

impl<'a> Incoming<'a> {
    /// The requests of a connection.
    pub fn new(stream: &'a TcpStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    /// The next request.
    ///
    /// # Errors
    /// [`RequestError`], after which nothing more can be read.
    pub fn next(&mut self) -> Result<Request, RequestError> {
        if self.bytes.is_empty() && self.fill(Instant::now() + IDLE)? == 0 {
            return Err(RequestError::Over);
        }
        let deadline = Instant::now() + WITHIN;
        let (mut request, head) = loop {
            if let Some(found) = Request::parse(&self.bytes)? {
                break found;
            }
            if self.bytes.len() >= MAX_HEAD {
                return Err(RequestError::HeadTooLarge);
            }
            self.more(deadline)?;
        };
        self.bytes.drain(..head);
        let length = request.body_length()?;
        if length > self.bytes.len()
            && request.header("expect").is_some_and(|e| e.eq_ignore_ascii_case("100-continue"))
        {
            let _ = io::Write::write_all(&mut self.stream, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        while self.bytes.len() < length {
            self.more(deadline)?;
        }
        request.body = self.bytes.drain(..length).collect();
        Ok(request)
    }

    /// Takes a little of what a refused client still sends: a connection that is closed over
    /// unread bytes is reset, and the client may never see why.
    pub fn drain(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        for _ in 0..64 {
            self.bytes.clear();
            if !matches!(self.fill(deadline), Ok(1..)) {
                break;
            }
        }
    }

    /// Waits for more bytes of a request that has begun.
    fn more(&mut self, deadline: Instant) -> Result<(), RequestError> {
        match self.fill(deadline) {
            Ok(0) => Err(RequestError::Slow),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there; 0 when the time is up.
    fn fill(&mut self, deadline: Instant) -> Result<usize, RequestError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(0);
        }
        self.stream.set_read_timeout(Some(left)).map_err(|_| RequestError::Over)?;
        let mut buffer = [0; 4096];
        let mut stream = self.stream;
        match stream.read(&mut buffer) {
            Ok(0) => Err(RequestError::Over),
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(count)
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.fill(deadline),
            Err(_) => Err(RequestError::Over),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Request, RequestError> {
        Ok(Request::parse(text.as_bytes())?.expect("complete").0)
    }

    #[test]
    fn parameters_are_decoded() {
        let request =
            parse("GET /api/search?q=a+red%20car%2B&k=3 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(request.path, "/api/search");
        assert_eq!(request.parameter("q").unwrap(), "a red car+");
        assert_eq!(request.parameter("k").unwrap(), "3");
        assert_eq!(request.parameter("z"), None);
        assert!(request.keep_alive);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            assert!(matches!(parse(text), Err(RequestError::Malformed(_))), "{text:?}");
        }
        let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
        let many = parse(&format!("GET / HTTP/1.1\r\n{many}\r\n"));
        assert!(matches!(many, Err(RequestError::HeadTooLarge)));
        assert!(Request::parse(b"GET / HTTP/1.1\r\nHost").unwrap().is_none());
    }

    #[test]
    fn lengths_are_checked_before_use() {
        let with = |header: &str| {
            parse(&format!("POST / HTTP/1.1\r\n{header}\r\n\r\n")).unwrap().body_length()
        };
        assert_eq!(with("Content-Length: 12").unwrap(), 12);
        assert_eq!(with("Host: x").unwrap(), 0);
        let huge = "9".repeat(60);
        for length in ["65537", "18446744073709551616", &huge] {
            let refused = with(&format!("Content-Length: {length}"));
            assert!(matches!(refused, Err(RequestError::BodyTooLarge)), "{length}");
        }
        for length in ["-1", "+5", "0x10", "", "1, 1"] {
            let refused = with(&format!("Content-Length: {length}"));
            assert!(matches!(refused, Err(RequestError::Malformed(_))), "{length}");
        }
        assert!(matches!(with("Transfer-Encoding: chunked"), Err(RequestError::NoLength)));
    }
}
