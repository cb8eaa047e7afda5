//! `--http`: the live page, its interface for programs, and metrics.
//!
//! The loop puts what it sees on a [`Board`]; threads of the [`server`] read it. Nothing that a
//! client does or leaves undone holds up the loop: it only ever takes the board's lock, and
//! nobody writes to a client while holding that.

mod access;
mod board;
mod labels;
mod live;
mod request;
mod response;
mod routes;
mod search;
mod server;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use sextant::CompiledLabels;
use sextant::watch::{Counts, Seen, Watcher};

use self::access::Access;
use self::board::Board;
use self::labels::Relabel;
use self::routes::Site;
use self::search::Searcher;
use super::super::output::complain;
use super::super::{Failure, Global};
use super::events::EventLine;
use super::outputs::Surroundings;
use super::source_name::without_password;

/// How old the metrics may be that a scrape gets.
const METRICS_EVERY: Duration = Duration::from_secs(1);

/// Where the page is, and who may see it.
#[derive(Debug, Args)]
pub struct HttpArgs {
    /// Show a live page at this address, such as 127.0.0.1:8080, or at this port of this computer
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    http: Option<SocketAddr>,
    /// A file with the token that the page asks for [default: $SEXTANT_HTTP_TOKEN]; needed at
    /// addresses that other computers reach
    #[arg(long, value_name = "FILE", requires = "http")]
    http_token_file: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let short = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
    short.parse::<u16>().map(local).or_else(|_| text.parse()).map_err(|_| {
        "an address and a port, such as 127.0.0.1:8080, [::1]:8080, 0.0.0.0:8080, or a port alone"
            .to_owned()
    })
}

/// The loop's side of the page.
pub struct Page {
    board: Arc<Board>,
    measured: Cell<Option<Instant>>,
}

impl Page {
    /// Begins to serve the page, if it was asked for.
    pub fn open(
        args: &HttpArgs,
        surroundings: &Surroundings<'_>,
        global: &Global,
    ) -> Result<Option<Self>, Failure> {
        let Some(address) = args.http else { return Ok(None) };
        let access = Access::new(address, args.http_token_file.as_deref())?;
        let source = match surroundings.source {
            "-" => "standard input".to_owned(),
            source => without_password(source),
        };
        let board = Arc::new(Board::new(surroundings.regions, source, surroundings.enter));
        let site = Site {
            board: Arc::clone(&board),
            access,
            relabel: Relabel::new(surroundings, global)?,
            searcher: Searcher::new(surroundings),
            streams: Arc::default(),
        };
        let bound = server::start(address, site).map_err(|error| {
            Failure::Failed(format!("--http {address}: the page cannot be served: {error}"))
        })?;
        if !global.quiet {
            complain(&format!("live page at http://{bound}/"));
        }
        Ok(Some(Self { board, measured: Cell::new(None) }))
    }

    /// The labels are those of `watcher` from now on.
    pub fn begin(&self, watcher: &Watcher<'_>) {
        self.board.begin(watcher);
    }

    /// Something happened.
    pub fn event(&self, line: &EventLine<'_>) {
        self.board.event(line);
    }

    /// A frame was looked at; its picture is taken if somebody looks.
    pub fn frame(&self, frame: &mut Seen, watcher: &Watcher<'_>) {
        self.board.frame(frame, watcher);
    }

    /// Whether the metrics are old.
    pub fn wants_metrics(&self) -> bool {
        self.measured.get().is_none_or(|at| at.elapsed() >= METRICS_EVERY)
    }

    /// The loop goes round; `metrics` is the text for Prometheus, if it is new.
    pub fn beat(&self, counts: &Counts, metrics: Option<String>) {
        if metrics.is_some() {
            self.measured.set(Some(Instant::now()));
        }
        self.board.beat(counts, metrics);
    }

    /// The labels that somebody typed, once.
    pub fn changed_labels(&self) -> Option<CompiledLabels> {
        self.board.take_labels()
    }

    /// Tells those who look that it is over.
    pub fn finish(&self) {
        self.board.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_this_computer_unless_they_say_so() {
        for text in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            assert_eq!(address(text).unwrap(), SocketAddr::from(([127, 0, 0, 1], 8080)), "{text}");
        }
        assert!(!address("0.0.0.0:1").unwrap().ip().is_loopback());
        assert!(address("[::1]:80").unwrap().ip().is_loopback());
        for text in ["", "example.org:80", "127.0.0.1", "70000", "::"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
