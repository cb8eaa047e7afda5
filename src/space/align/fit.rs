//! Learning the maps: Adam, decay towards the identity, early stopping, honest judgement.

use nalgebra::DMatrix;
use rayon::prelude::*;
use serde::Serialize;

use super::loss::{Batch, Maps, contrastive, loss, mapped};
use super::pairs::Pairs;
use super::recall::{Recall, recall};
use crate::space::error::SpaceError;
use crate::space::logistic::logistic;
use crate::space::points::Points;
use crate::space::sample::Dice;

/// Fewest pictures with captions to learn from.
const FEWEST: usize = 50;
/// Pairs of one step.
const BATCH: usize = 512;
/// Adam's decay of the mean and of the square (Kingma and Ba 2015).
const MOMENTS: [f32; 2] = [0.9, 0.999];
/// Epochs without a better loss on the stopping pairs before it ends.
const PATIENCE: usize = 4;
/// Strengths of the pull towards the identity that are tried; the stopping pairs choose.
const DECAYS: [f32; 3] = [0.3, 1.0, 3.0];

/// Shares of the way from the identity to what was learned that are tried; the stopping pairs
/// choose (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
const SHARES: [f32; 4] = [0.25, 0.5, 0.75, 1.0];

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AlignOptions {
    /// Decides which pairs are held out and in which order the others come.
    pub seed: u64,
    /// Most passes over the pairs for each strength of decay.
    pub epochs: usize,
    /// Step size of Adam.
    pub rate: f32,
}

impl Default for AlignOptions {
    fn default() -> Self {
        Self { seed: 0, epochs: 40, rate: 5e-4 }
    }
}

/// What fitting did, on pairs that it did not see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AlignReport {
    /// Captions fitted to.
    pub fitted: usize,
    /// Captions that decided when to stop.
    pub stopping: usize,
    /// Recall on the held-out pairs before.
    pub before: Recall,
    /// The same after.
    pub after: Recall,
    /// Contrastive loss on the held-out pairs before, in nats, with the best scale.
    pub loss_before: f32,
    /// The same after.
    pub loss_after: f32,
    /// Logit scale learned.
    pub scale: f32,
    /// Pull towards the identity that was chosen.
    pub decay: f32,
    /// Share of the way from the identity to what was learned that was chosen.
    pub share: f32,
    /// Whether both recall at 5 and loss are better than before.
    pub improves: bool,
}

/// Two learned maps, `dimension` × `dimension` each, to be applied to embeddings of the space
/// (and the result normalised).
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    dimension: usize,
    image: Vec<f32>,
    text: Vec<f32>,
    scale: f32,
    held_out: Pairs,
}

impl Alignment {
    /// Numbers of an embedding.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The map of picture embeddings, row-major: row i makes number i of the result.
    pub fn image(&self) -> &[f32] {
        &self.image
    }

    /// The map of text embeddings, row-major.
    pub fn text(&self) -> &[f32] {
        &self.text
    }

    /// Mean of `points` after one of the maps, each brought back onto the sphere.
    pub fn mean(&self, points: &Points, map: &[f32]) -> Vec<f64> {
        let map = DMatrix::from_row_slice(self.dimension, self.dimension, map);
        let (moved, _) = mapped(&map, &points.columns());
        moved.cast::<f64>().column_mean().iter().copied().collect()
    }

    /// `[scale, bias]` of the logistic curve from centred similarity to the probability that a
    /// picture and a text match, fitted to held-out pairs and as many wrong ones.
    ///
    /// # Errors
    /// As [`logistic`].
    pub fn matching(&self, image_mean: &[f32], text_mean: &[f32]) -> Result<[f32; 2], SpaceError> {
        let centred = |map: &[f32], points: &Points, mean: &[f32]| {
            let map = DMatrix::from_row_slice(self.dimension, self.dimension, map);
            let (mut moved, _) = mapped(&map, &points.columns());
            for mut column in moved.column_iter_mut() {
                column.iter_mut().zip(mean).for_each(|(x, m)| *x -= m);
            }
            moved
        };
        let images = centred(&self.image, self.held_out.images(), image_mean);
        let texts = centred(&self.text, self.held_out.texts(), text_mean);
        let (mut values, mut answers) = (Vec::new(), Vec::new());
        for (caption, &owner) in self.held_out.owners().iter().enumerate() {
            let other = (owner + images.ncols() / 2) % images.ncols();
            for image in [owner, other] {
                values.push(images.column(image).dot(&texts.column(caption)));
                answers.push(image == owner);
            }
        }
        logistic(&values, &answers)
    }

