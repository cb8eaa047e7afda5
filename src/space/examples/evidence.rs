//! What examples say about a picture, in three ways.

use nalgebra::DMatrix;

use super::ExampleSet;
use crate::embedding::dot;
use crate::space::error::SpaceError;
use crate::space::linear;
use crate::space::points::Points;

/// How examples vote.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// They do not: names alone decide.
    ZeroShot,
    /// Similarity to the mean direction of each class (Snell et al. 2017).
    Prototype,
    /// Each example votes with `exp(-sharpness * (1 - similarity))`, averaged over its class
    /// (Tip-Adapter, Zhang et al. 2022, without training).
    TipAdapter {
        /// How quickly a vote fades with distance.
        sharpness: f32,
    },
    /// Ridge regression of one number a class, 1 for its own examples and 0 for others.
    Ridge {
        /// Penalty on the squared weights.
        penalty: f32,
    },
}

/// Votes of examples, ready for pictures.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Evidence {
    None {
        classes: usize,
    },
    /// A linear function for each class: weights and offset.
    Linear(Vec<(Vec<f32>, f32)>),
    Votes {
        points: Points,
        classes: Vec<usize>,
        count: usize,
        sharpness: f32,
    },
}

impl Evidence {
    /// Learns from a set; a class without examples gets no votes.
    pub(super) fn learn(method: Method, set: &ExampleSet) -> Result<Self, SpaceError> {
        let count = set.names.len();
        match method {
            Method::ZeroShot => Ok(Self::None { classes: count }),
            Method::Prototype => Ok(Self::Linear(prototypes(set))),
            Method::TipAdapter { sharpness } => Ok(Self::Votes {
                points: set.points.clone(),
                classes: set.classes.clone(),
                count,
                sharpness,
            }),
            Method::Ridge { penalty } => {
                let targets = DMatrix::from_fn(set.len(), count, |row, class| {
                    f64::from(u8::from(set.classes[row] == class))
                });
                ridge(&set.points, targets, f64::from(penalty)).map(Self::Linear)
            }
        }
    }

    /// The vote for each class.
    pub(super) fn votes(&self, picture: &[f32]) -> Vec<f32> {
        match self {
            Self::None { classes } => vec![0.0; *classes],
            Self::Linear(maps) => {
                maps.iter().map(|(weights, offset)| dot(weights, picture) + offset).collect()
            }
            Self::Votes { points, classes, count, sharpness } => {
                let (mut sums, mut sizes) = (vec![0f32; *count], vec![0f32; *count]);
                for (point, &class) in points.iter().zip(classes) {
                    sums[class] += (-sharpness * (1.0 - dot(point, picture))).exp();
                    sizes[class] += 1.0;
                }
                sums.iter().zip(&sizes).map(|(sum, size)| sum / f32::max(*size, 1.0)).collect()
            }
        }
    }
}

fn prototypes(set: &ExampleSet) -> Vec<(Vec<f32>, f32)> {
    (0..set.names.len())
        .map(|class| {
            let rows: Vec<usize> = (0..set.len()).filter(|&r| set.classes[r] == class).collect();
            let mean = set.points.select(&rows).mean();
            let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
            // Examples that cancel each other (or none) point nowhere: no vote.
            let scale = if length > 1e-9 { 1.0 / length } else { 0.0 };
            (mean.iter().map(|x| (x * scale) as f32).collect(), 0.0)
        })
        .collect()
}

/// Ridge regression with an intercept that is not penalised, in its kernel form: there are fewer
/// examples than dimensions.
fn ridge(
    points: &Points,
    mut targets: DMatrix<f64>,
    penalty: f64,
) -> Result<Vec<(Vec<f32>, f32)>, SpaceError> {
    let mean = points.mean();
    let columns = points.shifted_columns(Some(&mean));
    let balance: Vec<f64> = targets.column_iter().map(|column| column.mean()).collect();
    for (mut column, mean) in targets.column_iter_mut().zip(&balance) {
        column.add_scalar_mut(-mean);
    }
    let rows = points.rows();
    let system = columns.transpose() * &columns + DMatrix::identity(rows, rows) * penalty;
    let weights = &columns * linear::solve(system, &targets, "ridge regression on the examples")?;
    let map = |(class, column): (usize, nalgebra::DVectorView<'_, f64>)| {
        let shift: f64 = column.iter().zip(&mean).map(|(w, m)| w * m).sum();
        (column.iter().map(|&w| w as f32).collect(), (balance[class] - shift) as f32)
    };
    Ok(weights.column_iter().enumerate().map(map).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Points {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/space");
        let bytes = std::fs::read(format!("{folder}/{name}.f32")).unwrap();
        let values = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
        Points::new(values.collect(), 16).unwrap()
    }

    #[test]
    fn ridge_agrees_with_scikit_learn() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/space");
        let text = std::fs::read_to_string(format!("{folder}/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let classes = (0..120).map(|row| row % 3).collect();
        let set = ExampleSet::new(names, golden("images"), classes, vec![vec![0.0; 3]; 120]);
        let learned = Evidence::learn(Method::Ridge { penalty: 0.5 }, &set.unwrap()).unwrap();
        let found = learned.votes(golden("texts").row(0));
        let row = expected["learners"]["ridge_first_row"].as_array().unwrap();
        for (found, expected) in found.iter().zip(row) {
            assert!((f64::from(*found) - expected.as_f64().unwrap()).abs() < 1e-4);
        }
    }
}
