//! Learning classes from a few pictures each, beside what the model knows of their names.

mod choose;
mod classifier;
mod evidence;

pub use choose::ExamplesReport;
pub use classifier::{ExampleAnswer, ExampleClassifier};
pub use evidence::Method;

use super::error::SpaceError;
use super::points::Points;

/// Pictures of known classes, and what the model's names say of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleSet {
    pub(super) names: Vec<String>,
    pub(super) points: Points,
    pub(super) classes: Vec<usize>,
    /// For each picture, the zero-shot logit of each class.
    pub(super) named: Vec<Vec<f32>>,
}

impl ExampleSet {
    /// Puts pictures (`points`), their classes (places in `names`) and, for each picture, the
    /// zero-shot logits of all classes together.
    ///
    /// # Errors
    /// [`SpaceError::FewExamples`] when a class has less than two pictures (one to learn from
    /// and one to check with); [`SpaceError::TooFewRows`] below two classes;
    /// [`SpaceError::Unpaired`] when numbers do not fit; [`SpaceError::NotFinite`] for a logit.
    pub fn new(
        names: Vec<String>,
        points: Points,
        classes: Vec<usize>,
        named: Vec<Vec<f32>>,
    ) -> Result<Self, SpaceError> {
        if names.len() < 2 {
            let (what, found) = ("learning from examples (classes)", names.len());
            return Err(SpaceError::TooFewRows { what, needed: 2, found });
        }
        for right in [classes.len(), named.len()] {
            if right != points.rows() {
                return Err(SpaceError::Unpaired { left: points.rows(), right });
            }
        }
        if let Some(row) = named.iter().find(|row| row.len() != names.len()) {
            return Err(SpaceError::Unpaired { left: names.len(), right: row.len() });
        }
        if let Some(&class) = classes.iter().find(|&&class| class >= names.len()) {
            return Err(SpaceError::Unpaired { left: names.len(), right: class + 1 });
        }
        if let Some(row) = named.iter().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(SpaceError::NotFinite { row });
        }
        for (class, name) in names.iter().enumerate() {
            let found = classes.iter().filter(|&&other| other == class).count();
            if found < 2 {
                return Err(SpaceError::FewExamples { class: name.clone(), needed: 2, found });
            }
        }
        Ok(Self { names, points, classes, named })
    }

    /// Names of the classes.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are no pictures; never, by construction.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The pictures at `rows` only; classes may become empty.
    fn select(&self, rows: &[usize]) -> Self {
        Self {
            names: self.names.clone(),
            points: self.points.select(rows),
            classes: rows.iter().map(|&row| self.classes[row]).collect(),
            named: rows.iter().map(|&row| self.named[row].clone()).collect(),
        }
    }
}
