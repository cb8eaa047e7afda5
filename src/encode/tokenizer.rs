//! Text to token numbers, as a package's tokenizer says.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{
    DecoderWrapper, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, Tokenizer, TokenizerImpl, TruncationDirection, TruncationParams,
    TruncationStrategy,
};

use super::text::{MAX_TEXT_BYTES, TextError, Tokens};
use crate::contained::contained;
use crate::model::{Padding, TextTower};

/// Turns text into tokens.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    context_length: usize,
    padding: Padding,
    pad_id: u32,
    lowercase: bool,
    strip_punctuation: bool,
}

impl TextTokenizer {
    /// Reads a tokenizer in the `tokenizers` JSON format; `file` is named in errors.
    ///
    /// Truncation and padding of the JSON are replaced by what `tower` declares, so that a
    /// package has one place that says it.
    ///
    /// # Errors
    /// [`TextError::Tokenizer`].
    pub fn new(json: &[u8], file: &str, tower: &TextTower) -> Result<Self, TextError> {
        let unusable = |reason: tokenizers::Error| TextError::Tokenizer {
            file: file.to_owned(),
            reason: reason.to_string(),
        };
        let panicked = |reason| TextError::Tokenizer { file: file.to_owned(), reason };
        let mut tokenizer = contained(|| read(json)).map_err(panicked)?.map_err(unusable)?;
        let truncation = TruncationParams {
            max_length: tower.context_length,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
            direction: TruncationDirection::Right,
        };
        contained(|| tokenizer.with_truncation(Some(truncation)).map(drop))
            .map_err(panicked)?
            .map_err(unusable)?;
        tokenizer.with_padding(None);
        Ok(Self {
            tokenizer,
            context_length: tower.context_length,
            padding: tower.padding,
            pad_id: tower.pad_id,
            lowercase: tower.lowercase,
            strip_punctuation: tower.strip_punctuation,
        })
    }

    fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if self.strip_punctuation {
            text = without_punctuation(&text).into();
        }
        if self.lowercase {
            text = text.to_lowercase().into();
        }
        text
    }

    /// Tokenises `text`. Too long a text is cut, its closing special token kept.
    ///
    /// # Errors
    /// [`TextError::Unreadable`] or [`TextError::Empty`].
    pub fn tokenise(&self, text: &str) -> Result<Tokens, TextError> {
        let kept = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
        let input = self.clean(kept);
        let unreadable = |reason| TextError::Unreadable { text: start_of(text), reason };
        let encoding = contained(|| self.tokenizer.encode_fast(input, true))
            .map_err(unreadable)?
            .map_err(|e| unreadable(e.to_string()))?;
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        ids.truncate(self.context_length);
        let mut mask = vec![1; ids.len()];
        if self.padding == Padding::Max {
            ids.resize(self.context_length, i64::from(self.pad_id));
            mask.resize(self.context_length, 0);
        }
        if ids.is_empty() {
            return Err(TextError::Empty { text: start_of(text) });
        }
        let truncated = kept.len() < text.len() || !encoding.get_overflowing().is_empty();
        Ok(Tokens { ids, mask, truncated })
    }
}

/// Reads a tokenizer, with the kinds of models that nearly all have straight from the JSON:
/// [`Tokenizer::from_bytes`] copies the vocabulary three times on its way to any kind.
fn read(json: &[u8]) -> Result<Tokenizer, tokenizers::Error> {
    #[derive(Deserialize)]
    struct Kind {
        model: ModelKind,
    }
    #[derive(Deserialize)]
    struct ModelKind {
        #[serde(rename = "type")]
        name: String,
    }
    let kind = serde_json::from_slice::<Kind>(json).map(|kind| kind.model.name);
    let read = match kind.as_deref() {
        Ok("BPE") => read_with::<BPE>(json),
        Ok("WordPiece") => read_with::<WordPiece>(json),
        _ => None,
    };
    // Older forms are left to the general way, and so is saying what is wrong.
    read.map_or_else(|| Tokenizer::from_bytes(json), Ok)
}

