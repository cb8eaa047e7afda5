//! Frames that were looked at: made ready in turn and encoded at once by several threads, given in
//! order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::belt::Belt;
use super::counters::Count;
use super::prepare::{Prepared, Worker};
use super::queue::Taken;
use super::source::{Moment, Source};
use super::{Counters, FramePicture, PrepareOptions, WatchError};
use crate::embedding::Embedding;
use crate::encode::{EncodeError, Encoder};

/// A frame that was looked at.
#[derive(Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Counted from 0 over all frames of the source.
    pub number: u64,
    /// Seconds that never go back.
    pub time: f64,
    /// When the frame was there.
    pub moment: Moment,
    /// What it looks like, one embedding a region; none when the scene is still.
    pub embeddings: Vec<Embedding>,
    /// The picture, if asked for.
    pub picture: Option<FramePicture>,
}

/// A source whose frames come out encoded.
#[derive(Debug)]
pub struct Frames {
    source: Source,
    belt: Arc<Belt<Seen>>,
}

/// What asking for a frame gave.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Box<Seen>),
    /// None came in time.
    Nothing,
    /// The source has ended.
    End,
}

impl Frames {
    /// Begins to look at frames.
    ///
    /// On each of [`PrepareOptions::encoders`] threads a frame is made ready, while the others wait
    /// for their turn or encode theirs, and then encoded: that is more frames a second than all
    /// threads at one frame after the other give, no frame waits for another that came later, and
    /// there are no more threads at work than were asked for.
    ///
    /// # Errors
    /// [`WatchError::Source`] when no thread can be started.
    pub fn start(
        source: Source,
        encoder: &Arc<Encoder>,
        options: PrepareOptions,
    ) -> Result<Self, WatchError> {
        let encoders = options.encoders.max(1);
        // One more may wait to be taken.
        let belt = Arc::new(Belt::new(encoders + 1));
        let frames = Self { source, belt };
        let worker = Worker::new(&frames.source, &frames.belt, encoder, options);
        let worker = Arc::new(Mutex::new(worker));
        for number in 0..encoders {
            let (belt, encoder) = (Arc::clone(&frames.belt), Arc::clone(encoder));
            let (counters, worker) = (Arc::clone(&frames.source.counters), Arc::clone(&worker));
            let next = move || worker.lock().unwrap_or_else(PoisonError::into_inner).next();
            spawn(format!("encode {number}"), move || {
                while let Some((place, prepared)) = next() {
                    belt.finish(place, encode(&encoder, prepared, &counters));
                }
            })?;
        }
        Ok(frames)
    }

    /// The next frame, waiting for it at most `patience`.
    pub fn next(&self, patience: Duration) -> Next {
        match self.belt.take(patience) {
            Taken::Item(seen) => Next::Frame(Box::new(seen)),
            Taken::Nothing => Next::Nothing,
            Taken::Closed => Next::End,
        }
    }

    /// The counts, and a place for messages.
    pub fn counters(&self) -> &Counters {
        &self.source.counters
    }

    /// Whether the source is live.
    pub fn is_live(&self) -> bool {
        self.source.is_live()
    }

    /// Ends reading, and says what ended it if it was not this call.
    ///
    /// # Errors
    /// What the source says.
    pub fn finish(mut self) -> Result<(), WatchError> {
        let ended = matches!(self.belt.take(Duration::ZERO), Taken::Closed);
        if !ended {
            self.source.stop();
        }
        self.belt.close();
        self.source.outcome()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.source.stop();
        self.belt.close();
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), WatchError> {
    let spawned = thread::Builder::new().name(name).spawn(work);
    let refused = |reason| WatchError::Source { source_name: "thread".to_owned(), reason };
    spawned.map(drop).map_err(refused)
}

/// Encodes the regions of a frame. One that the model cannot take is no reason to watch no more:
/// it is counted, and there is nothing to see.
fn encode(encoder: &Encoder, prepared: Prepared, counters: &Counters) -> Option<Seen> {
    let Prepared { number, time, moment, grids, picture } = prepared;
    let all = || -> Result<Vec<Embedding>, EncodeError> {
        grids.iter().map(|grid| encoder.pixel_grid(grid, "frame")).collect()
    };
    let reason = match catch_unwind(AssertUnwindSafe(all)) {
        Ok(Ok(embeddings)) => {
            counters.add(Count::Encoded, 1);
            return Some(Seen { number, time, moment, embeddings, picture });
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("frame {number}: the encoder broke down at it"),
    };
    counters.damaged_frame(reason);
    None
}
