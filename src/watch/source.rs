//! Where frames come from: a thread that reads, and a queue that never grows.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

#[cfg(feature = "v4l2")]
use super::camera;
use super::counters::{Count, Counters};
#[cfg(feature = "formats")]
use super::gif;
use super::picture::Image;
use super::queue::{Queue, Taken};
use super::y4m::Y4m;
use super::{JpegSplitter, WatchError, ffmpeg, folder};
use crate::picture::DecodeLimits;

/// Frames that wait to be decoded.
const WAITING: usize = 4;

/// Frames a second of a recording that does not say.
pub(super) const USUAL_RATE: f64 = 25.0;

/// For how much time in the consensus a picture of a folder counts, in seconds: such pictures
/// come at any distance, so they are counted, not timed.
pub(super) const FOLDER_STEP: f64 = 0.2;

/// How a source is read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SourceOptions {
    /// Treat the source as a recording of so many frames a second: nothing is dropped, and times
    /// are positions in it.
    pub input_rate: Option<f64>,
    /// Leave out what a folder holds already.
    pub new_only: bool,
    /// Have ffmpeg give at most so many frames a second.
    pub fps: Option<f64>,
    /// Width and height that a camera of this computer is asked for; it gives the nearest it can.
    pub camera_size: [u32; 2],
    /// Limits on the size of frames.
    pub limits: DecodeLimits,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            input_rate: None,
            new_only: false,
            fps: None,
            camera_size: [640, 480],
            limits: DecodeLimits::default(),
        }
    }
}

/// A frame's content as it came.
#[derive(Debug)]
pub(super) enum Payload {
    /// A JPEG picture of a stream.
    Jpeg(Vec<u8>),
    /// A picture file.
    File(Vec<u8>),
    Image(Image),
    #[cfg(feature = "v4l2")]
    Yuyv(super::yuyv::Yuyv),
}

impl Payload {
    /// Its buffer, to be used again.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Jpeg(bytes) | Self::File(bytes) => Some(bytes),
            Self::Image(_) => None,
            #[cfg(feature = "v4l2")]
            Self::Yuyv(frame) => Some(frame.bytes),
        }
    }
}

/// When a frame was there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    /// Seconds from the start of a recording.
    Position(f64),
    /// The time of day; of a picture in a folder, that of its last change.
    Clock(SystemTime),
}

#[derive(Debug)]
pub(super) struct Frame {
    pub number: u64,
    /// Seconds that never go back, for windows.
    pub time: f64,
    pub moment: Moment,
    pub payload: Payload,
}

/// What a source is, by its name and its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Stdin,
    Mjpeg(PathBuf),
    Pipe(PathBuf),
    Y4m(PathBuf),
    Gif(PathBuf),
    Folder(PathBuf),
    /// A camera of this computer.
    #[cfg(feature = "v4l2")]
    Camera(PathBuf),
    /// Through ffmpeg; live ones are opened again when they end.
    Ffmpeg {
        input: String,
        live: bool,
        device: bool,
    },
}

/// An open source.
#[derive(Debug)]
pub struct Source {
    pub(super) frames: Arc<Queue<Frame>>,
    pub(super) spare: Arc<Queue<Vec<u8>>>,
    pub(super) counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<(), WatchError>>>,
    live: bool,
}

/// Where readers put their frames.
pub(super) struct Sink {
    frames: Arc<Queue<Frame>>,
    spare: Arc<Queue<Vec<u8>>>,
    pub counters: Arc<Counters>,
    pub stop: Arc<AtomicBool>,
    pub name: String,
    live: bool,
    started: Instant,
    number: u64,
}

impl Sink {
    /// Whether the user has asked to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A buffer for a frame's bytes, used before where possible.
    pub fn buffer(&self) -> Vec<u8> {
        match self.spare.take(std::time::Duration::ZERO) {
            Taken::Item(buffer) => buffer,
            _ => Vec::new(),
        }
    }

    /// Hands over a frame of a recording at `position` seconds, or of a live source now; false
    /// when nobody wants more.
    pub fn put(&mut self, payload: Payload, position: f64) -> bool {
        let (time, moment) = if self.live {
            (self.started.elapsed().as_secs_f64(), Moment::Clock(SystemTime::now()))
        } else {
            (position, Moment::Position(position))
        };
        self.put_at(payload, time, moment)
    }

