//! Rounding that looks at what the weights multiply.
//!
//! Rounding each weight to the nearest integer is not best for the layer: errors of one weight can
//! be made up for by others, as far as their inputs are correlated. Weights are therefore rounded
//! one input after another, and what is lost is spread over the inputs still to come (E. Frantar and
//! others, *GPTQ*, 2022, after the optimal brain surgeon of B. Hassibi and D. Stork, 1993). What
//! remains shifts the mean of each output channel, which its bias takes back.

use rayon::prelude::*;

use super::rounding::{QuantisedWeight, round};

/// The mean and the covariance of the inputs of one group of output channels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    /// Vectors seen.
    count: f64,
    /// Sum of the inputs.
    sum: Vec<f64>,
    /// The largest magnitude of each input.
    largest: Vec<f32>,
    /// Sum of the products of pairs of inputs: the upper triangle, row-major. Empty if only means
    /// are wanted.
    products: Vec<f32>,
}

/// Added to the diagonal, relative to its mean, so that the covariance can be inverted.
const DAMPING: f64 = 0.01;

/// Rows that are handled together, so that a large covariance is read from memory once for all of
/// them.
const BLOCK: usize = 16;

impl Moments {
    /// Nothing seen yet. Covariances are kept up to `largest` inputs.
    pub fn new(inputs: usize, largest: usize) -> Self {
        let pairs = if inputs <= largest { inputs * inputs } else { 0 };
        Self {
            count: 0.0,
            sum: vec![0.0; inputs],
            largest: vec![0.0; inputs],
            products: vec![0.0; pairs],
        }
    }

    /// Takes one vector of inputs in.
    pub fn add(&mut self, inputs: &[f32]) {
        self.count += 1.0;
        self.sum.iter_mut().zip(inputs).for_each(|(sum, x)| *sum += f64::from(*x));
        self.largest.iter_mut().zip(inputs).for_each(|(most, x)| *most = most.max(x.abs()));
        if self.products.is_empty() {
            return;
        }
        let n = inputs.len();
        for (i, x) in inputs.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            let row = &mut self.products[i * n + i..(i + 1) * n];
            row.iter_mut().zip(&inputs[i..]).for_each(|(sum, y)| *sum += x * y);
        }
    }

    /// The mean of each input.
    pub fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / self.count.max(1.0)).collect()
    }

    /// The largest magnitude of each input; `None` if nothing was seen.
    pub fn largest(&self) -> Option<&[f32]> {
        (self.count > 0.0).then_some(&self.largest)
    }

    /// The moments of inputs that are divided by a factor each.
    pub fn divide(&mut self, factors: &[f32]) {
        let n = factors.len();
        for (i, factor) in factors.iter().enumerate() {
            self.sum[i] /= f64::from(*factor);
            self.largest[i] /= factor;
            if let Some(row) = self.products.get_mut(i * n..(i + 1) * n) {
                row.iter_mut().zip(factors).for_each(|(product, other)| *product /= factor * other);
            }
        }
    }

    /// The covariance, a full symmetric matrix; `None` if it was not kept or nothing was seen.
    ///
    /// Of few vectors, pairs of inputs seem correlated that are not, and a layer rounded to suit
    /// them would suit no others. What is not on the diagonal is therefore made smaller, by a share
    /// that tells how much of it is expected of chance (J. Schäfer and K. Strimmer, *A Shrinkage
    /// Approach to Large-Scale Covariance Matrix Estimation*, 2005, target D, with the variances of
    /// a normal distribution).
    fn covariance(&self) -> Option<Vec<f64>> {
        if self.products.is_empty() || self.count < 2.0 {
            return None;
        }
        let (n, mean) = (self.sum.len(), self.mean());
        let mut matrix = vec![0.0; n * n];
        let mut squares = 0.0;
        for i in 0..n {
            for j in i..n {
                let product = f64::from(self.products[i * n + j]) / self.count;
                let covariance = product - mean[i] * mean[j];
                squares += if i == j { 0.0 } else { 2.0 * covariance * covariance };
                matrix[i * n + j] = covariance;
                matrix[j * n + i] = covariance;
            }
        }
        let variances = || (0..n).map(|i| matrix[i * n + i]);
        let pairs = variances().sum::<f64>().powi(2) - variances().map(|v| v * v).sum::<f64>();
        let by_chance = (pairs + squares) / (self.count * squares);
        let kept = 1.0 - if by_chance.is_finite() { by_chance.clamp(0.0, 1.0) } else { 0.0 };
        for (at, value) in matrix.iter_mut().enumerate() {
            if at / n != at % n {
                *value *= kept;
            }
        }
        Some(matrix)
    }
}

