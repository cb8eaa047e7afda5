//! Pictures and texts to embeddings.

mod encoder;
mod text;

pub use encoder::{EncodeError, Encoder, PlaceGrid};
pub use text::{MAX_TEXT_BYTES, TextError, TextTokenizer, Tokens};
