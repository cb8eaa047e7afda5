//! The live picture and the stream of events.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::board::{Board, Shot, State};
use super::response::{Body, Outgoing, Response};

/// Pictures and states come at most this often.
const STEP: Duration = Duration::from_millis(100);
/// A state is sent at most this often: numbers that change faster cannot be read.
const STATE_STEP: Duration = Duration::from_millis(250);
/// How long a request waits for a picture.
const PATIENCE: Duration = Duration::from_secs(5);
/// A picture of this age is of now.
const FRESH: Duration = Duration::from_millis(500);
/// Something is written at least this often, so that a client that is gone is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What separates pictures of a stream.
const BOUNDARY: &str = "sextant-frame";

/// A picture newer than number `after`, or, if none is given, one of now.
pub fn picture(board: &Board, after: Option<u64>) -> Response {
    board.want_pictures();
    let newer = |state: &State| {
        let shot = state.shot.as_ref()?;
        let is_newer = match after {
            // Numbers begin anew with the program.
            Some(after) => shot.serial != after && shot.at.elapsed() < FRESH,
            None => shot.at.elapsed() < FRESH,
        };
        is_newer.then(|| Arc::clone(shot))
    };
    let latest = |state: &State| state.shot.clone().filter(|_| after.is_none());
    let shot = board.wait(PATIENCE, newer).or_else(|| board.wait(Duration::ZERO, latest));
    let Some(shot) = shot else {
        return Response::error(503, "no picture has come yet").with("Retry-After", "1");
    };
    match shot.jpeg() {
        Some(jpeg) => Response::new(200, "image/jpeg", Body::Shared(jpeg))
            .with("X-Picture", shot.serial.to_string()),
        None => Response::error(503, "the picture cannot be encoded"),
    }
}

/// Pictures for as long as the client reads them (`multipart/x-mixed-replace`).
pub fn pictures(board: &Board, outgoing: &Outgoing<'_>) -> io::Result<()> {
    outgoing.begin(&format!("multipart/x-mixed-replace; boundary={BOUNDARY}"))?;
    let mut last: Option<Arc<Shot>> = None;
    loop {
        let begun = Instant::now();
        board.want_pictures();
        let newer = |state: &State| {
            let shot = state.shot.as_ref()?;
            let is_new = last.as_ref().is_none_or(|last| last.serial != shot.serial);
            (state.ended || is_new).then(|| Arc::clone(shot))
        };
        // Where none comes the last is sent again: a sign of life.
        let next = board.wait(PATIENCE, newer).or_else(|| last.clone());
        if let Some(jpeg) = next.as_ref().and_then(|shot| shot.jpeg()) {
            let mut part = format!(
                "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                jpeg.len()
            )
            .into_bytes();
            part.extend_from_slice(&jpeg);
            part.extend_from_slice(b"\r\n");
            outgoing.write(&part)?;
        }
        last = next;
        if board.wait(Duration::ZERO, |state| state.ended.then_some(())).is_some() {
            return Ok(());
        }
        thread::sleep(STEP.saturating_sub(begun.elapsed()));
    }
}

/// Events after number `after`, and states, as they come (server-sent events).
pub fn events(board: &Board, after: u64, outgoing: &Outgoing<'_>) -> io::Result<()> {
    outgoing.begin("text/event-stream")?;
    let (mut after, mut looked) = (after, None);
    let mut sent = Instant::now();
    loop {
        let begun = Instant::now();
        let ready = |state: &State| {
            let news = state.last_event() > after || looked != Some(state.looked);
            (news || state.ended).then(|| {
                (state.events_after(after), state.looked, board.describe(state), state.ended)
            })
        };
        let mut message = String::new();
        let mut ended = false;
        if let Some((events, now, described, over)) = board.wait(SIGN_OF_LIFE, ready) {
            for (number, event) in events {
                message.push_str(&format!("id: {number}\nevent: happening\ndata: {event}\n\n"));
                after = number;
            }
            message.push_str(&format!("event: state\ndata: {described}\n\n"));
            (looked, ended) = (Some(now), over);
        } else if sent.elapsed() >= SIGN_OF_LIFE {
            // The page shows how long nothing has come.
            message = format!("event: state\ndata: {}\n\n", board.now());
        }
        if !message.is_empty() {
            outgoing.write(message.as_bytes())?;
            sent = Instant::now();
        }
        if ended {
            return Ok(());
        }
        thread::sleep(STATE_STEP.saturating_sub(begun.elapsed()));
    }
}