    /// Hands over the next frame of a source of `rate` frames a second. Numbers go on where a
    /// camera was opened again, so time does.
    pub fn put_next(&mut self, payload: Payload, rate: f64) -> bool {
        self.put(payload, self.number as f64 / rate)
    }

    /// Hands over a frame with its times.
    pub fn put_at(&mut self, payload: Payload, time: f64, moment: Moment) -> bool {
        self.counters.add(Count::Frame, 1);
        let frame = Frame { number: self.number, time, moment, payload };
        self.number += 1;
        if !self.live {
            return self.frames.push_waiting(frame).is_ok() && !self.stopped();
        }
        match self.frames.push_newest(frame) {
            Ok(None) => !self.stopped(),
            Ok(Some(oldest)) => {
                self.counters.add(Count::Dropped, 1);
                if let Some(buffer) = oldest.payload.into_bytes() {
                    let _ = self.spare.push_newest(buffer);
                }
                !self.stopped()
            }
            Err(_) => false,
        }
    }
}

impl Source {
    /// Opens a source and begins to read it: `-` for MJPEG on standard input; an MJPEG, y4m or
    /// GIF file; a folder; everything else that ffmpeg reads.
    ///
    /// # Errors
    /// [`WatchError::Source`] when there is no such thing, [`WatchError::NoFfmpeg`].
    pub fn open(name: &str, options: &SourceOptions) -> Result<Self, WatchError> {
        let kind = recognise(name)?;
        if matches!(kind, Kind::Ffmpeg { .. }) && !ffmpeg::is_installed() {
            return Err(WatchError::NoFfmpeg { source_name: name.to_owned() });
        }
        let live = options.input_rate.is_none()
            && match &kind {
                Kind::Stdin => !stdin_is_file(),
                Kind::Pipe(_) => true,
                #[cfg(feature = "v4l2")]
                Kind::Camera(_) => true,
                Kind::Ffmpeg { live, .. } => *live,
                _ => false,
            };
        let frames = Arc::new(Queue::new(WAITING));
        let spare = Arc::new(Queue::new(2 * WAITING));
        let (counters, stop) = (Arc::new(Counters::default()), Arc::new(AtomicBool::new(false)));
        let mut sink = Sink {
            frames: Arc::clone(&frames),
            spare: Arc::clone(&spare),
            counters: Arc::clone(&counters),
            stop: Arc::clone(&stop),
            name: name.to_owned(),
            live,
            started: Instant::now(),
            number: 0,
        };
        let options = options.clone();
        let reader = thread::Builder::new().name("source".to_owned()).spawn(move || {
            let result = read(&kind, &options, &mut sink);
            sink.frames.close();
            result
        });
        let refuse = |reason| WatchError::Source { source_name: name.to_owned(), reason };
        let reader = Some(reader.map_err(refuse)?);
        Ok(Self { frames, spare, counters, stop, reader, live })
    }

