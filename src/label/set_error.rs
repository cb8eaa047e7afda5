//! What can be wrong with a label set.

use super::set::{MAX_FILE_BYTES, MAX_LABELS, MAX_PROMPT_BYTES, MAX_PROMPTS};

/// Why a label set cannot be used. Each variant names the file and line where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The file is not there.
    #[error("{file}: no such label file (a list of names is separated by commas: \"cat,dog\")")]
    Missing {
        /// The file.
        file: String,
    },
    /// The file cannot be read.
    #[error("{file}: cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// The file is larger than any label set.
    #[error("{file}: larger than the limit of {} MiB for a label file", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        file: String,
    },
    /// The file is not text.
    #[error("{file}: not UTF-8 text (byte {at} is not): save the file as UTF-8")]
    NotText {
        /// The file.
        file: String,
        /// Offset of the first bad byte.
        at: usize,
    },
    /// The set holds no label to show.
    #[error("{file}: holds no labels")]
    NoLabels {
        /// The file, or the list.
        file: String,
    },
    /// The set holds more than [`MAX_LABELS`].
    #[error("{file}: holds more than the limit of {MAX_LABELS} labels")]
    TooMany {
        /// The file, or the list.
        file: String,
    },
    /// A label has more than [`MAX_PROMPTS`].
    #[error("{file}: label \"{label}\" has more than the limit of {MAX_PROMPTS} prompts")]
    TooManyPrompts {
        /// The file.
        file: String,
        /// The label.
        label: String,
    },
    /// A name cannot be shown.
    #[error("{file}: {reason}")]
    Name {
        /// The file, or the list.
        file: String,
        /// The name's beginning, and the rule it breaks.
        reason: String,
    },
    /// A prompt is longer than [`MAX_PROMPT_BYTES`].
    #[error(
        "{file}: label \"{label}\" has a prompt of more than the limit of {MAX_PROMPT_BYTES} bytes"
    )]
    LongPrompt {
        /// The file.
        file: String,
        /// The label.
        label: String,
    },
    /// Parents do not make a tree.
    #[error("{file}: {reason}: parents have to make a tree")]
    Parents {
        /// The file, or the list.
        file: String,
        /// The label at fault.
        reason: String,
    },
    /// A template does not say where the name goes.
    #[error("{file}: template \"{template}\" has no {{}} for the label's name to go")]
    Template {
        /// The file, or the option.
        file: String,
        /// The template.
        template: String,
    },
    /// A TOML label file is not valid.
    #[error("{file}: {reason}")]
    Toml {
        /// The file.
        file: String,
        /// The rule it breaks.
        reason: String,
    },
}
