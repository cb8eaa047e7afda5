//! Pictures and texts to embeddings.

mod encoder;
mod error;
mod layer;
mod text;
#[cfg_attr(not(feature = "text"), path = "tokenizer_absent.rs")]
mod tokenizer;

pub use encoder::{Encoder, PlaceGrid};
pub use error::EncodeError;
pub use layer::{layer_of, layers};
pub use text::{MAX_TEXT_BYTES, TextError, Tokens};
pub use tokenizer::TextTokenizer;
