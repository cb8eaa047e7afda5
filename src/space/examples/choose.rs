//! How much examples count, by pictures that were left out.

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

/// How much a better fit to left-out pictures counts: blends share by the likelihood they give to all
/// of them, to this power, because left-out pictures are few and were learned from in turn. Chosen, as
/// averaging was, on training photos: five a class, nine or ten classes at a time.
const CREDIT: f64 = 0.3;

/// Blends below this part of the best one's likelihood do not count.
const LEAST_CREDIT: f64 = 1e-3;

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
    /// Share of left-out pictures that the blends label rightly together. Weighed on the same
    /// pictures, so a little hopeful.
    pub blended: f64,
    /// How examples vote in the blend that counts most.
    #[serde(flatten)]
    pub method: Method,
    /// How much names count: 0 or 1.
    pub names: f32,
    /// How much a vote counts.
    pub weight: f32,
    /// Divides the logits, so that scores are as sure as they are right.
    pub temperature: f32,
}

/// Blends of one method and what each counts; over all methods that adds up to one.
pub(super) type Shares = Vec<(Method, Vec<(f32, Blend)>)>;

/// All blends that did about as well on left-out pictures as the best, each counting by how well:
/// with few pictures the best is best by luck, and their mean was right more often.
pub(super) fn choose(set: &ExampleSet, seed: u64) -> Result<(Shares, ExamplesReport), SpaceError> {
    let folds = folds(set, seed);
    let judged: Vec<(Method, Vec<Vec<f32>>, Vec<Judged>)> = methods()
        .into_par_iter()
        .map(|method| {
            let votes = left_out_votes(set, &folds, method)?;
            let judged = blends(method).into_iter().map(|blend| judge(set, blend, &votes));
            let judged = judged.collect();
            Ok((method, votes, judged))
        })
        .collect::<Result<_, SpaceError>>()?;
    let all = || judged.iter().flat_map(|(_, _, judged)| judged);
    let best = all().min_by(|a, b| a.loss.total_cmp(&b.loss)).ok_or(SpaceError::NoTerms)?;
    let credit = |judged: &Judged| (CREDIT * set.len() as f64 * (best.loss - judged.loss)).exp();
    let total: f64 = all().map(credit).filter(|&credit| credit > LEAST_CREDIT).sum();
    let share = |judged: &Judged| {
        let credit = credit(judged);
        (credit > LEAST_CREDIT).then_some(((credit / total) as f32, judged.blend))
    };
    let mut means = vec![vec![0f32; set.names.len()]; set.len()];
    let mut shares = Shares::new();
    for (method, votes, judged) in &judged {
        let kept: Vec<(f32, Blend)> = judged.iter().filter_map(share).collect();
        for ((mean, named), votes) in means.iter_mut().zip(&set.named).zip(votes) {
            add_scores(mean, &kept, named, votes);
        }
        if !kept.is_empty() {
            shares.push((*method, kept));
        }
    }
    let right = |scores: &[Vec<f32>]| {
        let hits = scores.iter().zip(&set.classes).filter(|(s, class)| is_first(s, **class));
        hits.count() as f64 / set.len() as f64
    };
    let report = ExamplesReport {
        examples: set.len(),
        classes: set.names.len(),
        zero_shot: right(&set.named),
        blended: right(&means),
        method: best.blend.method,
        names: best.blend.names,
        weight: best.blend.weight,
        temperature: best.blend.temperature,
    };
    Ok((shares, report))
}

/// Adds the probabilities that these blends give, each by its share.
pub(super) fn add_scores(
    scores: &mut [f32],
    blends: &[(f32, Blend)],
    named: &[f32],
    votes: &[f32],
) {
    for (share, blend) in blends {
        let logits = blend.logits(named, votes);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|logit| (logit - top).exp()).sum();
        for (score, logit) in scores.iter_mut().zip(&logits) {
            *score += share * (logit - top).exp() / total;
        }
    }
}

/// Whether no class is above this one, nor as high and before it.
fn is_first(values: &[f32], class: usize) -> bool {
    let ahead = |&c: &usize| values[c] > values[class] || (values[c] == values[class] && c < class);
    (0..values.len()).find(ahead).is_none()
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

/// A blend and its mean negative log likelihood of the true classes.
struct Judged {
    blend: Blend,
    loss: f64,
}

/// The blends tried of one method.
fn blends(method: Method) -> Vec<Blend> {
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
    blends.collect()
}

fn judge(set: &ExampleSet, blend: Blend, votes: &[Vec<f32>]) -> Judged {
    let loss = |((named, votes), &class): ((&Vec<f32>, &Vec<f32>), &usize)| {
        let logits = blend.logits(named, votes);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - top).exp()).sum();
        f64::from(top + sum.ln() - logits[class])
    };
    let total: f64 = set.named.iter().zip(votes).zip(&set.classes).map(loss).sum();
    Judged { blend, loss: total / set.len() as f64 }
}
