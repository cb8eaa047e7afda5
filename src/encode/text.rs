//! Texts as towers read them, and what can be wrong with one.

/// Longest text that is tokenised, in bytes; what lies beyond is cut (and said so).
///
/// No tower reads more than a few hundred words, and tokenising costs time and memory.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Why a text has no tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The program has no tokenizer in it.
    #[error(
        "this program was built without the cargo feature `text`: give it labels compiled elsewhere \
         (sextant labels compile), or build it with that feature"
    )]
    NotBuilt,
    /// The tokenizer file cannot be used.
    #[error("{file}: not a usable tokenizer: {reason}")]
    Tokenizer {
        /// The tokenizer's file.
        file: String,
        /// What its parser says.
        reason: String,
    },
    /// The tokenizer failed on a text.
    #[error("the tokenizer cannot read the text \"{text}\": {reason}")]
    Unreadable {
        /// The start of the text.
        text: String,
        /// What the tokenizer says.
        reason: String,
    },
    /// The text has no tokens, and the package adds none of its own.
    #[error("the text \"{text}\" has no tokens")]
    Empty {
        /// The text.
        text: String,
    },
}

/// A text as a tower reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Token numbers, special tokens included.
    pub ids: Vec<i64>,
    /// One for every token of the text, zero for padding.
    pub mask: Vec<i64>,
    /// Whether the text was longer than the tower can read.
    pub truncated: bool,
}
