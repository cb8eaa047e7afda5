//! Choosing how much examples count, by pictures that were left out.

use rayon::prelude::*;
use serde::Serialize;

use super::ExampleSet;
use super::evidence::{Evidence, Method};
use crate::space::error::SpaceError;
use crate::space::sample::Dice;

/// Parts of the cross-validation, at most.
const FOLDS: usize = 5;

/// Temperatures tried when scores are calibrated.
const TEMPERATURES: [f32; 9] = [0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0];

/// A way to mix names and examples: `(names * zero-shot logit + weight * vote) / temperature`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Blend {
    pub(super) method: Method,
    pub(super) names: f32,
    pub(super) weight: f32,
    pub(super) temperature: f32,
}

impl Blend {
    pub(super) fn logits(&self, named: &[f32], votes: &[f32]) -> Vec<f32> {
        let mix = |(name, vote): (&f32, &f32)| {
            (self.names * name + self.weight * vote) / self.temperature
        };
        named.iter().zip(votes).map(mix).collect()
    }
}

/// What cross-validation found: pictures were left out in turn and labelled by the others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExamplesReport {
    /// Pictures.
    pub examples: usize,
    /// Classes.
    pub classes: usize,
    /// Share of pictures that names alone label rightly.
    pub zero_shot: f64,
    /// Share of left-out pictures that the chosen blend labels rightly. Chosen on the same
    /// pictures, so a little hopeful.
    pub blended: f64,
    /// How examples vote in the chosen blend.
    #[serde(flatten)]
    pub method: Method,
    /// How much names count: 0 or 1.
    pub names: f32,
    /// How much a vote counts.
    pub weight: f32,
    /// Divides the logits, so that scores are as sure as they are right.
    pub temperature: f32,
}

/// The blend with the smallest loss on left-out pictures.
pub(super) fn choose(set: &ExampleSet, seed: u64) -> Result<(Blend, ExamplesReport), SpaceError> {
    let folds = folds(set, seed);
    let judged: Vec<Judged> = methods()
        .into_par_iter()
        .map(|method| left_out_votes(set, &folds, method).map(|votes| best_of(set, method, &votes)))
        .collect::<Result<_, _>>()?;
    let best = judged.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).ok_or(SpaceError::NoTerms)?;
    let plain = Blend { method: Method::ZeroShot, names: 1.0, weight: 0.0, temperature: 1.0 };
    let nothing = vec![vec![0.0; set.names.len()]; set.len()];
    let report = ExamplesReport {
        examples: set.len(),
        classes: set.names.len(),
        zero_shot: judge(set, &plain, &nothing).accuracy,
        blended: best.accuracy,
        method: best.blend.method,
        names: best.blend.names,
        weight: best.blend.weight,
        temperature: best.blend.temperature,
    };
    Ok((best.blend, report))
}

fn methods() -> Vec<Method> {
    let mut methods = vec![Method::ZeroShot, Method::Prototype];
    methods.extend([2.0, 5.0, 10.0].map(|sharpness| Method::TipAdapter { sharpness }));
    methods.extend([0.03, 0.3, 3.0].map(|penalty| Method::Ridge { penalty }));
    methods
}

/// For each picture, the part in which it is left out; every part has its share of each class.
fn folds(set: &ExampleSet, seed: u64) -> Vec<usize> {
    let mut dice = Dice::new(seed);
    let mut folds = vec![0; set.len()];
    for class in 0..set.names.len() {
        let mut rows: Vec<usize> = (0..set.len()).filter(|&r| set.classes[r] == class).collect();
        dice.shuffle(&mut rows);
        rows.iter().enumerate().for_each(|(place, &row)| folds[row] = place % FOLDS);
    }
    folds
}

/// The votes on each picture of examples that do not hold it.
fn left_out_votes(
    set: &ExampleSet,
    folds: &[usize],
    method: Method,
) -> Result<Vec<Vec<f32>>, SpaceError> {
    let mut votes = vec![Vec::new(); set.len()];
    for fold in 0..FOLDS {
        let (out, rest): (Vec<usize>, Vec<usize>) =
            (0..set.len()).partition(|&row| folds[row] == fold);
        if out.is_empty() {
            continue;
        }
        let learned = Evidence::learn(method, &set.select(&rest))?;
        out.iter().for_each(|&row| votes[row] = learned.votes(set.points.row(row)));
    }
    Ok(votes)
}

/// A blend and how it did.
struct Judged {
    blend: Blend,
    loss: f64,
    accuracy: f64,
}

/// The best weight and temperature of one method.
fn best_of(set: &ExampleSet, method: Method, votes: &[Vec<f32>]) -> Judged {
    let weights: &[f32] = match method {
        Method::ZeroShot => &[0.0],
        Method::Prototype => &[3.0, 10.0, 30.0, 60.0],
        Method::TipAdapter { .. } | Method::Ridge { .. } => &[2.0, 5.0, 12.0, 30.0],
    };
    let names: &[f32] = if method == Method::ZeroShot { &[1.0] } else { &[1.0, 0.0] };
    let blends = names.iter().flat_map(|&names| weights.iter().map(move |&w| (names, w)));
    let blends = blends.flat_map(|(names, weight)| {
        TEMPERATURES.map(|temperature| Blend { method, names, weight, temperature })
    });
    let judged = blends.map(|blend| judge(set, &blend, votes));
    judged.min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("there are weights and temperatures")
}

/// Mean negative log likelihood of the true classes, and accuracy.
fn judge(set: &ExampleSet, blend: &Blend, votes: &[Vec<f32>]) -> Judged {
    let (mut loss, mut right) = (0f64, 0usize);
    for ((named, votes), &class) in set.named.iter().zip(votes).zip(&set.classes) {
        let logits = blend.logits(named, votes);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - top).exp()).sum();
        loss += f64::from(top + sum.ln() - logits[class]);
        let ahead = (0..logits.len())
            .filter(|&c| logits[c] > logits[class] || (logits[c] == logits[class] && c < class));
        right += usize::from(ahead.count() == 0);
    }
    let size = set.len() as f64;
    Judged { blend: *blend, loss: loss / size, accuracy: right as f64 / size }
}