fn read_with<M: DeserializeOwned + Model + Into<ModelWrapper>>(json: &[u8]) -> Option<Tokenizer> {
    type Parts<M> = TokenizerImpl<
        M,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >;
    serde_json::from_slice::<Parts<M>>(json).ok().map(Tokenizer::from)
}

/// Takes ASCII punctuation out, `_` becoming a space, and folds white space.
fn without_punctuation(text: &str) -> String {
    let spaced = text.replace('_', " ");
    let kept: String = spaced.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Enough of a text to recognise it in a message.
fn start_of(text: &str) -> String {
    let end = text.floor_char_boundary(40);
    if end == text.len() { text.to_owned() } else { format!("{}…", &text[..end]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tokenizer of three words, its model as given.
    fn json(model: &str) -> String {
        let token = r#"{"id":3,"content":"<end>","single_word":false,"lstrip":false,
            "rstrip":false,"normalized":false,"special":true}"#;
        format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{token}],
            "normalizer":{{"type":"Lowercase"}},"pre_tokenizer":{{"type":"Whitespace"}},
            "post_processor":null,"decoder":null,"model":{model}}}"#
        )
    }

    #[test]
    fn what_the_library_panics_on_is_an_error() {
        let tower: TextTower = toml::from_str(
            "file = 'f'\nsha256 = ''\ninput = 'i'\noutput = 'o'\ntokenizer = 't'\n\
             tokenizer_sha256 = ''\ncontext_length = 8",
        )
        .unwrap();
        let error = TextTokenizer::new(br#"{"decoder":"\ud800"}"#, "f", &tower).unwrap_err();
        assert!(matches!(error, TextError::Tokenizer { .. }), "{error}");
    }

    #[test]
    fn models_are_read_as_by_the_library() {
        let word_piece = r###"{"type":"WordPiece","unk_token":"?","continuing_subword_prefix":"##",
            "max_input_chars_per_word":100,"vocab":{"?":0,"a":1,"##b":2}}"###;
        let bpe = r#"{"type":"BPE","dropout":null,"unk_token":"?","fuse_unk":false,
            "vocab":{"?":0,"a":1,"b":2,"ab":4},"merges":[["a","b"]]}"#;
        // Members that nobody knows, merges as one string, no type: in older files.
        let older = [
            bpe.replace("\"fuse_unk\":false", "\"unheard_of\":{}"),
            bpe.replace(r#"["a","b"]"#, "\"a b\""),
            word_piece.replace("\"type\":\"WordPiece\",", ""),
        ];
        for model in [word_piece, bpe].into_iter().chain(older.iter().map(String::as_str)) {
            let json = json(model);
            let expected = Tokenizer::from_bytes(&json).unwrap();
            let found = read(json.as_bytes()).unwrap();
            assert_eq!(found.to_string(false).unwrap(), expected.to_string(false).unwrap());
            let ids = |t: &Tokenizer| t.encode("AB b<end>", false).unwrap().get_ids().to_vec();
            assert_eq!(ids(&found), ids(&expected));
        }
        assert!(read_with::<WordPiece>(json(word_piece).as_bytes()).is_some());
        assert!(read_with::<BPE>(json(bpe).as_bytes()).is_some());
        for broken in ["{", "{}", r#"{"model":{"type":"BPE"}}"#] {
            assert!(read(broken.as_bytes()).is_err());
        }
    }

    #[test]
    fn punctuation_goes_as_in_open_clip() {
        assert_eq!(
            without_punctuation(" A photo_of a  (small) dog's ball!\n"),
            "A photo of a small dogs ball"
        );
        assert_eq!(without_punctuation("naïve café — 日本。"), "naïve café — 日本。");
        assert_eq!(without_punctuation("?!"), "");
    }
}
