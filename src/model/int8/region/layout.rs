//! Pictures between tract's layout and that of regions, and between forms.

use crate::kernel::{Machine, Quantisation, quantise_slice, range_with_zero};

use super::chain::View;
use super::draft::Size;
use super::memory::Data;
use super::program::Form;

/// How the bytes of pixels become the numbers a graph takes: `(byte / 255 - mean) / std`, by
/// channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Mean of each channel, on a scale from 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, on the same scale.
    pub std: Vec<f32>,
}

impl Pixels {
    /// The number that a byte stands for in a channel.
    pub fn value(&self, byte: u8, channel: usize) -> f32 {
        (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// The byte that stands for a number in a channel.
    pub(super) fn byte(&self, value: f32, channel: usize) -> u8 {
        let byte = (value * self.std[channel] + self.mean[channel]) * 255.0;
        byte.round_ties_even().clamp(0.0, 255.0) as u8
    }

    /// The quantisation of all channels together, and whether it has every byte of each channel to
    /// a thousandth of a step.
    pub(super) fn together(&self) -> Option<(Quantisation, bool)> {
        let (low, high) = self.range();
        let quantisation = Quantisation::covering(low, high).ok()?;
        let exact = (0..self.mean.len()).all(|channel| {
            (0..=255).all(|byte| {
                let value = self.value(byte, channel);
                let found = quantisation.dequantise(quantisation.quantise(value));
                (found - value).abs() <= 1e-3 * quantisation.scale
            })
        });
        Some((quantisation, exact))
    }

    /// The smallest and the largest number that pixels stand for.
    pub fn range(&self) -> (f32, f32) {
        (0..self.mean.len())
            .flat_map(|c| [self.value(0, c), self.value(255, c)])
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
    }
}

/// Pixels, channels last, to the form wanted.
pub(super) fn import_pixels(
    bytes: &[u8],
    pixels: &Pixels,
    channels: usize,
    data: &mut Data,
    length: usize,
) {
    match data {
        Data::Floats(out) => {
            for (out, bytes) in
                out[..length].chunks_exact_mut(channels).zip(bytes.chunks_exact(channels))
            {
                for (channel, (out, byte)) in out.iter_mut().zip(bytes).enumerate() {
                    *out = pixels.value(*byte, channel);
                }
            }
        }
        Data::Bytes(out, quantisation) => {
            let out = &mut out.as_mut_slice()[..length];
            let tables: Vec<[u8; 256]> = (0..channels)
                .map(|c| std::array::from_fn(|b| quantisation.quantise(pixels.value(b as u8, c))))
                .collect();
            let identity = |table: &[u8; 256]| (0..=255u8).all(|b| table[usize::from(b)] == b);
            if tables.iter().all(identity) {
                out.copy_from_slice(bytes);
                return;
            }
            for (out, bytes) in out.chunks_exact_mut(channels).zip(bytes.chunks_exact(channels)) {
                for (table, (out, byte)) in tables.iter().zip(out.iter_mut().zip(bytes)) {
                    *out = table[usize::from(*byte)];
                }
            }
        }
    }
}

/// Normalised pixels, plane after plane, to the bytes they come of, channels last.
pub(super) fn bytes_of_pixels(planes: &[f32], pixels: &Pixels, size: Size, out: &mut [u8]) {
    for (channel, plane) in planes.chunks_exact(size.pixels()).enumerate() {
        let to = out[channel..].iter_mut().step_by(size.channels);
        to.zip(plane).for_each(|(byte, value)| *byte = pixels.byte(*value, channel));
    }
}

/// Plane after plane to channels last.
pub(super) fn interleave<T: Copy>(planes: &[T], size: Size, out: &mut [T]) {
    let pixels = size.pixels();
    if pixels == 1 {
        return out.copy_from_slice(planes);
    }
    // In blocks of pixels, so that the lines written stay in the cache.
    const BLOCK: usize = 64;
    for start in (0..pixels).step_by(BLOCK) {
        let end = (start + BLOCK).min(pixels);
        for (channel, plane) in planes.chunks_exact(pixels).enumerate() {
            for (i, value) in plane[start..end].iter().enumerate() {
                out[(start + i) * size.channels + channel] = *value;
            }
        }
    }
}

/// Channels last to plane after plane.
pub(super) fn separate(values: &[f32], size: Size, out: &mut [f32]) {
    let pixels = size.pixels();
    if pixels == 1 {
        return out.copy_from_slice(values);
    }
    const BLOCK: usize = 64;
    for start in (0..pixels).step_by(BLOCK) {
        let end = (start + BLOCK).min(pixels);
        for (channel, plane) in out.chunks_exact_mut(pixels).enumerate() {
            for (i, value) in plane[start..end].iter_mut().enumerate() {
                *value = values[(start + i) * size.channels + channel];
            }
        }
    }
}

pub(super) fn repeat<T: Copy>(from: &[T], multiplier: usize, to: &mut [T]) {
    for (to, value) in to.chunks_exact_mut(multiplier).zip(from) {
        to.fill(*value);
    }
}

pub(super) fn convert(machine: Machine, from: View, form: Form, to: &mut Data) {
    match (from, to) {
        (View::Floats(values), Data::Bytes(out, quantisation)) => {
            if form == Form::MeasuredBytes {
                let (low, high) = range_with_zero(machine, values);
                if let Ok(measured) = Quantisation::covering(low, high) {
                    *quantisation = measured;
                }
            }
            quantise_slice(machine, values, *quantisation, &mut out.as_mut_slice()[..values.len()]);
        }
        (View::Bytes(bytes, quantisation), Data::Floats(out)) => {
            let table: [f32; 256] = std::array::from_fn(|b| quantisation.dequantise(b as u8));
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = table[usize::from(*byte)]);
        }
        (View::Floats(values), Data::Floats(out)) => out[..values.len()].copy_from_slice(values),
        (View::Bytes(bytes, from), Data::Bytes(out, to)) => {
            let table: [u8; 256] = std::array::from_fn(|b| to.quantise(from.dequantise(b as u8)));
            let out = out.as_mut_slice();
            out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = table[usize::from(*byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaving_and_separating_are_inverse() {
        for (height, width, channels) in [(1, 1, 5), (3, 50, 4), (9, 9, 7)] {
            let size = Size { height, width, channels };
            let planes: Vec<f32> = (0..size.elements()).map(|i| i as f32).collect();
            let mut last = vec![0.0; planes.len()];
            interleave(&planes, size, &mut last);
            assert_eq!(
                last[channels.min(last.len() - 1)],
                if height * width > 1 { 1.0 } else { 4.0 }
            );
            let mut back = vec![0.0; planes.len()];
            separate(&last, size, &mut back);
            assert_eq!(planes, back);
        }
    }

    #[test]
    fn pixels_of_the_default_model_are_their_own_quantisation() {
        let pixels = Pixels { mean: vec![127.0 / 255.0; 3], std: vec![128.0 / 255.0; 3] };
        let (low, high) = pixels.range();
        let quantisation = Quantisation::covering(low, high).unwrap();
        for byte in 0..=255 {
            assert_eq!(quantisation.quantise(pixels.value(byte, 1)), byte);
        }
    }
}
