//! Resampling weights: which source pixels make an output pixel, and how much each counts.
//!
//! The arithmetic is Pillow's for 8-bit pictures (`Resample.c`), down to the rounding of the
//! weights, so that sums come out the same: weights are computed in double precision, normalised
//! to sum to one, and rounded to 22 fractional bits. 255 times the largest possible sum of their
//! magnitudes (1.4, for the cubic) then still fits 31 bits.

use super::geometry::Window;
use super::spec::Interpolation;
use crate::kernel::{Taps, WEIGHT_BITS};

/// One kernel for each pixel of a window.
pub(super) fn kernels(window: Window, interpolation: Interpolation) -> Vec<Taps> {
    let (filter, support): (fn(f64) -> f64, f64) = match interpolation {
        Interpolation::Bicubic => (cubic, 2.0),
        Interpolation::Bilinear => (triangle, 1.0),
    };
    let source = f64::from(window.source);
    let scale = source / window.resized as f64;
    // Shrinking widens the filter (antialias), enlarging leaves it as it is.
    let stretch = scale.max(1.0);
    let radius = support * stretch;
    let positions = window.start..window.start + u64::from(window.length);
    let kernel = |position: u64| {
        let centre = (position as f64 + 0.5) * scale;
        let start = (centre - radius + 0.5).max(0.0) as usize;
        let end = (centre + radius + 0.5).min(source) as usize;
        let reciprocal = 1.0 / stretch;
        let weights = (start..end).map(|x| filter((x as f64 - centre + 0.5) * reciprocal));
        fixed_point(start, weights.collect())
    };
    positions.map(kernel).collect()
}

/// Normalises weights to a sum of one and rounds them.
fn fixed_point(start: usize, weights: Vec<f64>) -> Taps {
    let sum: f64 = weights.iter().sum();
    let one = f64::from(1u32 << WEIGHT_BITS);
    // `round` goes away from zero at a half, as Pillow's does.
    let weights = weights.iter().map(|weight| (weight / sum * one).round() as i32).collect();
    Taps { start, weights }
}

/// Cubic convolution (Keys, 1981) with a = -1/2.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Linear interpolation.
fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}