    /// The learned logit scale.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

/// Learns a map for each modality from pairs. Deterministic for one seed and machine.
///
/// `step` is told how many of how many passes are done.
///
/// # Errors
/// [`SpaceError::TooFewRows`] below 50 pictures with captions; [`SpaceError::OutOfRange`] for no
/// epochs or a rate that is not above 0.
pub fn fit(
    pairs: &Pairs,
    logit_scale: f32,
    options: AlignOptions,
    step: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Alignment, AlignReport), SpaceError> {
    check(pairs, logit_scale, options)?;
    let [train, stop, judge] = pairs.divided(options.seed);
    let start = Maps {
        image: DMatrix::identity(pairs.images().dimension(), pairs.images().dimension()),
        text: DMatrix::identity(pairs.images().dimension(), pairs.images().dimension()),
        log_scale: logit_scale.ln(),
    };
    let done = std::sync::atomic::AtomicUsize::new(0);
    let total = DECAYS.len() * options.epochs;
    let tick = || {
        let now = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        step(now.min(total), total);
    };
    let runs: Vec<(f32, f32, Maps)> = DECAYS
        .par_iter()
        .map(|&decay| {
            let (best, maps) = run(&train, &stop, &start, decay, options, &tick);
            (best, decay, maps)
        })
        .collect();
    step(total, total);
    let (_, decay, maps) =
        runs.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).ok_or(SpaceError::NoTerms)?;
    let (share, maps) = blended(&start, &maps, &stop);
    // The scale alone is no gain in ranking: the loss before is taken at its own best scale.
    let (before, loss_before) = judged(&start, &judge);
    let (after, loss_after) = judged(&maps, &judge);
    let report = AlignReport {
        fitted: train.len(),
        stopping: stop.len(),
        before,
        after,
        loss_before,
        loss_after,
        scale: maps.log_scale.exp(),
        decay,
        share,
        improves: after.at_5 > before.at_5 && loss_after < loss_before,
    };
    let rows = |map: &DMatrix<f32>| map.transpose().as_slice().to_vec();
    let alignment = Alignment {
        dimension: pairs.images().dimension(),
        image: rows(&maps.image),
        text: rows(&maps.text),
        scale: maps.log_scale.exp(),
        held_out: judge,
    };
    Ok((alignment, report))
}

/// The maps between `start` and `learned` that fit `stop` best, and how far between.
fn blended(start: &Maps, learned: &Maps, stop: &Pairs) -> (f32, Maps) {
    let between = |share: f32| Maps {
        image: &start.image * (1.0 - share) + &learned.image * share,
        text: &start.text * (1.0 - share) + &learned.text * share,
        log_scale: start.log_scale * (1.0 - share) + learned.log_scale * share,
    };
    let tried = SHARES.map(|share| (stopping_loss(&between(share), stop), share));
    let best = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let share = best.map_or(1.0, |(_, share)| share);
    (share, between(share))
}

fn check(pairs: &Pairs, logit_scale: f32, options: AlignOptions) -> Result<(), SpaceError> {
    let mut owned = pairs.owners().to_vec();
    owned.sort_unstable();
    owned.dedup();
    if owned.len() < FEWEST {
        let what = "aligning a space (pictures with captions)";
        return Err(SpaceError::TooFewRows { what, needed: FEWEST, found: owned.len() });
    }
    let above_zero = |what, value: f32| {
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        let range = "a finite number above 0";
        Err(SpaceError::OutOfRange { what, range, value: f64::from(value) })
    };
    above_zero("the logit scale", logit_scale)?;
    above_zero("the step size", options.rate)?;
    above_zero("the number of epochs", options.epochs as f32)
}

