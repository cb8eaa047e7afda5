//! A classifier made of names and examples.

use super::ExampleSet;
use super::choose::{Blend, ExamplesReport, add_scores, choose};
use super::evidence::Evidence;
use crate::embedding::dot;
use crate::space::error::SpaceError;
use crate::space::points::Points;

/// Share of the examples that may lie farther from their class than what counts as familiar.
const ODD: f64 = 0.05;

/// Labels pictures by the names of classes and a few pictures of each.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleClassifier {
    /// What examples of each method say, and the blends that make of it.
    parts: Vec<(Evidence, Vec<(f32, Blend)>)>,
    points: Points,
    classes: usize,
    familiar: f32,
}

/// What a classifier says about a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleAnswer {
    /// A probability for each class, in the order of the set; they add up to one.
    pub scores: Vec<f32>,
    /// Similarity to the nearest example of any class.
    pub nearest: f32,
    /// Whether the picture is about as near to an example as examples of one class are to each
    /// other; the scores of others are guesses.
    pub familiar: bool,
}

impl ExampleClassifier {
    /// Learns from a set. How examples vote, how much they count beside the names, and how sure
    /// the scores are is weighed by cross-validation; `seed` decides the parts.
    ///
    /// ```
    /// use sextant::space::Points;
    /// use sextant::space::examples::{ExampleClassifier, ExampleSet};
    /// let points = Points::new(vec![1.0, 0.0, 0.8, 0.6, 0.0, 1.0, -0.6, 0.8], 2).unwrap();
    /// let names = vec!["right".to_owned(), "up".to_owned()];
    /// let set = ExampleSet::new(names, points, vec![0, 0, 1, 1], vec![vec![0.0; 2]; 4]).unwrap();
    /// let (classifier, _) = ExampleClassifier::learn(&set, 0).unwrap();
    /// let answer = classifier.label(&[0.96, 0.28], &[0.0, 0.0]).unwrap();
    /// assert!(answer.scores[0] > answer.scores[1]);
    /// ```
    ///
    /// # Errors
    /// [`SpaceError::Singular`] when a system of equations has no solution.
    pub fn learn(set: &ExampleSet, seed: u64) -> Result<(Self, ExamplesReport), SpaceError> {
        let (shares, report) = choose(set, seed)?;
        let learn = |(method, blends)| Ok((Evidence::learn(method, set)?, blends));
        let classifier = Self {
            parts: shares.into_iter().map(learn).collect::<Result<_, SpaceError>>()?,
            points: set.points.clone(),
            classes: set.names.len(),
            familiar: familiar(set),
        };
        Ok((classifier, report))
    }

    /// Labels a picture: its unit vector, and the zero-shot logits of the classes.
    ///
    /// # Errors
    /// [`SpaceError::Dimension`] or [`SpaceError::Unpaired`] when lengths do not fit.
    pub fn label(&self, picture: &[f32], named: &[f32]) -> Result<ExampleAnswer, SpaceError> {
        if picture.len() != self.points.dimension() {
            let (left, right) = (self.points.dimension(), picture.len());
            return Err(SpaceError::Dimension { left, right });
        }
        if named.len() != self.classes {
            return Err(SpaceError::Unpaired { left: self.classes, right: named.len() });
        }
        let mut scores = vec![0f32; self.classes];
        for (evidence, blends) in &self.parts {
            add_scores(&mut scores, blends, named, &evidence.votes(picture));
        }
        let nearest =
            self.points.iter().map(|point| dot(point, picture)).fold(f32::NEG_INFINITY, f32::max);
        Ok(ExampleAnswer { scores, nearest, familiar: nearest >= self.familiar })
    }
}

/// The similarity to the nearest other example of its class that all but a few examples have.
fn familiar(set: &ExampleSet) -> f32 {
    let mut nearest: Vec<f32> = (0..set.len())
        .map(|row| {
            let others = (0..set.len()).filter(|&o| o != row && set.classes[o] == set.classes[row]);
            others.map(|o| dot(set.points.row(row), set.points.row(o))).fold(-1.0, f32::max)
        })
        .collect();
    nearest.sort_by(f32::total_cmp);
    nearest[(nearest.len() as f64 * ODD) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::sample::Dice;

    /// Three classes around axes of six dimensions; names that say nothing, or everything.
    fn set(names_know: bool, spread: f32) -> ExampleSet {
        let mut dice = Dice::new(11);
        let mut values = Vec::new();
        let classes: Vec<usize> = (0..24).map(|row| row % 3).collect();
        for &class in &classes {
            let mut row: Vec<f32> =
                (0..6).map(|_| spread * (dice.below(2001) as f32 / 1000.0 - 1.0)).collect();
            row[class] += 1.0;
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            values.extend(row.iter().map(|x| x / length));
        }
        let logit =
            |class: usize, name: usize| f32::from(u8::from(names_know && class == name)) * 8.0;
        let named = classes.iter().map(|&c| (0..3).map(|name| logit(c, name)).collect()).collect();
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        ExampleSet::new(names, Points::new(values, 6).unwrap(), classes, named).unwrap()
    }

    #[test]
    fn examples_teach_what_names_do_not_know() {
        let set = set(false, 0.5);
        let (classifier, report) = ExampleClassifier::learn(&set, 0).unwrap();
        assert!(report.zero_shot < 0.4 && report.blended > 0.8, "{report:?}");
        let answer = classifier.label(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], &[0.0; 3]).unwrap();
        assert!(answer.scores[1] > 0.5 && answer.familiar);
        assert!((answer.scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let odd = classifier.label(&[0.0, 0.0, 0.0, 0.0, 0.0, -1.0], &[0.0; 3]).unwrap();
        assert!(!odd.familiar);
    }

    #[test]
    fn good_names_are_not_made_worse() {
        let (_, report) = ExampleClassifier::learn(&set(true, 3.0), 0).unwrap();
        assert_eq!((report.zero_shot, report.blended, report.names), (1.0, 1.0, 1.0));
    }

    #[test]
    fn single_examples_and_single_classes_are_refused() {
        let points = Points::new([1.0, 0.0].repeat(3), 2).unwrap();
        let named = vec![vec![0.0; 2]; 3];
        let names = ["a", "b"].map(str::to_owned).to_vec();
        let one = ExampleSet::new(names.clone(), points.clone(), vec![0, 0, 1], named.clone());
        assert!(matches!(one, Err(SpaceError::FewExamples { found: 1, .. })));
        let none = ExampleSet::new(names[..1].to_vec(), points.clone(), vec![0; 3], named);
        assert!(matches!(none, Err(SpaceError::TooFewRows { .. })));
        let equal = Points::new([1.0, 0.0].repeat(4), 2).unwrap();
        let same = ExampleSet::new(names, equal, vec![0, 0, 1, 1], vec![vec![0.0; 2]; 4]).unwrap();
        let (classifier, report) = ExampleClassifier::learn(&same, 0).unwrap();
        assert!(report.blended.is_finite());
        let answer = classifier.label(&[1.0, 0.0], &[0.0, 0.0]).unwrap();
        assert!(answer.scores.iter().all(|score| (score - 0.5).abs() < 0.3));
    }
}
