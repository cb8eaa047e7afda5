//! Counts heap allocations and time a frame, step by step, of what `sextant watch` does with a recording.
//!
//!     cargo run --release --example watch_allocations -- film.mjpeg
//!
//! The steps are measured one after the other on one thread, then all of it as `watch` runs it.
//! What the JPEG decoder and the encoder (tract) allocate is theirs; the rest is ours.

use std::alloc::System;
use std::error::Error;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sextant::picture::{DecodeLimits, ResizeBuffers, decode_bytes};
use sextant::watch::{
    Calm, Frames, JpegSplitter, MotionGate, Next, PrepareOptions, Scene, Source, SourceOptions,
    Watcher, is_absence,
};
use sextant::{CompiledLabels, Encoder, LabelSet, TextCache};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames that are not counted: buffers grow to their size.
const WARM_UP: usize = 20;

/// Frames of the step-by-step measurement.
const FRAMES: usize = 200;

/// Allocations of one step over all frames.
#[derive(Default)]
struct Step {
    allocations: usize,
    bytes: usize,
    time: Duration,
}

impl Step {
    fn measure<T>(&mut self, counted: bool, work: impl FnOnce() -> T) -> T {
        let region = Region::new(ALLOCATOR);
        let began = Instant::now();
        let result = work();
        let time = began.elapsed();
        let change = region.change();
        if counted {
            self.allocations += change.allocations + change.reallocations;
            self.bytes += change.bytes_allocated;
            self.time += time;
        }
        result
    }

    fn print(&self, name: &str, frames: usize) {
        let (count, bytes) = (self.allocations as f64, self.bytes as f64);
        let (frames, seconds) = (frames as f64, self.time.as_secs_f64());
        let (count, bytes, milliseconds) = (count / frames, bytes / frames, 1e3 * seconds / frames);
        println!("{name:<28} {count:>9.2} {bytes:>12.0} {milliseconds:>8.3}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: watch_allocations FILM.mjpeg")?;
    let encoder = Arc::new(Encoder::new(sextant::find_model(sextant::DEFAULT_MODEL)?));
    let set = LabelSet::from_argument("a car,an empty car park")?;
    let mut cache = TextCache::open_at(None, encoder.package().manifest().dimension);
    let labels = sextant::compile_labels(&encoder, &set, None, &mut cache, &|_| {})?;
    println!("step                          allocations       bytes       ms   (a frame)");
    by_step(&path, &encoder, &labels)?;
    as_a_whole(&path, &encoder, &labels)
}

fn scene<'a>(labels: &'a CompiledLabels, encoder: &'a Encoder) -> Scene<'a> {
    Scene::new(labels, encoder.package().manifest(), &is_absence, false)
}

fn by_step(path: &str, encoder: &Encoder, labels: &CompiledLabels) -> Result<(), Box<dyn Error>> {
    let [mut read, mut decode, mut motion, mut resize, mut encode, mut events] =
        [(); 6].map(|()| Step::default());
    let mut watcher = Watcher::new(scene(labels, encoder), Calm::default(), 1);
    let mut gate = MotionGate::new(8.0, 2.0);
    let mut splitter = JpegSplitter::new(File::open(path)?);
    let preprocess = &encoder.package().manifest().image.preprocess;
    let mut buffers = ResizeBuffers::default();
    let (mut frame, mut seen) = (Vec::new(), 0);
    for number in 0..WARM_UP + FRAMES {
        let counted = number >= WARM_UP;
        if !read.measure(counted, || splitter.next_frame(&mut frame))? {
            break;
        }
        let limits = DecodeLimits::default();
        let picture = decode.measure(counted, || decode_bytes(&frame, "frame", &limits))?;
        let time = number as f64 / 25.0;
        motion.measure(counted, || gate.passes(&picture, time));
        let pixels = resize.measure(counted, || preprocess.pixels_with(&picture, &mut buffers));
        let embedding = encode.measure(counted, || encoder.pixel_grid(&pixels, "frame"))?;
        events.measure(counted, || {
            watcher.look(0, &embedding)?;
            watcher.step(time, |_| {});
            Ok::<(), Box<dyn Error>>(())
        })?;
        seen += usize::from(counted);
    }
    let seen = seen.max(1);
    read.print("read", seen);
    decode.print("decode (libjpeg-turbo-rs)", seen);
    motion.print("motion", seen);
    resize.print("resize", seen);
    encode.print("encode (tract)", seen);
    events.print("scores and events", seen);
    Ok(())
}

fn as_a_whole(
    path: &str,
    encoder: &Arc<Encoder>,
    labels: &CompiledLabels,
) -> Result<(), Box<dyn Error>> {
    let mut options = PrepareOptions::default();
    (options.fps, options.gate) = (None, None);
    let frames = Frames::start(Source::open(path, &SourceOptions::default())?, encoder, options)?;
    let mut watcher = Watcher::new(scene(labels, encoder), Calm::default(), 1);
    let (mut region, mut began, mut seen) = (Region::new(ALLOCATOR), Instant::now(), 0usize);
    loop {
        let frame = match frames.next(Duration::from_secs(1)) {
            Next::Frame(frame) => frame,
            Next::Nothing => continue,
            Next::End => break,
        };
        if seen == WARM_UP {
            region.reset();
            began = Instant::now();
        }
        seen += 1;
        watcher.look(0, &frame.embeddings[0])?;
        watcher.step(frame.time, |_| {});
    }
    let change = region.change();
    let all = Step {
        allocations: change.allocations + change.reallocations,
        bytes: change.bytes_allocated,
        time: began.elapsed(),
    };
    all.print("all of it, threads and queues", seen.saturating_sub(WARM_UP).max(1));
    Ok(())
}
