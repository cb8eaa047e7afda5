//! Composed queries: a picture and words, and the pictures that answer both.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::table::{EvalError, rows};
use crate::embedding::{Embedding, EmbeddingError};

/// The ranks reported.
const RANKS: [usize; 3] = [1, 5, 10];

/// A query of a picture and words, as a person judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposedQuery {
    /// File name of the picture.
    pub picture: String,
    /// What is added and taken away, as `search` reads it: `- grass + snow`.
    pub terms: String,
    /// File names of the pictures that answer it, at least one.
    pub answers: Vec<String>,
}

/// Reads `picture TAB terms TAB answers` lines; answers are separated by commas.
///
/// # Errors
/// [`EvalError`], naming the file and line.
pub fn read_composed(path: &Path) -> Result<Vec<ComposedQuery>, EvalError> {
    let names = |field: &str| -> Vec<String> {
        let names = field.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    rows(path, "a picture, terms with + or -, and the pictures that answer them", |fields| {
        let picture = fields.next()?.trim().to_owned();
        let terms = fields.next()?.trim().to_owned();
        let answers = names(fields.next()?);
        let complete = !picture.is_empty() && terms.starts_with(['+', '-']) && !answers.is_empty();
        complete.then_some(ComposedQuery { picture, terms, answers })
    })
}

/// How well one way of asking did. Shares are in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComposeReport {
    /// Queries asked.
    pub n: usize,
    /// Share of queries with an answer among the k best pictures.
    pub recall: BTreeMap<usize, f64>,
    /// Median rank of the best answer, from 1.
    pub median_rank: f64,
}

/// Ranks of the best answers, one query after another.
#[derive(Debug, Clone, Default)]
pub struct ComposeTally {
    ranks: Vec<usize>,
}

impl ComposeTally {
    /// Counts one query: its point, the pictures searched, and which of them answer it. The
    /// query's own picture is not searched.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`].
    pub fn add(
        &mut self,
        query: &Embedding,
        gallery: &[Embedding],
        own: usize,
        answers: &[usize],
    ) -> Result<(), EmbeddingError> {
        let similarities = gallery
            .iter()
            .map(|picture| query.similarity(picture))
            .collect::<Result<Vec<_>, _>>()?;
        let best = answers.iter().map(|&answer| similarities[answer]).fold(f32::MIN, f32::max);
        let better = similarities.iter().enumerate();
        self.ranks.push(better.filter(|&(picture, &s)| picture != own && s > best).count() + 1);
        Ok(())
    }

    /// The report over everything counted.
    pub fn report(&self) -> ComposeReport {
        let n = self.ranks.len();
        let share = |k: usize| {
            let found = self.ranks.iter().filter(|&&rank| rank <= k).count();
            found as f64 / n.max(1) as f64
        };
        let mut sorted = self.ranks.clone();
        sorted.sort_unstable();
        let middle = |place: usize| sorted.get(place).map_or(f64::NAN, |&rank| rank as f64);
        let median_rank = match n {
            0 => 0.0,
            _ => (middle((n - 1) / 2) + middle(n / 2)) / 2.0,
        };
        ComposeReport { n, recall: RANKS.map(|k| (k, share(k))).into(), median_rank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Modality, SpaceId};

    #[test]
    fn the_best_answer_counts_and_the_query_itself_does_not() {
        let at = |x: f32, y: f32| {
            Embedding::new(SpaceId::from_bytes([1; 32]), Modality::Image, vec![x, y]).unwrap()
        };
        let gallery = [at(1.0, 0.0), at(1.0, 0.1), at(1.0, 0.2), at(0.0, 1.0)];
        let mut tally = ComposeTally::default();
        tally.add(&at(1.0, 0.0), &gallery, 0, &[3, 2]).unwrap();
        tally.add(&at(0.0, 1.0), &gallery, 1, &[3]).unwrap();
        let report = tally.report();
        assert_eq!((report.n, report.median_rank), (2, 1.5));
        assert_eq!(report.recall, BTreeMap::from([(1, 0.5), (5, 1.0), (10, 1.0)]));
        assert_eq!(ComposeTally::default().report().median_rank, 0.0);
    }

    #[test]
    fn lines_need_all_three_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queries.tsv");
        std::fs::write(&path, "a.jpg\t- grass + snow\tb.jpg, c.jpg\n").unwrap();
        let read = read_composed(&path).unwrap();
        assert_eq!((read[0].terms.as_str(), read[0].answers.len()), ("- grass + snow", 2));
        for wrong in ["a.jpg\tsnow\tb.jpg", "a.jpg\t+ snow\t,", "a.jpg\t+ snow"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(
                matches!(read_composed(&path), Err(EvalError::Line { line: 1, .. })),
                "{wrong}"
            );
        }
    }
}
