//! A whole query: a sum of terms, or a point on the way from one sum to another,
//! `dawn.jpg ..30% night.jpg`.

use super::query::{QueryError, Shown, Term, parse_query};

/// What is searched for.
#[derive(Debug, Clone, PartialEq)]
pub enum Formula {
    /// Terms that are added up.
    Sum(Vec<Term>),
    /// A point between two sums.
    Between {
        /// Where the way begins.
        from: Vec<Term>,
        /// Where it ends.
        to: Vec<Term>,
        /// How far along the point lies, in `[0, 1]`.
        share: f32,
    },
}

impl Formula {
    /// All terms, to change how they are read.
    pub fn terms_mut(&mut self) -> impl Iterator<Item = &mut Term> {
        let (first, second): (&mut [Term], &mut [Term]) = match self {
            Self::Sum(terms) => (terms, &mut []),
            Self::Between { from, to, .. } => (from, to),
        };
        first.iter_mut().chain(second)
    }
}

/// Parses the words of a query. Between two sums, each as [`parse_query`] takes it, `..` means
/// half the way from the one to the other, and `..30%` means three tenths of it.
///
/// ```
/// use sextant::index::{Formula, parse_formula};
/// let Formula::Between { from, to, share } =
///     parse_formula(&["dawn.jpg", "+", "fog", "..30%", "night.jpg"]).unwrap()
/// else {
///     panic!("two sums are given")
/// };
/// assert_eq!((from.len(), to.len(), share), (2, 1, 0.3));
/// ```
///
/// # Errors
/// [`QueryError`] with the words that are to blame.
pub fn parse_formula<W: AsRef<[u8]>>(words: &[W]) -> Result<Formula, QueryError> {
    let Some(at) = words.iter().position(|word| is_way(word.as_ref())) else {
        return Ok(Formula::Sum(parse_query(words)?));
    };
    let (before, after) = (&words[..at], &words[at + 1..]);
    if before.is_empty() {
        return Err(QueryError::NoStart);
    }
    if after.is_empty() {
        return Err(QueryError::NoEnd);
    }
    if after.iter().any(|word| is_way(word.as_ref())) {
        return Err(QueryError::TwoWays);
    }
    let share = share_of(words[at].as_ref())?;
    let (from, to) = (parse_query(before)?, parse_query(after)?);
    Ok(Formula::Between { from, to, share })
}

/// Whether a word stands between terms rather than being one.
pub fn is_operator(word: &[u8]) -> bool {
    matches!(word, b"+" | b"-") || is_way(word)
}

/// `..`, or `..` with a number and a percent sign behind it.
fn is_way(word: &[u8]) -> bool {
    let number = |rest: &[u8]| !rest.is_empty() && rest.iter().all(|b| b"0123456789.".contains(b));
    word.strip_prefix(b"..")
        .is_some_and(|rest| rest.is_empty() || rest.strip_suffix(b"%").is_some_and(number))
}

fn share_of(word: &[u8]) -> Result<f32, QueryError> {
    let wrong = || QueryError::Share(Shown::of(word));
    match word.strip_prefix(b"..").and_then(|rest| rest.strip_suffix(b"%")) {
        None => Ok(0.5),
        Some(number) => {
            let number = std::str::from_utf8(number).map_err(|_| wrong())?;
            let percent: f32 = number.parse().map_err(|_| wrong())?;
            if (0.0..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err(wrong()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(words: &[&str]) -> Option<f32> {
        match parse_formula(words).unwrap() {
            Formula::Sum(_) => None,
            Formula::Between { share, .. } => Some(share),
        }
    }

    #[test]
    fn a_way_has_two_sums_and_a_share() {
        assert_eq!(share(&["a", "..", "b"]), Some(0.5));
        assert_eq!(share(&["a", "+", "c", "..12.5%", "b", "-", "d"]), Some(0.125));
        assert_eq!(share(&["a", "..0%", "-", "b"]), Some(0.0));
        assert_eq!(share(&["../a.jpg", "+", "..."]), None);
        assert_eq!(share(&["txt:.."]), None);
    }

    #[test]
    fn reading_can_be_changed_at_both_ends() {
        for words in [&["a", "+", "b", "..", "c"][..], &["a", "+", "b", "-", "c"]] {
            let mut formula = parse_formula(words).unwrap();
            assert_eq!(formula.terms_mut().count(), 3);
        }
    }

    #[test]
    fn what_is_no_way_says_why() {
        for (words, expected) in [
            (&["..", "b"][..], "nothing stands before the .."),
            (&["a", ".."], "nothing follows"),
            (&["a", "..", "b", "..", "c"], "one .. is allowed"),
            (&["a", "..101%", "b"], "0% to 100%"),
            (&["a", "..1.2.3%", "b"], "0% to 100%"),
            (&["a", "+", "..", "b"], "nothing follows the +"),
        ] {
            let error = parse_formula(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }
}
