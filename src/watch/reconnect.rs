//! A camera that goes away is opened again, less and less often.

use std::thread;
use std::time::{Duration, Instant};

use super::WatchError;
use super::counters::Count;
use super::source::Sink;

/// First and longest wait before a live source is opened again.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A connection that lasted so long was a good one: waits begin again from the shortest.
const GOOD: Duration = Duration::from_secs(30);

/// Reads with `once` again and again, until the user has asked to end.
pub(super) fn forever(
    sink: &mut Sink,
    mut once: impl FnMut(&mut Sink) -> Result<(), WatchError>,
) -> Result<(), WatchError> {
    let mut wait = BACK_OFF.0;
    loop {
        let began = Instant::now();
        let result = once(sink);
        if sink.stopped() {
            return result;
        }
        if began.elapsed() >= GOOD {
            wait = BACK_OFF.0;
        }
        let reason = match result {
            Ok(()) => format!("{}: it ended", sink.name),
            Err(error) => error.to_string(),
        };
        sink.counters.notice(format!("{reason}; trying again in {} s", wait.as_secs()));
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if sink.stopped() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        wait = (wait * 2).min(BACK_OFF.1);
        sink.counters.add(Count::Reconnect, 1);
    }
}
