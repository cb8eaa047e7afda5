//! The query language: `beach.jpg + "sunset" - 0.5:"people"`.
//!
//! The words come from a shell, which has taken the quotes off: each term is one word, and
//! `+` and `-` are words of their own. A number and a colon before a term weigh it; `img:` and
//! `txt:` say how to read it where a name could be either, and `set:` names many at once.

use std::fmt;

/// How a term is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The path of a picture.
    Image,
    /// A text.
    Text,
    /// The path of a picture if there is such a file, else a text.
    Either,
    /// A folder of pictures, or a file of texts, one a line: the mean of all of them.
    Set,
}

/// A term of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// How much it counts: below zero what is like it is pushed away. Never zero.
    pub weight: f32,
    /// How to read it.
    pub reading: Reading,
    /// The path or the text; a path may be any bytes.
    pub content: Vec<u8>,
}

/// Why the words are not a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// There is no term.
    #[error("the query is empty: give a picture or a text to search for")]
    Empty,
    /// Two terms follow each other.
    #[error("{0} and {1}: put + or - between two terms, or quotes around a text of several words")]
    NoOperator(Shown, Shown),
    /// An operator is not followed by a term.
    #[error("nothing follows the {0} at the end of the query")]
    NoTerm(char),
    /// Two operators follow each other.
    #[error("two operators follow each other, {0} and {1}: a text of one sign is written txt:{1}")]
    TwoOperators(char, char),
    /// The weight is zero, infinite, or too large to compute with.
    #[error(
        "{0}: a weight is a number from 0.001 to 1000 (a text that begins so is written txt:…)"
    )]
    Weight(Shown),
    /// Nothing stands behind the weight or the prefix.
    #[error("{0}: nothing stands behind the colon")]
    NoContent(Shown),
    /// A text is not UTF-8.
    #[error("{0}: a text has to be UTF-8")]
    NotText(Shown),
    /// A way has more than two ends.
    #[error("a query goes from one sum to one other: one .. is allowed")]
    TwoWays,
    /// A way has no beginning.
    #[error("nothing stands before the ..: a query goes from one sum to another")]
    NoStart,
    /// A way has no end.
    #[error("nothing follows the ..: a query goes from one sum to another")]
    NoEnd,
    /// The part of the way is not between nothing and all of it.
    #[error("{0}: a part of the way is 0% to 100% (a text that reads so is written txt:…)")]
    Share(Shown),
    /// There are too many terms.
    #[error("the query has {0} terms, and at most {MAX_TERMS} are allowed")]
    TooMany(usize),
}

/// Most terms of a query.
pub const MAX_TERMS: usize = 64;

