//! The score of every label for one frame.

use super::kinds::is_added;
use crate::embedding::{Embedding, EmbeddingError};
use crate::label::{CompiledLabels, LabelName, ScoreOptions, Scorer};
use crate::model::Manifest;

/// Words that make a label one of absence.
const ABSENCE: [&str; 9] =
    ["empty", "nothing", "nobody", "vacant", "deserted", "unoccupied", "no", "without", "bare"];

/// Whether a label says what the scene looks like when nothing is there: "an empty car park".
///
/// ```
/// assert!(sextant::watch::is_absence("an empty car park"));
/// assert!(!sextant::watch::is_absence("a car"));
/// ```
pub fn is_absence(name: &str) -> bool {
    let words = name.split(|c: char| !c.is_alphanumeric());
    words.map(str::to_lowercase).any(|word| ABSENCE.contains(&word.as_str()))
}

/// Scores frames against a label set, with what a fixed camera knows and a lone picture does not:
/// which of the labels stand for "nothing is here".
///
/// Labels, negatives and "none of these" compete as in [`Scorer`]. Two things differ where the
/// set has labels of absence. They are what a scene without the other labels is called, so "none
/// of these" counts for them. And the user has said what to compare with, while "none of these"
/// is calibrated on pictures of all the world; so their common logit is the mean of the two.
/// An odd view, which fits no words well, is then judged by which words fit it less badly.
///
/// A label that others name as their parent counts their scores as well.
#[derive(Debug)]
pub struct Scene<'a> {
    scorer: Scorer<'a>,
    names: Vec<String>,
    kinds: Vec<Kind>,
    /// The labels of the set that each counts towards, itself not among them.
    above: Vec<Vec<usize>>,
    has_none: bool,
    multi: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Presence,
    Absence,
    Negative,
    /// Counted for its parent, and not shown.
    Part,
}

impl<'a> Scene<'a> {
    /// A scene of these labels. `absent` says which names are labels of absence; `multi` scores
    /// the others on their own, where the package is calibrated for that.
    pub fn new(
        labels: &'a CompiledLabels,
        manifest: &'a Manifest,
        absent: &dyn Fn(&str) -> bool,
        multi: bool,
    ) -> Self {
        let options = ScoreOptions { top: usize::MAX, threshold: None, multi };
        let scorer = Scorer::new(labels, manifest, options).for_one_place(manifest);
        let kinds = labels.labels().iter().map(|label| match label.negative {
            true => Kind::Negative,
            false if is_added(&label.name, label.parent.as_deref()) => Kind::Part,
            false if absent(&label.name) => Kind::Absence,
            false => Kind::Presence,
        });
        let multi = multi && scorer.has_independent_scores();
        Self {
            kinds: kinds.collect(),
            above: labels.labels().iter().map(|label| above(labels, label)).collect(),
            names: labels.labels().iter().map(|label| label.name.clone()).collect(),
            has_none: manifest.calibration.null_logit.is_some(),
            scorer,
            multi,
        }
    }

    /// The labels, negatives included, in the order of the scores.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether label `index` is ever reported.
    pub fn is_shown(&self, index: usize) -> bool {
        !matches!(self.kinds[index], Kind::Negative | Kind::Part)
    }

    /// Whether label `index`, one of the last, was added to another by [`super::add_kinds`].
    pub fn is_part(&self, index: usize) -> bool {
        self.kinds[index] == Kind::Part
    }

    /// Puts one score in `[0, 1]` a label into `scores`.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`].
    pub fn score(
        &self,
        embedding: &Embedding,
        scores: &mut Vec<f32>,
    ) -> Result<(), EmbeddingError> {
        *scores = self.scorer.probabilities(embedding)?;
        self.weigh_absence(scores);
        self.count_children(scores);
        if self.multi {
            let answer = self.scorer.score(embedding)?;
            for label in &answer.labels {
                let at = self.names.iter().position(|name| *name == label.name);
                if let (Some(at), Some(score)) = (at, label.score)
                    && self.kinds[at] == Kind::Presence
                {
                    scores[at] = score;
                }
            }
        }
        Ok(())
    }

    /// Whether no label fits: something that is not in the set is likelier than any that is.
    pub fn is_unknown(&self, scores: &[f32]) -> bool {
        let of = |wanted: fn(Kind) -> bool| {
            let pairs = self.kinds.iter().zip(scores);
            pairs.filter(move |(kind, _)| wanted(**kind)).map(|(_, score)| *score)
        };
        // A child is counted in its parent.
        let tops = self.above.iter().zip(scores).filter(|(above, _)| above.is_empty());
        let none = (1.0 - tops.map(|(_, score)| score).sum::<f32>()).max(0.0);
        let rival = of(|kind| kind == Kind::Negative).fold(none, f32::max);
        of(|kind| kind != Kind::Negative).all(|score| score < rival)
    }

    /// Gives labels of absence the mean logit of theirs and that of "none of these", and the
    /// other labels what is left.
    fn weigh_absence(&self, scores: &mut [f32]) {
        let sum = |wanted: Kind| {
            let pairs = self.kinds.iter().zip(scores.iter());
            pairs.filter(|(kind, _)| **kind == wanted).map(|(_, score)| *score).sum::<f32>()
        };
        let absence = sum(Kind::Absence);
        if !self.has_none || absence <= 0.0 {
            return;
        }
        let others = sum(Kind::Presence) + sum(Kind::Part) + sum(Kind::Negative);
        let none = (1.0 - absence - others).max(f32::MIN_POSITIVE);
        let joint = (absence * none).sqrt();
        let total = joint + others;
        for (kind, score) in self.kinds.iter().zip(scores) {
            *score *= if *kind == Kind::Absence { joint / absence } else { 1.0 } / total;
        }
    }
}

impl Scene<'_> {
    /// Adds each label's score to those of the labels above it.
    fn count_children(&self, scores: &mut [f32]) {
        if self.above.iter().all(Vec::is_empty) {
            return;
        }
        let own = scores.to_vec();
        for (score, above) in own.iter().zip(&self.above) {
            above.iter().for_each(|&parent| scores[parent] += score);
        }
    }
}

/// The labels of the set above one.
fn above(labels: &CompiledLabels, label: &LabelName) -> Vec<usize> {
    let place = |name: &str| labels.labels().iter().position(|label| label.name == name);
    let parent = |label: &LabelName| label.parent.as_deref().and_then(place);
    std::iter::successors(parent(label), |&at| parent(&labels.labels()[at])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_absence_are_words() {
        for name in ["an empty street", "Nobody", "no cars", "a room without people"] {
            assert!(is_absence(name), "{name}");
        }
        for name in ["a car", "a notebook", "a north wall", "emptyness"] {
            assert!(!is_absence(name), "{name}");
        }
    }
}
