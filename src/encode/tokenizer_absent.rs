//! What stands where the tokenizer would, in a program built without the feature `text`: a board
//! that gets its labels compiled needs none.

use std::convert::Infallible;

use super::text::{TextError, Tokens};
use crate::model::TextTower;

/// Turns text into tokens; in this program there can be none.
#[derive(Debug, Clone)]
pub struct TextTokenizer(Infallible);

impl TextTokenizer {
    /// Refuses.
    ///
    /// # Errors
    /// Always [`TextError::NotBuilt`].
    pub fn new(_json: &[u8], _file: &str, _tower: &TextTower) -> Result<Self, TextError> {
        Err(TextError::NotBuilt)
    }

    /// Cannot be called, as there is no tokenizer.
    ///
    /// # Errors
    /// None.
    pub fn tokenise(&self, _text: &str) -> Result<Tokens, TextError> {
        match self.0 {}
    }
}