/// A word as an error shows it: quoted, on one line, and not too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    pub(super) fn of(word: &[u8]) -> Self {
        let text = String::from_utf8_lossy(word);
        let short: String = text.chars().take(40).collect();
        let dots = if short.len() < text.len() { "…" } else { "" };
        Self(format!("{short:?}{dots}"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses the words of a sum.
///
/// ```
/// use sextant::index::{Reading, parse_query};
/// let terms = parse_query(&["beach.jpg", "+", "sunset", "-", "0.5:txt:people"]).unwrap();
/// assert_eq!(terms.len(), 3);
/// assert_eq!((terms[0].weight, terms[0].reading), (1.0, Reading::Either));
/// assert_eq!((terms[2].weight, terms[2].reading), (-0.5, Reading::Text));
/// assert_eq!(terms[2].content, b"people");
/// assert_eq!(
///     parse_query(&["red", "car"]).unwrap_err().to_string(),
///     "\"red\" and \"car\": put + or - between two terms, or quotes around a text of several words",
/// );
/// ```
///
/// # Errors
/// [`QueryError`] with the words that are to blame.
pub fn parse_query<W: AsRef<[u8]>>(words: &[W]) -> Result<Vec<Term>, QueryError> {
    let mut terms: Vec<Term> = Vec::new();
    let mut operator: Option<char> = None;
    let mut before: Option<&[u8]> = None;
    for word in words.iter().map(AsRef::as_ref) {
        if let Some(sign) = sign_of(word) {
            match operator.replace(sign) {
                Some(other) => return Err(QueryError::TwoOperators(other, sign)),
                None => continue,
            }
        }
        if let (Some(before), None) = (before, operator) {
            return Err(QueryError::NoOperator(Shown::of(before), Shown::of(word)));
        }
        let mut term = parse_term(word)?;
        if operator.take() == Some('-') {
            term.weight = -term.weight;
        }
        before = Some(word);
        terms.push(term);
    }
    match operator {
        Some(sign) => Err(QueryError::NoTerm(sign)),
        None if terms.is_empty() => Err(QueryError::Empty),
        None if terms.len() > MAX_TERMS => Err(QueryError::TooMany(terms.len())),
        None => Ok(terms),
    }
}

/// What says how to read the rest of a term.
const PREFIXES: [(&[u8], Reading); 3] =
    [(b"img:", Reading::Image), (b"txt:", Reading::Text), (b"set:", Reading::Set)];

fn sign_of(word: &[u8]) -> Option<char> {
    match word {
        b"+" => Some('+'),
        b"-" => Some('-'),
        _ => None,
    }
}

fn parse_term(word: &[u8]) -> Result<Term, QueryError> {
    let (weight, rest) = match split_weight(word) {
        Some((weight, rest)) if (0.001..=1000.0).contains(&weight) => (weight, rest),
        Some(_) => return Err(QueryError::Weight(Shown::of(word))),
        None => (1.0, word),
    };
    let (reading, content) = PREFIXES
        .iter()
        .find_map(|(prefix, reading)| Some((*reading, rest.strip_prefix(*prefix)?)))
        .unwrap_or((Reading::Either, rest));
    let content = unquote(content);
    if content.is_empty() {
        return Err(match word.is_empty() {
            true => QueryError::Empty,
            false => QueryError::NoContent(Shown::of(word)),
        });
    }
    if reading == Reading::Text && std::str::from_utf8(content).is_err() {
        return Err(QueryError::NotText(Shown::of(word)));
    }
    Ok(Term { weight, reading, content: content.to_vec() })
}

/// Splits off a number and a colon. `C:\picture.jpg` and `note: buy milk` have none.
fn split_weight(word: &[u8]) -> Option<(f32, &[u8])> {
    let colon = word.iter().position(|&b| b == b':')?;
    let number = std::str::from_utf8(&word[..colon]).ok()?;
    // Not "inf", "nan" or "1e9": someone who writes these before a colon means a text.
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    Some((number.parse().ok()?, &word[colon + 1..]))
}

/// Takes off quotes that the shell left, as in `0.5:"people"` typed within single quotes.
fn unquote(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(word: &str) -> Term {
        let mut terms = parse_query(&[word]).unwrap();
        assert_eq!(terms.len(), 1);
        terms.remove(0)
    }

    #[test]
    fn a_term_is_weight_prefix_and_content() {
        for (word, weight, reading, content) in [
            ("beach.jpg", 1.0, Reading::Either, "beach.jpg"),
            ("2:dog", 2.0, Reading::Either, "dog"),
            (".25:img:a:b.jpg", 0.25, Reading::Image, "a:b.jpg"),
            ("0.5:\"two people\"", 0.5, Reading::Either, "two people"),
            ("0.5:set:sunny.txt", 0.5, Reading::Set, "sunny.txt"),
            ("txt:set:match", 1.0, Reading::Text, "set:match"),
            ("txt:12:30 train", 1.0, Reading::Text, "12:30 train"),
            ("C:\\beach.jpg", 1.0, Reading::Either, "C:\\beach.jpg"),
            ("note: buy milk", 1.0, Reading::Either, "note: buy milk"),
            ("txt:+", 1.0, Reading::Text, "+"),
            ("-dash", 1.0, Reading::Either, "-dash"),
            (":colon", 1.0, Reading::Either, ":colon"),
        ] {
            let expected = Term { weight, reading, content: content.into() };
            assert_eq!(one(word), expected, "{word}");
        }
    }

    #[test]
    fn operators_bind_to_the_term_behind_them() {
        let weights = |words: &[&str]| -> Vec<f32> {
            parse_query(words).unwrap().iter().map(|term| term.weight).collect()
        };
        assert_eq!(weights(&["a", "+", "b", "-", "2:c"]), [1.0, 1.0, -2.0]);
        assert_eq!(weights(&["-", "a", "+", "b"]), [-1.0, 1.0]);
        assert_eq!(weights(&["+", "a"]), [1.0]);
    }

    #[test]
    fn paths_may_be_any_bytes_and_texts_may_not() {
        let path = parse_query(&[b"img:\xff.jpg"]).unwrap().remove(0);
        assert_eq!(path.content, b"\xff.jpg");
        assert!(matches!(parse_query(&[b"txt:\xff"]), Err(QueryError::NotText(_))));
    }

    #[test]
    fn what_is_not_a_query_says_why() {
        let none: [&str; 0] = [];
        assert_eq!(parse_query(&none), Err(QueryError::Empty));
        for (words, expected) in [
            (&[""][..], "the query is empty"),
            (&["a", "b"], "put + or - between"),
            (&["a", "+"], "nothing follows the +"),
            (&["a", "-", "+", "b"], "two operators follow each other, - and +"),
            (&["0:a"], "a weight is a number from 0.001 to 1000"),
            (&["9999:a"], "a weight is a number"),
            (&["img:"], "nothing stands behind the colon"),
            (&["0.5:"], "nothing stands behind the colon"),
            (&["\"\""], "nothing stands behind"),
        ] {
            let error = parse_query(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{words:?}: {error}");
            assert!(!error.contains('\n'));
        }
        let many: Vec<&str> = std::iter::repeat_n(["+", "a"], 65).flatten().collect();
        assert_eq!(parse_query(&many), Err(QueryError::TooMany(65)));
    }
}
