//! Answers, and writing them to clients that may not read.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client that has not taken an answer, or one piece of a stream, after this time is left.
const WITHIN: Duration = Duration::from_secs(10);

/// What an answer carries.
#[derive(Debug)]
pub enum Body {
    /// Text or bytes of its own.
    Own(Cow<'static, [u8]>),
    /// A picture that others get as well.
    Shared(Arc<[u8]>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Response {
    /// An answer of this kind of content.
    pub fn new(status: u16, content_type: &str, body: Body) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.to_owned())], body }
    }

    /// A line of text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let body = Body::Own(Cow::Owned(text.into().into_bytes()));
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// JSON.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let body = Body::Own(Cow::Owned(value.to_string().into_bytes()));
        Self::new(status, "application/json", body)
    }

    /// What went wrong, as JSON.
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": message }))
    }

    /// The same with another header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn head(&self, keep: bool, length: Option<usize>) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let mut header = |name: &str, value: &str| {
            // Nothing that came from a client gets to begin a line of its own.
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("{name}: {value}\r\n"));
        };
        for (name, value) in &self.headers {
            header(name, value);
        }
        let named = |wanted: &str| self.headers.iter().any(|(name, _)| *name == wanted);
        if !named("Cache-Control") {
            header("Cache-Control", "no-store");
        }
        if !named("Content-Security-Policy") {
            header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
        }
        header("X-Content-Type-Options", "nosniff");
        // Without a referrer browsers hide the origin of a form, by which we know our own.
        header("Referrer-Policy", "same-origin");
        header("Cross-Origin-Resource-Policy", "same-origin");
        header("Date", &date());
        if let Some(length) = length {
            header("Content-Length", &length.to_string());
        }
        header("Connection", if keep { "keep-alive" } else { "close" });
        head.push_str("\r\n");
        head
    }
}

/// The client's side of a connection.
#[derive(Debug)]
pub struct Outgoing<'a>(pub &'a TcpStream);

impl Outgoing<'_> {
    /// Sends a whole answer; to `HEAD`, all but its body.
    ///
    /// # Errors
    /// When the client is gone or does not read.
    pub fn send(&self, response: &Response, keep: bool, head_only: bool) -> io::Result<()> {
        let body = response.body.bytes();
        let mut message = response.head(keep, Some(body.len())).into_bytes();
        if !head_only {
            message.extend_from_slice(body);
        }
        self.write(&message)
    }

    /// Begins an answer whose pieces follow.
    ///
    /// # Errors
    /// As [`Outgoing::send`].
    pub fn begin(&self, content_type: &str) -> io::Result<()> {
        let response = Response::new(200, content_type, Body::Own(Cow::Borrowed(b"")));
        self.write(response.head(false, None).as_bytes())
    }

    /// Writes all of it, or gives up after [`WITHIN`].
    ///
    /// # Errors
    /// As [`Outgoing::send`].
    pub fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + WITHIN;
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.0.set_write_timeout(Some(left))?;
            let mut stream = self.0;
            match stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The time as HTTP writes it (IMF-fixdate of RFC 9110).
fn date() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_begins_another() {
        let response = Response::text(200, "x").with("Location", "/a\r\nSet-Cookie: b=c");
        let head = response.head(true, Some(1));
        assert!(head.contains("Location: /aSet-Cookie: b=c\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n") && head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(date().len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
    }
}
