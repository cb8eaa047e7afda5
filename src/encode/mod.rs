//! Pictures and texts to embeddings.

mod encoder;
mod layer;
mod text;
#[cfg_attr(not(feature = "text"), path = "tokenizer_absent.rs")]
mod tokenizer;

pub use encoder::{EncodeError, Encoder, PlaceGrid};
pub use layer::layers;
pub use text::{MAX_TEXT_BYTES, TextError, Tokens};
pub use tokenizer::TextTokenizer;
