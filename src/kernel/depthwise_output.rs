//! What the sums of a depthwise convolution start from, and what becomes of them: bytes or floats.

use super::activation::{apply, with_activation};
use super::simd::{Dot, Vector, load_some, store_some};
use super::{Activation, Depthwise, Quantisation, Requantisation};

/// Where results go, and how.
#[derive(Clone, Copy)]
pub(crate) enum Output<'a> {
    Bytes { plan: &'a Requantisation, out: *mut u8 },
    Floats { quantisation: Quantisation, activation: Activation, out: *mut f32 },
}

/// What turns the sums of one vector of channels into bytes; kept in registers along a row.
#[derive(Clone, Copy)]
pub(super) struct Finish<V: Vector> {
    pub multiplier: V::F,
    pub addend: V::F,
    pub range: V::ByteRange,
}

impl<V: Vector> Finish<V> {
    /// # Safety
    /// The channel exists; the machine's instructions are enabled.
    #[inline(always)]
    pub unsafe fn load(plan: &Requantisation, channel: usize) -> Self {
        // SAFETY: the arrays are padded to whole vectors.
        unsafe {
            Self {
                multiplier: V::load(plan.multipliers.as_ptr().add(channel)),
                addend: V::load(plan.addends.as_ptr().add(channel)),
                range: V::byte_range(plan.low, plan.high),
            }
        }
    }

    /// Sums to integers that are only to be clamped.
    ///
    /// # Safety
    /// The machine's instructions are enabled.
    #[inline(always)]
    pub unsafe fn apply(&self, sum: V::I) -> V::I {
        // SAFETY: as the caller promises.
        unsafe { V::to_int(V::fma(V::to_float(sum), self.multiplier, self.addend)) }
    }
}

/// What the accumulators of a vector of channels start from.
///
/// # Safety
/// The channel exists.
#[inline(always)]
pub(super) unsafe fn start_of<V: Dot>(
    layer: &Depthwise,
    channel: usize,
    output: Output<'_>,
) -> V::I {
    // SAFETY: the arrays are padded to whole vectors.
    unsafe {
        match output {
            Output::Bytes { plan, .. } => V::load_i(plan.start.as_ptr().add(channel)),
            Output::Floats { quantisation, .. } => V::mul_i(
                V::load_i(layer.sums.as_ptr().add(channel)),
                V::splat_i(V::OFFSET - i32::from(quantisation.zero_point)),
            ),
        }
    }
}

/// Stores a vector of results: bytes, or for now the sums in the place of floats.
///
/// # Safety
/// The output holds as many elements from `at` on as there are channels in the vector.
#[inline(always)]
pub(super) unsafe fn store<V: Dot>(
    layer: &Depthwise,
    channel: usize,
    sum: V::I,
    output: Output<'_>,
    at: usize,
) {
    let count = (layer.channels - channel).min(V::LANES);
    // SAFETY: the parameter arrays hold whole vectors; the output as the caller promises.
    unsafe {
        match output {
            Output::Bytes { plan, out } => {
                let range = V::byte_range(plan.low, plan.high);
                let multiplier = V::load(plan.multipliers.as_ptr().add(channel));
                let addend = V::load(plan.addends.as_ptr().add(channel));
                let y = V::fma(V::to_float(sum), multiplier, addend);
                let y = V::to_int(y);
                if count == V::LANES {
                    V::store_u8(out.add(at), y, range);
                } else {
                    V::store_u8_part(out.add(at), y, range, count);
                }
            }
            Output::Floats { out, .. } => {
                let mut sums = [0i32; 16];
                V::store_i(sums.as_mut_ptr(), sum);
                std::ptr::copy_nonoverlapping(sums.as_ptr(), out.add(at).cast(), count);
            }
        }
    }
}

/// Turns the sums left by [`store`] into the floats they stand for.
///
/// # Safety
/// `out` holds `pixels` pixels of sums.
#[inline(always)]
pub(crate) unsafe fn sums_to_floats<V: Dot>(
    layer: &Depthwise,
    quantisation: Quantisation,
    activation: Activation,
    out: *mut f32,
    pixels: usize,
) {
    with_activation!(activation, |activation| {
        // SAFETY: every access stays within the pixels and the arrays of whole vectors.
        unsafe {
            for channel in (0..layer.channels).step_by(V::LANES) {
                let count = (layer.channels - channel).min(V::LANES);
                let scale = V::load(layer.scales.as_ptr().add(channel));
                let scale = V::mul(V::splat(quantisation.scale), scale);
                let bias = V::load(layer.bias.as_ptr().add(channel));
                for pixel in 0..pixels {
                    let p = out.add(pixel * layer.channels + channel);
                    // The bits of integers pass through a float vector unchanged.
                    let sum = V::bits_to_int(load_some::<V>(p, count));
                    let y = apply::<V>(activation, V::fma(V::to_float(sum), scale, bias));
                    store_some::<V>(p, y, count);
                }
            }
        }
    });
}
