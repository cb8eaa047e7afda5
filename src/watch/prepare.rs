//! Frames made ready for the encoder, on a thread of its own: picked, decoded, looked at for
//! motion, cut into regions and resized.

use std::fmt::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::counters::Count;
use super::queue::{Queue, Taken};
use super::source::{Frame, Moment, Payload, Source};
use super::{MotionGate, Region, WatchError};
use crate::picture::{
    DecodeLimits, Picture, PixelGrid, Preprocess, PreprocessSpec, ResizeBuffers, ResizeMode,
    decode_bytes,
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
            name: String::new(),
            buffers: Vec::new(),
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
    /// What the present frame is called in messages.
    name: String,
    /// For each region: they differ in size.
    buffers: Vec<ResizeBuffers>,
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
            if let Some(bytes) = frame.payload.into_bytes() {
                let _ = self.spare.push_newest(bytes);
            }
            return None;
        }
        let picture = self.decode(frame.payload, frame.number)?;
        let gate = self.options.gate.as_mut();
        let passes = gate.is_none_or(|gate| gate.passes(&picture, frame.time));
        let grids = if passes { self.grids(&picture) } else { Vec::new() };
        self.counters.add(if passes { Count::Encoded } else { Count::Still }, 1);
        Some(Prepared {
            number: frame.number,
            time: frame.time,
            moment: frame.moment,
            grids,
            picture: self.options.keep_pictures.then_some(picture),
        })
    }

    /// What the encoder sees of a picture, region by region.
    fn grids(&mut self, picture: &Picture) -> Vec<PixelGrid> {
        let regions = &self.options.regions;
        self.buffers.resize_with(regions.len().max(1), ResizeBuffers::default);
        if regions.is_empty() {
            return vec![self.preprocess.pixels_with(picture, &mut self.buffers[0])];
        }
        let pairs = regions.iter().zip(&mut self.buffers);
        pairs
            .map(|(region, buffers)| self.preprocess.pixels_with(&region.cut(picture), buffers))
            .collect()
    }

    /// The picture of a frame; a damaged one is counted.
    fn decode(&mut self, payload: Payload, number: u64) -> Option<Picture> {
        self.name.clear();
        let _ = write!(self.name, "frame {number}");
        let decoded = match payload {
            Payload::Picture(picture) => return Some(picture),
            Payload::Encoded(ref bytes) => {
                decode_bytes(bytes, &self.name, &self.options.limits).map_err(|e| e.to_string())
            }
            #[cfg(feature = "v4l2")]
            Payload::Yuyv(ref frame) => {
                frame.picture().ok_or_else(|| format!("{}: it is cut short", self.name))
            }
        };
        if let Some(bytes) = payload.into_bytes() {
            let _ = self.spare.push_newest(bytes);
        }
        match decoded {
            Ok(picture) => Some(picture),
            Err(reason) => {
                self.counters.damaged_frame(reason);
                None
            }
        }
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