/// One run with one strength of decay: the best loss on `stop`, and the maps that reached it.
fn run(
    train: &Pairs,
    stop: &Pairs,
    start: &Maps,
    decay: f32,
    options: AlignOptions,
    tick: &(dyn Fn() + Sync),
) -> (f32, Maps) {
    let mut dice = Dice::new(options.seed ^ 0x5eed);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let mut maps = start.clone();
    let mut adam = Adam::new(start);
    let mut best = (stopping_loss(&maps, stop), maps.clone());
    let mut waited = 0;
    for _ in 0..options.epochs {
        dice.shuffle(&mut order);
        let batches = order.len().div_ceil(BATCH);
        for chunk in order.chunks(order.len().div_ceil(batches)) {
            let (images, texts, owners) = gathered(train, chunk);
            let batch = Batch { images: &images, texts: &texts, owners: &owners };
            let (_, gradient) = contrastive(&maps, &batch);
            adam.step(&mut maps, &gradient, options.rate);
            pull(&mut maps.image, options.rate * decay);
            pull(&mut maps.text, options.rate * decay);
        }
        tick();
        let now = stopping_loss(&maps, stop);
        if now < best.0 {
            best = (now, maps.clone());
            waited = 0;
        } else {
            waited += 1;
            if waited == PATIENCE {
                break;
            }
        }
    }
    best
}

/// Pairs as columns: pictures (repeated for each caption), captions, owners.
fn gathered(pairs: &Pairs, captions: &[usize]) -> (DMatrix<f32>, DMatrix<f32>, Vec<usize>) {
    let owners: Vec<usize> = captions.iter().map(|&c| pairs.owners()[c]).collect();
    let images = pairs.images().select(&owners).columns();
    (images, pairs.texts().select(captions).columns(), owners)
}

/// Loss over all pairs in batches of one size, so that it does not depend on their number.
fn stopping_loss(maps: &Maps, pairs: &Pairs) -> f32 {
    let all: Vec<usize> = (0..pairs.len()).collect();
    let batches = all.len().div_ceil(BATCH).max(1);
    let total: f32 = all
        .chunks(all.len().div_ceil(batches).max(1))
        .map(|chunk| {
            let (images, texts, owners) = gathered(pairs, chunk);
            let batch = Batch { images: &images, texts: &texts, owners: &owners };
            loss(maps, &batch) * chunk.len() as f32
        })
        .sum();
    total / all.len().max(1) as f32
}

/// Recall, and the loss at the scale (of a few) that makes it smallest.
fn judged(maps: &Maps, pairs: &Pairs) -> (Recall, f32) {
    let (images, _) = mapped(&maps.image, &pairs.images().columns());
    let (texts, _) = mapped(&maps.text, &pairs.texts().columns());
    let at_scale = |factor: f32| {
        let log_scale = maps.log_scale + factor.ln();
        stopping_loss(&Maps { log_scale, ..maps.clone() }, pairs)
    };
    let best = [0.4, 0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0].map(at_scale);
    (recall(&images, &texts, pairs.owners()), best.into_iter().fold(f32::INFINITY, f32::min))
}

/// Moves a map towards the identity by a share of the way (decoupled decay, Loshchilov and
/// Hutter 2019).
fn pull(map: &mut DMatrix<f32>, share: f32) {
    *map *= 1.0 - share;
    for place in 0..map.nrows() {
        map[(place, place)] += share;
    }
}

/// Running moments of the gradient.
struct Adam {
    mean: Maps,
    square: Maps,
    steps: i32,
}

impl Adam {
    fn new(like: &Maps) -> Self {
        let none = Maps { image: &like.image * 0.0, text: &like.text * 0.0, log_scale: 0.0 };
        Self { mean: none.clone(), square: none, steps: 0 }
    }

