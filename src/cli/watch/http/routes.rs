//! What is where on the page's server.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::access::Access;
use super::board::Board;
use super::labels::{Relabel, RelabelError};
use super::live;
use super::request::Request;
use super::response::{Body, Outgoing, Response};
use super::search::{Searcher, Wanted};
use super::server::{Place, STREAMS};

/// How long who gives a wrong token waits for the answer.
const WRONG_TOKEN: Duration = Duration::from_secs(1);
/// How many results a search gives that does not say.
const RESULTS: usize = 24;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// The page and the policy that lets nothing run but what is in it.
static PAGE: LazyLock<(String, String)> =
    LazyLock::new(|| assemble(include_str!("page/page.html")));
static LOGIN: LazyLock<(String, String)> =
    LazyLock::new(|| assemble(include_str!("page/login.html")));

fn assemble(page: &str) -> (String, String) {
    let digest = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; \
         img-src 'self' blob: data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT)
    );
    (page.replace("{{style}}", STYLE).replace("{{script}}", SCRIPT), policy)
}

/// Writes to a client for as long as it reads.
type Stream = Box<dyn FnOnce(&Outgoing<'_>) -> io::Result<()>>;

/// An answer to a request.
pub enum Reply {
    /// All of it.
    Whole(Response),
    /// One that goes on, and its place among the streams.
    Stream(Place, Stream),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Whole(response)
    }
}

/// Everything that answers need.
pub struct Site {
    /// What the loop sees.
    pub board: Arc<Board>,
    /// Who may see it.
    pub access: Access,
    /// Makes label sets of what is typed.
    pub relabel: Relabel,
    /// Searches what is kept.
    pub searcher: Searcher,
    /// Streams that are being sent.
    pub streams: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed {
    labels: Vec<String>,
}

impl Site {
    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Reply {
        if !self.access.is_meant_for_us(request) {
            let message = "this page goes by an IP address of this computer or by localhost";
            return Response::error(421, message).into();
        }
        let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
        if !is_read && !self.access.is_from_us(request) {
            return Response::error(403, "another site's page may not do this").into();
        }
        match request.path.as_str() {
            "/healthz" if is_read => return self.health().into(),
            "/login" if request.method == "POST" => return self.login(request).into(),
            _ => {}
        }
        if !self.access.allows(request) {
            return unauthorised(request, is_read).into();
        }
        self.answer_allowed(request, is_read)
    }

    fn answer_allowed(&self, request: &Request, is_read: bool) -> Reply {
        let number = |name: &str| request.parameter(name).and_then(|text| text.parse::<u64>().ok());
        match (request.path.as_str(), is_read) {
            ("/", true) => page(200, &PAGE).into(),
            ("/picture.jpg", true) => live::picture(&self.board, number("after")).into(),
            ("/stream.mjpg", true) => {
                let board = Arc::clone(&self.board);
                self.stream(Box::new(move |outgoing| live::pictures(&board, outgoing)))
            }
            ("/api/events", true) => {
                let last = request.header("last-event-id").and_then(|text| text.parse().ok());
                let after = last.or(number("after")).unwrap_or(0);
                let board = Arc::clone(&self.board);
                self.stream(Box::new(move |outgoing| live::events(&board, after, outgoing)))
            }
            ("/api/state", true) => {
                let mut state = self.board.now();
                state["searchable"] = self.searcher.has_index().into();
                Response::json(200, &state).into()
            }
            ("/api/labels", false) if request.method == "POST" => self.take_labels(request).into(),
            ("/api/search", true) => self.search(request).into(),
            ("/thumbnail.jpg", true) => self.thumbnail(request).into(),
            ("/metrics", true) => {
                let text = self.board.metrics().into_bytes();
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                Response::new(200, kind, Body::Own(Cow::Owned(text))).into()
            }
            ("/api/labels", _) => wrong_method("POST").into(),
            (
                "/" | "/picture.jpg" | "/stream.mjpg" | "/api/events" | "/api/state"
                | "/api/search" | "/thumbnail.jpg" | "/metrics" | "/healthz",
                false,
            ) => wrong_method("GET, HEAD").into(),
            ("/login", _) => wrong_method("POST").into(),
            _ => Response::error(404, "there is nothing here").into(),
        }
    }

