//! Connections: at most so many, each on a thread of its own.
//!
//! Written on the standard library and `httparse`: the small servers there are can neither limit
//! connections nor bound the time that one takes, and the large ones bring an asynchronous
//! runtime, which no other part of this program needs.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::request::Incoming;
use super::response::{Outgoing, Response};
use super::routes::{Reply, Site};

/// Most connections at once.
const CONNECTIONS: usize = 32;
/// Most of them that are streams without an end.
pub const STREAMS: usize = 12;
/// Most requests on one connection.
const REQUESTS: usize = 10_000;

/// Holds a place among a limited number.
pub struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place if one is free.
    pub fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let free = |count: usize| (count < most).then_some(count + 1);
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        taken.fetch_update(set, fetch, free).ok().map(|_| Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Begins to serve a site and gives the address that it has.
///
/// # Errors
/// When the address is taken or not ours.
pub fn start(address: SocketAddr, site: Site) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    let site = Arc::new(site);
    thread::Builder::new().name("http".to_owned()).spawn(move || accept(&listener, &site))?;
    Ok(bound)
}

fn accept(listener: &TcpListener, site: &Arc<Site>) {
    let taken = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // No descriptors left, perhaps: others end, and then there are some.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        let Some(place) = Place::take(&taken, CONNECTIONS) else {
            refuse(&stream);
            continue;
        };
        let site = Arc::clone(site);
        // Where no thread can be had the connection closes.
        let _ = thread::Builder::new().name("http client".to_owned()).spawn(move || {
            let _place = place;
            serve(&stream, &site);
        });
    }
}

/// Tells a client that there is no room, without waiting for it.
fn refuse(stream: &TcpStream) {
    if stream.set_nonblocking(true).is_ok() {
        let message = Response::error(503, "too many connections");
        let _ = Outgoing(stream).send(&message, false, false);
    }
}

fn serve(stream: &TcpStream, site: &Site) {
    // Pieces of a stream are small and wanted now.
    let _ = stream.set_nodelay(true);
    let (mut incoming, outgoing) = (Incoming::new(stream), Outgoing(stream));
    for _ in 0..REQUESTS {
        let request = match incoming.next() {
            Ok(request) => request,
            Err(error) => {
                if let Some(status) = error.status() {
                    let _ =
                        outgoing.send(&Response::error(status, &error.to_string()), false, false);
                }
                let _ = stream.shutdown(Shutdown::Write);
                incoming.drain();
                return;
            }
        };
        let head_only = request.method == "HEAD";
        match site.answer(&request) {
            Reply::Whole(response) => {
                let keep = request.keep_alive;
                if outgoing.send(&response, keep, head_only).is_err() || !keep {
                    return;
                }
            }
            Reply::Stream(_place, stream) => {
                let _ = stream(&outgoing);
                return;
            }
        }
    }
}