/// Rounds the rows of a layer, `inputs` weights each, anew with their scales. `groups` are the
/// moments of the inputs of equally many rows each.
///
/// Returns what must be added to the bias of each row.
pub(super) fn compensate(
    values: &[f32],
    quantised: &mut QuantisedWeight,
    groups: &[Moments],
) -> Vec<f32> {
    let rows = quantised.scales.len();
    let inputs = values.len() / rows;
    let per_group = rows / groups.len();
    let QuantisedWeight { values: integers, scales } = quantised;
    let mut shifts = Vec::with_capacity(rows);
    for (group, moments) in groups.iter().enumerate() {
        let factor = moments
            .covariance()
            .and_then(|covariance| Some((inverse_factor(&covariance, inputs)?, covariance)));
        let mean = moments.mean();
        let first = group * per_group;
        let elements = first * inputs..(first + per_group) * inputs;
        let originals = &values[elements.clone()];
        let nearest = &mut integers[elements];
        let scales = &scales[first..first + per_group];
        if let Some((factor, covariance)) = &factor {
            let blocks = nearest.par_chunks_mut(BLOCK * inputs);
            let others = originals.par_chunks(BLOCK * inputs).zip(scales.par_chunks(BLOCK));
            blocks.zip(others).for_each(|(nearest, (weights, scales))| {
                let better = round_rows(weights, scales, factor);
                let before = losses(weights, nearest, scales, covariance);
                let after = losses(weights, &better, scales, covariance);
                let rows = nearest.chunks_exact_mut(inputs).zip(better.chunks_exact(inputs));
                for ((nearest, better), (before, after)) in rows.zip(before.iter().zip(after)) {
                    if after < *before {
                        nearest.copy_from_slice(better);
                    }
                }
            });
        }
        let rows = originals.chunks_exact(inputs).zip(nearest.chunks_exact(inputs));
        shifts.extend(rows.zip(scales).map(|((weights, rounded), scale)| {
            let errors = weights.iter().zip(rounded).map(|(w, q)| w - f32::from(*q) * scale);
            errors.zip(&mean).map(|(e, m)| f64::from(e) * m).sum::<f64>() as f32
        }));
    }
    shifts
}

/// The norm of the error of a layer's results over that of the results, both without their means;
/// `None` if covariances were not kept or the results do not vary.
pub(super) fn result_error(
    values: &[f32],
    quantised: &QuantisedWeight,
    groups: &[Moments],
) -> Option<f64> {
    let rows = quantised.scales.len();
    let inputs = values.len() / rows;
    let per_group = rows / groups.len();
    let (mut error, mut total) = (0.0, 0.0);
    for (group, moments) in groups.iter().enumerate() {
        let covariance = moments.covariance()?;
        let first = group * per_group;
        let elements = first * inputs..(first + per_group) * inputs;
        let weights = values[elements.clone()].par_chunks(BLOCK * inputs);
        let rounded = quantised.values[elements].par_chunks(BLOCK * inputs);
        let scales = quantised.scales[first..first + per_group].par_chunks(BLOCK);
        let sums: Vec<(f64, f64)> = (weights.zip(rounded).zip(scales))
            .map(|((weights, rounded), scales)| {
                let of = |rounded: &[i8]| losses(weights, rounded, scales, &covariance);
                let none = vec![0; rounded.len()];
                (of(rounded).iter().sum(), of(&none).iter().sum())
            })
            .collect();
        for (of_error, of_all) in sums {
            error += of_error;
            total += of_all;
        }
    }
    (total > 0.0).then(|| (error / total).max(0.0).sqrt())
}

/// Rounds some rows, spreading what is lost over the weights to come.
fn round_rows(weights: &[f32], scales: &[f32], factor: &[f64]) -> Vec<i8> {
    let n = weights.len() / scales.len();
    let mut left: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    let mut rounded = vec![0; weights.len()];
    for j in 0..n {
        let row = &factor[j * n..(j + 1) * n];
        for (r, scale) in scales.iter().enumerate() {
            let left = &mut left[r * n + j..(r + 1) * n];
            let integer = round(left[0] as f32, 1.0 / scale);
            let error = (left[0] - f64::from(integer) * f64::from(*scale)) / row[j];
            left.iter_mut().zip(&row[j..]).for_each(|(w, f)| *w -= error * f);
            rounded[r * n + j] = integer;
        }
    }
    rounded
}

/// The variance that the error of each of some rows adds to its result.
fn losses(weights: &[f32], rounded: &[i8], scales: &[f32], covariance: &[f64]) -> Vec<f64> {
    let n = weights.len() / scales.len();
    let pairs = weights.iter().zip(rounded).enumerate();
    let errors: Vec<f64> =
        pairs.map(|(at, (w, q))| f64::from(w - f32::from(*q) * scales[at / n])).collect();
    let mut losses = vec![0.0; scales.len()];
    for (j, row) in covariance.chunks_exact(n).enumerate() {
        for (loss, errors) in losses.iter_mut().zip(errors.chunks_exact(n)) {
            *loss += errors[j] * dot(row, errors);
        }
    }
    losses
}