    fn stream(&self, stream: Stream) -> Reply {
        match Place::take(&self.streams, STREAMS) {
            Some(place) => Reply::Stream(place, stream),
            None => Response::error(503, "too many are watching").with("Retry-After", "5").into(),
        }
    }

    fn health(&self) -> Response {
        let (alive, silence) = self.board.health();
        let silence = silence.map(|silence| (silence.as_secs_f64() * 10.0).round() / 10.0);
        let status = if alive { 200 } else { 503 };
        Response::json(status, &json!({ "alive": alive, "seconds_since_frame": silence }))
    }

    fn login(&self, request: &Request) -> Response {
        match self.access.cookie_for(&request.field("token").unwrap_or_default()) {
            Some(cookie) => {
                Response::text(303, "").with("Location", "/").with("Set-Cookie", cookie)
            }
            None => {
                thread::sleep(WRONG_TOKEN);
                let (html, policy) = &*LOGIN;
                let wrong = "<p id=\"wrong\" role=\"alert\">That is not the token.</p>";
                html_page(401, html.replace("<!--wrong-->", wrong), policy)
            }
        }
    }

    fn take_labels(&self, request: &Request) -> Response {
        let kind = request.header("content-type").unwrap_or_default();
        if !kind
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("application/json")
        {
            return Response::error(415, "labels are sent as application/json");
        }
        let typed: Typed = match serde_json::from_slice(&request.body) {
            Ok(typed) => typed,
            Err(error) => {
                let message = format!("labels are sent as {{\"labels\": [\"a car\", …]}}: {error}");
                return Response::error(400, &message);
            }
        };
        match self.relabel.compile(&typed.labels) {
            Ok(labels) => {
                let shown = |name: &sextant::LabelName| {
                    if name.negative { format!("!{}", name.name) } else { name.name.clone() }
                };
                let names: Vec<String> = labels.labels().iter().map(shown).collect();
                self.board.put_labels(labels);
                Response::json(202, &json!({ "labels": names }))
            }
            Err(error @ RelabelError::Busy) => Response::error(503, &error.to_string()),
            Err(error) => Response::error(422, &error.to_string()),
        }
    }

    fn search(&self, request: &Request) -> Response {
        let number = |name: &str| request.parameter(name).and_then(|text| text.parse::<i64>().ok());
        let most = number("top").map_or(RESULTS, |top| usize::try_from(top).unwrap_or(0).max(1));
        let (text, like) = (request.parameter("q"), request.parameter("like"));
        let wanted = match &like {
            Some(key) => Wanted::Like(key),
            None => Wanted::Text(text.as_deref().unwrap_or_default()),
        };
        match self.searcher.search(&wanted, number("since"), most) {
            Ok(found) => Response::json(200, &found),
            Err(error) => Response::error(error.status(), &error.to_string()),
        }
    }

    fn thumbnail(&self, request: &Request) -> Response {
        let key = request.parameter("key").unwrap_or_default();
        match self.searcher.thumbnail(&key) {
            Some(jpeg) => Response::new(200, "image/jpeg", Body::Own(Cow::Owned(jpeg)))
                .with("Cache-Control", "private, max-age=3600"),
            None => Response::error(404, "no picture of this row is kept"),
        }
    }
}

fn page(status: u16, (html, policy): &'static (String, String)) -> Response {
    Response::new(status, "text/html; charset=utf-8", Body::Own(Cow::Borrowed(html.as_bytes())))
        .with("Content-Security-Policy", policy)
}

fn html_page(status: u16, html: String, policy: &str) -> Response {
    Response::new(status, "text/html; charset=utf-8", Body::Own(Cow::Owned(html.into_bytes())))
        .with("Content-Security-Policy", policy)
}

fn wrong_method(allowed: &str) -> Response {
    Response::error(405, &format!("this address takes {allowed}")).with("Allow", allowed)
}

/// Asks a person for the token, and tells a program that it needs one.
fn unauthorised(request: &Request, is_read: bool) -> Response {
    if request.header("authorization").is_some() {
        thread::sleep(WRONG_TOKEN);
    }
    if is_read && request.path == "/" {
        return page(401, &LOGIN);
    }
    Response::error(401, "this needs the token").with("WWW-Authenticate", "Bearer")
}
