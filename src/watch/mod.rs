//! Label what a camera sees, steadily: from frames over time to events.
//!
//! A [`Source`] reads frames on a thread of its own and drops the oldest of a live camera rather
//! than fall behind; [`Frames`] decodes them in turn and encodes several at once on further ones; a
//! [`Watcher`] takes their embeddings in order and reports when a label enters and when it leaves, by the agreement of
//! several frames. How it is used from the command line is told in `docs/watch.md`.

mod belt;
#[cfg(feature = "v4l2")]
mod camera;
mod consensus;
mod counters;
mod error;
mod ffmpeg;
mod folder;
mod frames;
#[cfg(feature = "formats")]
mod gif;
mod kinds;
mod mjpeg;
mod motion;
mod picture;
mod prepare;
mod queue;
mod reconnect;
mod region;
mod rules;
mod scene;
mod source;
mod watcher;
mod y4m;
#[cfg(feature = "v4l2")]
mod yuyv;

pub use consensus::{Calm, Change, Track};
pub use counters::{Counters, Counts};
pub use error::WatchError;
pub use frames::{Frames, Next, Seen};
pub use kinds::add_kinds;
pub use mjpeg::JpegSplitter;
pub use motion::MotionGate;
pub use picture::FramePicture;
pub use prepare::{PrepareOptions, View};
pub use region::Region;
pub use rules::{Action, Hours, Rule, Rules};
pub use scene::{Scene, is_absence};
pub use source::{Moment, Source, SourceOptions};
pub use watcher::{Happening, Past, UNKNOWN, Watcher};