/// The sum of the products of two vectors of one length, in eight parts that a processor can form at
/// the same time.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const PARTS: usize = 8;
    let mut sums = [0.0; PARTS];
    let (a_blocks, b_blocks) = (a.chunks_exact(PARTS), b.chunks_exact(PARTS));
    let rest = a_blocks.remainder().iter().zip(b_blocks.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    rest + sums.iter().sum::<f64>()
}

/// The upper triangular `u` with `uᵀ · u` the inverse of the damped covariance; `None` if that is
/// not positive definite.
///
/// With the covariance written as `r · rᵀ`, `r` upper triangular, `u` is the inverse of `r`.
fn inverse_factor(covariance: &[f64], n: usize) -> Option<Vec<f64>> {
    let trace: f64 = (0..n).map(|i| covariance[i * n + i]).sum();
    let damping = DAMPING * trace / n as f64 + 1e-9;
    // Row i of `r`, from the last row up.
    let mut r = vec![0.0; n * n];
    for j in (0..n).rev() {
        let tail = |i: usize, r: &[f64]| -> f64 {
            dot(&r[i * n + j + 1..(i + 1) * n], &r[j * n + j + 1..(j + 1) * n])
        };
        let pivot = covariance[j * n + j] + damping - tail(j, &r);
        if pivot <= 0.0 || !pivot.is_finite() {
            return None;
        }
        let root = pivot.sqrt();
        r[j * n + j] = root;
        let column: Vec<f64> = (0..j)
            .into_par_iter()
            .with_min_len(64)
            .map(|i| (covariance[i * n + j] - tail(i, &r)) / root)
            .collect();
        column.iter().enumerate().for_each(|(i, value)| r[i * n + j] = *value);
    }
    Some(invert_upper(&r, n))
}

/// The inverse of an upper triangular matrix, row by row from the last.
fn invert_upper(r: &[f64], n: usize) -> Vec<f64> {
    let mut u = vec![0.0; n * n];
    for i in (0..n).rev() {
        let (above, below) = u.split_at_mut((i + 1) * n);
        let row = &mut above[i * n..];
        row[i] = 1.0;
        for k in i + 1..n {
            let factor = r[i * n + k];
            if factor != 0.0 {
                let other = &below[(k - i - 1) * n..(k - i) * n];
                row[k..].iter_mut().zip(&other[k..]).for_each(|(u, o)| *u -= factor * o);
            }
        }
        let pivot = r[i * n + i];
        row[i..].iter_mut().for_each(|u| *u /= pivot);
    }
    u
}

#[cfg(test)]
mod tests {
    use super::super::rounding::quantise_rows;
    use super::*;

    fn noise(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let n = 6;
        let mut moments = Moments::new(n, n);
        noise(1, n * 40).chunks_exact(n).for_each(|x| moments.add(x));
        let covariance = moments.covariance().unwrap();
        let u = inverse_factor(&covariance, n).unwrap();
        let damping =
            DAMPING * (0..n).map(|i| covariance[i * n + i]).sum::<f64>() / n as f64 + 1e-9;
        // (uᵀ u) · (covariance + damping) is the identity.
        for i in 0..n {
            for j in 0..n {
                let inverse = |a: usize, b: usize| -> f64 {
                    (0..n).map(|k| u[k * n + a] * u[k * n + b]).sum()
                };
                let product: f64 = (0..n)
                    .map(|k| {
                        let diagonal = if k == j { damping } else { 0.0 };
                        inverse(i, k) * (covariance[k * n + j] + diagonal)
                    })
                    .sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn outputs_come_closer_and_lose_no_mean() {
        let (rows, inputs, samples) = (8, 24, 300);
        let weights = noise(2, rows * inputs);
        // Strongly correlated inputs with a mean.
        let base = noise(3, samples);
        let x: Vec<f32> = noise(4, samples * inputs)
            .iter()
            .enumerate()
            .map(|(i, v)| 0.2 * v + base[i / inputs] + 0.5)
            .collect();
        let mut moments = Moments::new(inputs, inputs);
        x.chunks_exact(inputs).for_each(|x| moments.add(x));
        let nearest = quantise_rows(&weights, rows);
        let mut better = nearest.clone();
        let shifts = compensate(&weights, &mut better, &[moments]);
        let error = |q: &QuantisedWeight, shifts: &[f32]| -> (f64, f64) {
            let (mut square, mut mean) = (0.0, 0.0);
            for x in x.chunks_exact(inputs) {
                for (row, shift) in shifts.iter().enumerate() {
                    let e: f32 = (0..inputs)
                        .map(|i| {
                            let at = row * inputs + i;
                            (weights[at] - f32::from(q.values[at]) * q.scales[row]) * x[i]
                        })
                        .sum::<f32>()
                        - shift;
                    square += f64::from(e * e);
                    mean += f64::from(e);
                }
            }
            (square, mean.abs() / (samples * rows) as f64)
        };
        let before = error(&nearest, &vec![0.0; rows]);
        let after = error(&better, &shifts);
        assert!(after.0 < 0.3 * before.0, "{after:?} {before:?}");
        assert!(after.1 < 1e-5);
    }
}
