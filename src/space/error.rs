//! Why a question about a space has no answer.

use crate::embedding::EmbeddingError;

/// Why an operation on points, or a measurement of them, is refused. One variant a rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// Rows have no length.
    #[error("points need at least one dimension")]
    NoDimension,
    /// The numbers do not divide into rows.
    #[error("{values} numbers do not make rows of {dimension}")]
    Shape {
        /// Numbers given.
        values: usize,
        /// Length of a row.
        dimension: usize,
    },
    /// A row holds NaN or an infinity.
    #[error("row {row} holds a number that is not finite")]
    NotFinite {
        /// The row, from 0.
        row: usize,
    },
    /// A row does not lie on the sphere.
    #[error("row {row} has length {length}, but points of a space have length 1: normalise it")]
    NotUnit {
        /// The row, from 0.
        row: usize,
        /// Its length.
        length: f32,
    },
    /// A measurement needs more rows.
    #[error(
        "too few rows for {what} ({found}, and {needed} are needed): give more pictures or texts"
    )]
    TooFewRows {
        /// The measurement.
        what: &'static str,
        /// Rows it needs.
        needed: usize,
        /// Rows there are.
        found: usize,
    },
    /// Every row is the same point, so nothing has a direction or a scale.
    #[error("{what} has no value: all {rows} rows are the same point")]
    AllRowsEqual {
        /// The measurement.
        what: &'static str,
        /// Rows given.
        rows: usize,
    },
    /// Every row is there more than once, so that none has a neighbour at a distance.
    #[error("{what} has no value: each of the {rows} rows is there more than once")]
    Duplicates {
        /// The measurement.
        what: &'static str,
        /// Rows given.
        rows: usize,
    },
    /// Two sets that must pair up have different sizes.
    #[error("{left} rows on one side and {right} on the other do not pair up")]
    Unpaired {
        /// Rows of the left side.
        left: usize,
        /// Rows of the right side.
        right: usize,
    },
    /// Two sets have rows of different lengths.
    #[error("rows of {left} and of {right} numbers do not live in one space")]
    Dimension {
        /// Length of a row on the left side.
        left: usize,
        /// Length of a row on the right side.
        right: usize,
    },
    /// A combination has no terms.
    #[error("there is nothing to combine: give at least one picture or text")]
    NoTerms,
    /// A weight is NaN or infinite.
    #[error("weight {weight} of term {term} is not a finite number")]
    Weight {
        /// The term, from 1.
        term: usize,
        /// Its weight.
        weight: f32,
    },
    /// The weighted terms cancel each other.
    #[error("the terms cancel each other, so the result points nowhere: change a weight or a term")]
    Cancelled,
    /// Opposite points have no single shortest way between them.
    #[error("the two points are opposite: there is no one shortest way between them")]
    Antipodal,
    /// A number lies outside of its range.
    #[error("{what} must be {range}, not {value}")]
    OutOfRange {
        /// The number's name.
        what: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it was.
        value: f64,
    },
    /// Captions fit other pictures as well as their own, so that there is nothing to lose.
    #[error(
        "{pairs} captions fit their pictures no better than others do: check that they belong together"
    )]
    NoAdvantage {
        /// Pairs compared.
        pairs: usize,
    },
    /// A class of examples has too few pictures.
    #[error(
        "class \"{class}\" has too few usable examples ({found}, and {needed} are needed): add pictures to its folder"
    )]
    FewExamples {
        /// The class.
        class: String,
        /// Examples needed.
        needed: usize,
        /// Examples there are.
        found: usize,
    },
    /// A system of equations could not be solved.
    #[error("{what} cannot be solved for these points: their numbers are too extreme")]
    Singular {
        /// What was to be solved.
        what: &'static str,
    },
    /// Embeddings of different spaces, or of no direction.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
}