    /// Whether frames that come too fast are dropped.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Reads no more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.frames.close();
    }

    /// What ended the reading, once it has ended by itself.
    pub(super) fn outcome(&mut self) -> Result<(), WatchError> {
        match self.reader.take() {
            // A reader that waits for bytes that never come is left behind.
            Some(reader) if reader.is_finished() || !self.stop.load(Ordering::Relaxed) => {
                reader.join().unwrap_or(Ok(()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
    }
}

fn recognise(name: &str) -> Result<Kind, WatchError> {
    if name == "-" {
        return Ok(Kind::Stdin);
    }
    let is_address = name.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
    });
    if is_address {
        return Ok(Kind::Ffmpeg { input: name.to_owned(), live: true, device: false });
    }
    let path = Path::new(name);
    let refuse = |reason| WatchError::Source { source_name: name.to_owned(), reason };
    // A camera may be plugged in later.
    let is_camera = name.starts_with("/dev/video");
    let about = match fs::metadata(path) {
        Err(_) if is_camera => None,
        about => Some(about.map_err(refuse)?),
    };
    let about = match about {
        Some(about) if about.is_dir() => return Ok(Kind::Folder(path.to_owned())),
        Some(about) if about.file_type().is_fifo() => return Ok(Kind::Pipe(path.to_owned())),
        about => about,
    };
    if is_camera || about.is_some_and(|about| about.file_type().is_char_device()) {
        #[cfg(feature = "v4l2")]
        if camera::is_known(path) || !ffmpeg::is_installed() {
            return Ok(Kind::Camera(path.to_owned()));
        }
        return Ok(Kind::Ffmpeg { input: name.to_owned(), live: true, device: true });
    }
    let mut first = Vec::new();
    let file = File::open(path).map_err(refuse)?;
    file.take(16).read_to_end(&mut first).map_err(refuse)?;
    let is_mjpeg_name = path.extension().is_some_and(|e| e == "mjpeg" || e == "mjpg");
    Ok(if first.starts_with(b"\xFF\xD8") || is_mjpeg_name {
        Kind::Mjpeg(path.to_owned())
    } else if first.starts_with(b"YUV4MPEG2") {
        Kind::Y4m(path.to_owned())
    } else if first.starts_with(b"GIF8") {
        Kind::Gif(path.to_owned())
    } else {
        // "file:" keeps a name with a colon or a dash in it from meaning something else.
        Kind::Ffmpeg { input: format!("file:{name}"), live: false, device: false }
    })
}

fn stdin_is_file() -> bool {
    fs::metadata("/dev/stdin").is_ok_and(|about| about.is_file())
}

fn read(kind: &Kind, options: &SourceOptions, sink: &mut Sink) -> Result<(), WatchError> {
    let name = sink.name.clone();
    let refuse = |reason| WatchError::Source { source_name: name.clone(), reason };
    let rate = options.input_rate.unwrap_or(USUAL_RATE);
    match kind {
        Kind::Stdin => read_mjpeg(io::stdin().lock(), rate, sink),
        Kind::Mjpeg(path) | Kind::Pipe(path) => {
            read_mjpeg(File::open(path).map_err(refuse)?, rate, sink)
        }
        Kind::Y4m(path) => {
            let input = BufReader::with_capacity(1 << 18, File::open(path).map_err(refuse)?);
            read_y4m(Y4m::new(input, &name, &options.limits)?, options.input_rate, sink)
        }
        #[cfg(feature = "formats")]
        Kind::Gif(path) => gif::read(path, options, sink),
        #[cfg(not(feature = "formats"))]
        Kind::Gif(_) => Err(WatchError::Gif {
            source_name: name,
            reason: "this program was built without the cargo feature `formats`".to_owned(),
        }),
        #[cfg(feature = "v4l2")]
        Kind::Camera(path) => camera::read(path, options, sink),
        Kind::Folder(path) => folder::read(path, options.new_only, sink),
        Kind::Ffmpeg { input, live, device } => ffmpeg::read(input, *live, *device, options, sink),
    }
}

fn read_mjpeg(input: impl Read, rate: f64, sink: &mut Sink) -> Result<(), WatchError> {
    let mut splitter = JpegSplitter::new(input);
    let (mut garbage, mut truncated) = (0, 0);
    loop {
        let mut buffer = sink.buffer();
        let more = splitter.next_frame(&mut buffer);
        sink.counters.add_garbage(splitter.garbage_bytes() - garbage);
        sink.counters.add(Count::Damaged, splitter.truncated_frames() - truncated);
        (garbage, truncated) = (splitter.garbage_bytes(), splitter.truncated_frames());
        let more =
            more.map_err(|reason| WatchError::Source { source_name: sink.name.clone(), reason })?;
        if !more || !sink.put_next(Payload::Jpeg(buffer), rate) {
            break;
        }
    }
    Ok(())
}

/// Reads a y4m stream to its end.
pub(super) fn read_y4m<R: io::BufRead>(
    mut stream: Y4m<R>,
    rate: Option<f64>,
    sink: &mut Sink,
) -> Result<(), WatchError> {
    let rate = rate.unwrap_or(stream.rate);
    while let Some(image) = stream.next_image()? {
        if !sink.put_next(Payload::Image(image), rate) {
            break;
        }
    }
    Ok(())
}
