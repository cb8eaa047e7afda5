//! What can be wrong with a source, a region or a rules file.

use std::io;

/// Why watching cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The source cannot be opened or read.
    #[error("{source_name}: cannot be read: {reason}")]
    Source {
        /// The source as given.
        source_name: String,
        /// What the operating system says.
        reason: io::Error,
    },
    /// A source that only ffmpeg reads, and ffmpeg is not installed.
    #[error(
        "{source_name}: reading this needs the program ffmpeg, which is not installed; \
         MJPEG, y4m, GIF and folders of pictures are read without it"
    )]
    NoFfmpeg {
        /// The source as given.
        source_name: String,
    },
    /// A y4m stream breaks a rule of its format.
    #[error("{source_name}: not a y4m stream that can be read: {rule}")]
    Y4m {
        /// The source as given.
        source_name: String,
        /// The rule.
        rule: &'static str,
    },
    /// A GIF cannot be decoded.
    #[error("{source_name}: damaged GIF: {reason}")]
    Gif {
        /// The source as given.
        source_name: String,
        /// What the decoder says.
        reason: String,
    },
    /// A region is not written as it must be.
    #[error("region {text:?}: {rule}")]
    Region {
        /// The region as given.
        text: String,
        /// The rule.
        rule: &'static str,
    },
    /// A rules file breaks a rule.
    #[error("{file}: {reason}")]
    Rules {
        /// The rules file.
        file: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A label that is named does not exist.
    #[error("{what}: no label is called {label:?}; there are {known}")]
    NoSuchLabel {
        /// Where the label was named.
        what: String,
        /// The name.
        label: String,
        /// The names there are.
        known: String,
    },
}
