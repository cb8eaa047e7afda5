//! Frames made ready for the encoders, one after the other: picked, decoded, looked at for motion,
//! cut into regions and resized.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::belt::Belt;
use super::counters::Count;
use super::frames::Seen;
use super::picture::Image;
use super::queue::{Queue, Taken};
use super::source::{Frame, Moment, Payload, Source};
use super::{Counters, FramePicture, MotionGate, Region};
use crate::encode::Encoder;
use crate::picture::{
    DecodeLimits, PixelGrid, PlaneBuffers, Preprocess, PreprocessSpec, ResizeBuffers, ResizeMode,
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
    /// Frames that are encoded at once, each on a thread of its own; at least 1.
    pub encoders: usize,
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
            encoders: 1,
            keep_pictures: false,
            limits: DecodeLimits::default(),
        }
    }
}

/// A frame ready for the encoder.
#[derive(Debug)]
pub(super) struct Prepared {
    pub number: u64,
    pub time: f64,
    pub moment: Moment,
    /// Pixels for the encoder, one grid a region.
    pub grids: Vec<PixelGrid>,
    pub picture: Option<FramePicture>,
}

impl Prepared {
    /// The frame of a scene in which nothing has moved.
    fn still(self) -> Seen {
        let Self { number, time, moment, picture, .. } = self;
        Seen { number, time, moment, embeddings: Vec::new(), picture }
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

/// Makes frames ready.
pub(super) struct Worker {
    frames: Arc<Queue<Frame>>,
    spare: Arc<Queue<Vec<u8>>>,
    counters: Arc<Counters>,
    belt: Arc<Belt<Seen>>,
    preprocess: Preprocess,
    options: PrepareOptions,
    /// When the next frame is wanted.
    due: f64,
    /// What the present frame is called in messages.
    name: String,
    /// For each region: they differ in size.
    buffers: Vec<ResizeBuffers>,
    plane_buffers: PlaneBuffers,
}

impl Worker {
    pub fn new(
        source: &Source,
        belt: &Arc<Belt<Seen>>,
        encoder: &Encoder,
        options: PrepareOptions,
    ) -> Self {
        Self {
            frames: Arc::clone(&source.frames),
            spare: Arc::clone(&source.spare),
            counters: Arc::clone(&source.counters),
            belt: Arc::clone(belt),
            preprocess: viewed(&encoder.package().manifest().image.preprocess, options.view),
            options,
            due: f64::NEG_INFINITY,
            name: String::new(),
            buffers: Vec::new(),
            plane_buffers: PlaneBuffers::default(),
        }
    }

    /// The next frame that is to be encoded, with its place on the belt; `None` when there are no
    /// more, or nobody wants them. Frames that need not be encoded go to the belt meanwhile.
    pub fn next(&mut self) -> Option<(u64, Prepared)> {
        loop {
            let frame = match self.frames.take(Duration::from_secs(3600)) {
                Taken::Item(frame) => frame,
                Taken::Nothing => continue,
                Taken::Closed => break,
            };
            let number = frame.number;
            let prepared = catch_unwind(AssertUnwindSafe(|| self.prepare(frame)));
            let prepared = prepared.unwrap_or_else(|_| {
                self.counters
                    .damaged_frame(format!("frame {number}: the decoder broke down at it"));
                None
            });
            let Some(prepared) = prepared else { continue };
            let taken = match prepared.grids.is_empty() {
                true => self.belt.lay_done(prepared.still()).then_some(None),
                false => self.belt.reserve().map(|place| Some((place, prepared))),
            };
            match taken {
                Some(None) => {}
                Some(to_encode) => return to_encode,
                None => break,
            }
        }
        self.frames.close();
        self.belt.close();
        None
    }

    /// Makes a frame ready, if it is wanted and whole; without grids when nothing has moved.
    fn prepare(&mut self, frame: Frame) -> Option<Prepared> {
        let Frame { number, time, moment, payload } = frame;
        if !self.is_wanted(number, time) {
            self.counters.add(Count::PassedOver, 1);
            payload.into_bytes().into_iter().for_each(|bytes| self.give_back(bytes));
            return None;
        }
        let (image, bytes) = self.decode(payload, number)?;
        let gate = self.options.gate.as_mut();
        let moved = gate.is_none_or(|gate| gate.passes_image(&image, time));
        let grids = if moved { self.grids(&image) } else { Vec::new() };
        if !moved {
            self.counters.add(Count::Still, 1);
        }
        Some(Prepared { number, time, moment, grids, picture: self.keep(image, bytes) })
    }

    /// What the encoder sees of a picture, region by region.
    fn grids(&mut self, image: &Image) -> Vec<PixelGrid> {
        let regions = &self.options.regions;
        if regions.is_empty()
            && let Image::Planes(planes) = image
            && let Some(grid) = self.preprocess.pixels_of_planes(planes, &mut self.plane_buffers)
        {
            return vec![grid];
        }
        let picture = image.rgb();
        self.buffers.resize_with(regions.len().max(1), ResizeBuffers::default);
        if regions.is_empty() {
            return vec![self.preprocess.pixels_with(&picture, &mut self.buffers[0])];
        }
        let pairs = regions.iter().zip(&mut self.buffers);
        pairs
            .map(|(region, buffers)| self.preprocess.pixels_with(&region.cut(&picture), buffers))
            .collect()
    }

    /// The pixels of a frame, and the bytes of a picture file; a damaged one is counted.
    fn decode(&mut self, payload: Payload, number: u64) -> Option<(Image, Option<Vec<u8>>)> {
        self.name.clear();
        let _ = write!(self.name, "frame {number}");
        let (name, limits) = (&self.name, &self.options.limits);
        let (decoded, bytes) = match payload {
            Payload::Image(image) => return Some((image, None)),
            // Regions are cut out of RGB.
            Payload::Jpeg(bytes) if self.options.regions.is_empty() => {
                (Image::of_jpeg(&bytes, name, limits), Some(bytes))
            }
            Payload::Jpeg(bytes) | Payload::File(bytes) => {
                (Image::of_file(&bytes, name, limits), Some(bytes))
            }
            #[cfg(feature = "v4l2")]
            Payload::Yuyv(frame) => {
                let planes = frame.planes().map(Image::Planes);
                let planes = planes.ok_or_else(|| format!("{name}: it is cut short"));
                self.give_back(frame.bytes);
                (planes, None)
            }
        };
        match decoded {
            Ok(image) => Some((image, bytes)),
            Err(reason) => {
                self.counters.damaged_frame(reason);
                bytes.into_iter().for_each(|bytes| self.give_back(bytes));
                None
            }
        }
    }

    /// The picture of a frame for those who want to see it, if anybody does.
    fn keep(&self, image: Image, bytes: Option<Vec<u8>>) -> Option<FramePicture> {
        let limits = &self.options.limits;
        if !self.options.keep_pictures {
            bytes.into_iter().for_each(|bytes| self.give_back(bytes));
            return None;
        }
        // A JPEG picture is smaller than its pixels, and planes are not quite what decoders make.
        Some(match (image, bytes) {
            (Image::Planes(_), Some(bytes)) => FramePicture::of_jpeg(bytes, limits),
            (image, bytes) => {
                bytes.into_iter().for_each(|bytes| self.give_back(bytes));
                FramePicture::of_image(image)
            }
        })
    }

    /// Lets the reader use a buffer again.
    fn give_back(&self, bytes: Vec<u8>) {
        let _ = self.spare.push_newest(bytes);
    }

    fn is_wanted(&mut self, number: u64, time: f64) -> bool {
        if !number.is_multiple_of(self.options.every.max(1)) {
            return false;
        }
        let Some(fps) = self.options.fps else { return true };
        // A little early is on time: time stamps are rounded.
        let step = 1.0 / fps;
        if time < self.due - 0.1 * step {
            return false;
        }
        self.due = if time - self.due > step { time + step } else { self.due + step };
        true
    }
}
