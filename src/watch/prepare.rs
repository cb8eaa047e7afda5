//! Frames made ready for the encoder, on a thread of its own: picked, decoded, looked at for
//! motion, cut into regions and resized.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::counters::Count;
use super::queue::{Queue, Taken};
use super::source::{Frame, Moment, Payload, Source};
use super::{MotionGate, Region, WatchError};
use crate::picture::{
    DecodeLimits, Picture, PixelGrid, Preprocess, PreprocessSpec, ResizeMode, decode_bytes,
};

/// What part of a frame the encoder sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum View {
    /// All of it, whatever its proportions: what happens at the edge is seen.
    #[default]
    Whole,
    /// The middle, as the model was trained on.
    Middle,
}

/// How frames are picked and made ready.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PrepareOptions {
    /// At most so many frames a second.
    pub fps: Option<f64>,
    /// Every so manyth frame only; at least 1.
    pub every: u64,
    /// What the encoder sees.
    pub view: View,
    /// Regions; none means the whole picture.
    pub regions: Vec<Region>,
    /// Skips the encoder while nothing moves.
    pub gate: Option<MotionGate>,
    /// Keep the pictures, for snapshots.
    pub keep_pictures: bool,
    /// Limits on the size of frames.
    pub limits: DecodeLimits,
}

impl Default for PrepareOptions {
    fn default() -> Self {
        Self {
            fps: Some(10.0),
            every: 1,
            view: View::default(),
            regions: Vec::new(),
            gate: Some(MotionGate::new(8.0, 2.0)),
            keep_pictures: false,
            limits: DecodeLimits::default(),
        }
    }
}

/// A frame ready for the encoder.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// Counted from 0 over all frames of the source.
    pub number: u64,
    /// Seconds that never go back.
    pub time: f64,
    /// When the frame was there.
    pub moment: Moment,
    /// Pixels for the encoder, one grid a region; none when the scene is still.
    pub grids: Vec<PixelGrid>,
    /// The picture, if asked for.
    pub picture: Option<Picture>,
}

/// A source whose frames come out ready for the encoder.
#[derive(Debug)]
pub struct Frames {
    source: Source,
    ready: Arc<Queue<Prepared>>,
}

/// What asking for a frame gave.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Box<Prepared>),
    /// None came in time.
    Nothing,
    /// The source has ended.
    End,
}

impl Frames {
    /// Begins to make frames ready.
    ///
    /// # Errors
    /// [`WatchError::Source`] when no thread can be started.
    pub fn start(
        source: Source,
        preprocess: &Preprocess,
        options: PrepareOptions,
    ) -> Result<Self, WatchError> {
        let ready = Arc::new(Queue::new(2));
        let worker = Worker {
            frames: Arc::clone(&source.frames),
            spare: Arc::clone(&source.spare),
            counters: Arc::clone(&source.counters),
            ready: Arc::clone(&ready),
            preprocess: viewed(preprocess, options.view),
            options,
            due: f64::NEG_INFINITY,
        };
        thread::Builder::new()
            .name("prepare".to_owned())
            .spawn(move || worker.run())
            .map_err(|reason| WatchError::Source { source_name: "thread".to_owned(), reason })?;
        Ok(Self { source, ready })
    }

    /// The next frame, waiting for it at most `patience`.
    pub fn next(&self, patience: Duration) -> Next {
        match self.ready.take(patience) {
            Taken::Item(prepared) => Next::Frame(Box::new(prepared)),
            Taken::Nothing => Next::Nothing,
            Taken::Closed => Next::End,
        }
    }

    /// The counts, and a place for messages.
    pub fn counters(&self) -> &super::Counters {
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
        let ended = matches!(self.ready.take(Duration::ZERO), Taken::Closed);
        if !ended {
            self.source.stop();
        }
        self.ready.close();
        self.source.outcome()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.source.stop();
        self.ready.close();
    }
}

/// The package's preprocessing, or the same over the whole picture.
fn viewed(preprocess: &Preprocess, view: View) -> Preprocess {
    let (width, height) = preprocess.output_size();
    let whole = PreprocessSpec {
        resize: ResizeMode::Squash,
        resize_size: [width, height],
        crop: None,
        ..preprocess.spec().clone()
    };
    match view {
        View::Middle => preprocess.clone(),
        View::Whole => Preprocess::new(whole).unwrap_or_else(|_| preprocess.clone()),
    }
}

struct Worker {
    frames: Arc<Queue<Frame>>,
    spare: Arc<Queue<Vec<u8>>>,
    counters: Arc<super::Counters>,
    ready: Arc<Queue<Prepared>>,
    preprocess: Preprocess,
    options: PrepareOptions,
    /// When the next frame is wanted.
    due: f64,
}

impl Worker {
    fn run(mut self) {
        loop {
            match self.frames.take(Duration::from_secs(3600)) {
                Taken::Item(frame) => {
                    if let Some(prepared) = self.prepare(frame)
                        && self.ready.push_waiting(prepared).is_err()
                    {
                        self.frames.close();
                        return;
                    }
                }
                Taken::Nothing => {}
                Taken::Closed => break,
            }
        }
        self.ready.close();
    }

    fn prepare(&mut self, frame: Frame) -> Option<Prepared> {
        if !self.is_wanted(&frame) {
            self.counters.add(Count::PassedOver, 1);
            if let Payload::Encoded(bytes) = frame.payload {
                let _ = self.spare.push_newest(bytes);
            }
            return None;
        }
        let picture = match frame.payload {
            Payload::Picture(picture) => picture,
            Payload::Encoded(bytes) => {
                let name = format!("frame {}", frame.number);
                let decoded = decode_bytes(&bytes, &name, &self.options.limits);
                let _ = self.spare.push_newest(bytes);
                match decoded {
                    Ok(picture) => picture,
                    Err(error) => {
                        self.counters.add(Count::Damaged, 1);
                        self.counters.notice(error.to_string());
                        return None;
                    }
                }
            }
        };
        let gate = self.options.gate.as_mut();
        let passes = gate.is_none_or(|gate| gate.passes(&picture, frame.time));
        let grids = match (passes, &self.options.regions[..]) {
            (false, _) => Vec::new(),
            (true, []) => vec![self.preprocess.pixels(&picture)],
            (true, regions) => {
                regions.iter().map(|r| self.preprocess.pixels(&r.cut(&picture))).collect()
            }
        };
        self.counters.add(if passes { Count::Encoded } else { Count::Still }, 1);
        Some(Prepared {
            number: frame.number,
            time: frame.time,
            moment: frame.moment,
            grids,
            picture: self.options.keep_pictures.then_some(picture),
        })
    }

    fn is_wanted(&mut self, frame: &Frame) -> bool {
        if !frame.number.is_multiple_of(self.options.every.max(1)) {
            return false;
        }
        let Some(fps) = self.options.fps else { return true };
        // A little early is on time: time stamps are rounded.
        let step = 1.0 / fps;
        if frame.time < self.due - 0.1 * step {
            return false;
        }
        self.due = if frame.time - self.due > step { frame.time + step } else { self.due + step };
        true
    }
}