    fn step(&mut self, maps: &mut Maps, gradient: &Maps, rate: f32) {
        self.steps += 1;
        let bias = MOMENTS.map(|moment| 1.0 - moment.powi(self.steps));
        let update = |value: &mut f32, mean: &mut f32, square: &mut f32, slope: f32| {
            *mean += (1.0 - MOMENTS[0]) * (slope - *mean);
            *square += (1.0 - MOMENTS[1]) * (slope * slope - *square);
            *value -= rate * (*mean / bias[0]) / ((*square / bias[1]).sqrt() + 1e-8);
        };
        let each = |map: &mut DMatrix<f32>,
                    mean: &mut DMatrix<f32>,
                    square: &mut DMatrix<f32>,
                    slope: &DMatrix<f32>| {
            for place in 0..slope.len() {
                update(&mut map[place], &mut mean[place], &mut square[place], slope[place]);
            }
        };
        each(&mut maps.image, &mut self.mean.image, &mut self.square.image, &gradient.image);
        each(&mut maps.text, &mut self.mean.text, &mut self.square.text, &gradient.text);
        let (mean, square) = (&mut self.mean.log_scale, &mut self.square.log_scale);
        update(&mut maps.log_scale, mean, square, gradient.log_scale);
        // CLIP's bound: beyond a scale of 100 training is unstable.
        maps.log_scale = maps.log_scale.clamp(0.0, 100f32.ln());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(rows: Vec<Vec<f32>>) -> Points {
        let dimension = rows[0].len();
        let values = rows.into_iter().flat_map(|row| {
            let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.into_iter().map(move |x| x / length)
        });
        Points::new(values.collect(), dimension).unwrap()
    }

    /// Captions that are their picture with two axes exchanged (`swapped`), or anything at all.
    fn pairs(swapped: bool) -> Pairs {
        let mut dice = Dice::new(3);
        let mut normal =
            move || (0..6).map(|_| dice.below(2001) as f32 / 1000.0 - 1.0).sum::<f32>();
        let images: Vec<Vec<f32>> = (0..300).map(|_| (0..8).map(|_| normal()).collect()).collect();
        let texts = images
            .iter()
            .map(|row| {
                let mut text = row.clone();
                text.swap(0, 1);
                text.swap(2, 3);
                if !swapped {
                    text.iter_mut().for_each(|x| *x = normal());
                }
                text
            })
            .collect();
        Pairs::new(unit(images), unit(texts), (0..300).collect()).unwrap()
    }

    #[test]
    fn a_turned_space_is_turned_back() {
        let options = AlignOptions { rate: 2e-2, epochs: 60, ..AlignOptions::default() };
        let (alignment, report) = fit(&pairs(true), 10.0, options, &|_, _| {}).unwrap();
        assert!(report.improves && report.after.at_5 > 0.95, "{report:?}");
        assert!(report.before.at_5 < 0.9);
        assert_eq!(alignment.image().len(), 64);
        let [scale, bias] = alignment.matching(&[0.0; 8], &[0.0; 8]).unwrap();
        assert!(scale > 1.0 && bias < 0.0, "{scale} {bias}");
        assert_eq!((report.fitted, report.stopping, report.before.captions), (210, 30, 60));
    }

    #[test]
    fn pairs_without_sense_do_not_improve() {
        let (_, report) = fit(&pairs(false), 10.0, AlignOptions::default(), &|_, _| {}).unwrap();
        assert!(report.after.at_1 < 0.2, "{report:?}");
    }

    #[test]
    fn few_pairs_and_senseless_options_are_refused() {
        let few = pairs(true).of_images(&(0..20).collect::<Vec<_>>());
        let refused = fit(&few, 10.0, AlignOptions::default(), &|_, _| {});
        assert!(matches!(refused, Err(SpaceError::TooFewRows { found: 20, .. })));
        let options = AlignOptions { rate: f32::NAN, ..AlignOptions::default() };
        assert!(fit(&pairs(true), 10.0, options, &|_, _| {}).is_err());
    }
}
