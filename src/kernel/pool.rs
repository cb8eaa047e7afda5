//! Global average pooling, channels last.

use super::simd::{Vector, entry_points};
use super::{Machine, Quantisation};

/// Most pixels of bytes that can be summed in 32 bits.
pub const MOST_PIXELS_POOLED: usize = 1 << 23;

/// The mean over all pixels of each channel. `x` is pixels × channels.
///
/// # Panics
/// If `x` is not at least one whole pixel, or `out` does not have one element per channel.
pub fn global_average(machine: Machine, x: &[f32], out: &mut [f32]) {
    machine.assert_available();
    let pixels = pixels(x.len(), out.len());
    // SAFETY: the machine is available; `x` is pixels × channels, `out` channels long.
    unsafe { average_on(machine, x.as_ptr(), (pixels, out.len()), out.as_mut_ptr()) }
}

/// The mean over all pixels of each channel of quantised bytes, as a real number.
///
/// The sum is exact.
///
/// # Panics
/// As [`global_average`], and for more than [`MOST_PIXELS_POOLED`] pixels.
pub fn global_average_static(machine: Machine, x: &[u8], input: Quantisation, out: &mut [f32]) {
    machine.assert_available();
    let pixels = pixels(x.len(), out.len());
    assert!(pixels <= MOST_PIXELS_POOLED, "too many pixels to sum in 32 bits");
    let parameters = (input.scale / pixels as f32, pixels as i32 * i32::from(input.zero_point));
    let shape = (pixels, out.len());
    // SAFETY: as in `global_average`.
    unsafe { average_bytes_on(machine, x.as_ptr(), shape, parameters, out.as_mut_ptr()) }
}

fn pixels(length: usize, channels: usize) -> usize {
    assert!(channels > 0 && length > 0 && length.is_multiple_of(channels), "not whole pixels");
    length / channels
}

entry_points! {
    /// [`global_average`] on a machine.
    fn average_on(x: *const f32, shape: (usize, usize), out: *mut f32) = average;
    /// [`global_average_static`] on a machine.
    fn average_bytes_on(x: *const u8, shape: (usize, usize), parameters: (f32, i32),
        out: *mut f32) = average_bytes;
}

/// # Safety
/// `x` holds `pixels * channels` floats, `out` `channels`.
#[inline(always)]
unsafe fn average<V: Vector>(x: *const f32, (pixels, channels): (usize, usize), out: *mut f32) {
    // SAFETY: every access stays within the pixels promised.
    unsafe {
        for channel in (0..channels).step_by(V::LANES) {
            let count = (channels - channel).min(V::LANES);
            let mut sum = V::splat(0.0);
            for pixel in 0..pixels {
                sum = V::add(sum, V::load_part(x.add(pixel * channels + channel), count));
            }
            V::store_part(out.add(channel), V::mul(sum, V::splat(1.0 / pixels as f32)), count);
        }
    }
}

/// # Safety
/// `x` holds `pixels * channels` bytes, `out` `channels` floats.
#[inline(always)]
unsafe fn average_bytes<V: Vector>(
    x: *const u8,
    (pixels, channels): (usize, usize),
    (scale, zero): (f32, i32),
    out: *mut f32,
) {
    // SAFETY: every access stays within the pixels promised.
    unsafe {
        for channel in (0..channels).step_by(V::LANES) {
            let count = (channels - channel).min(V::LANES);
            let mut sum = V::splat_i(-zero);
            for pixel in 0..pixels {
                let bytes = V::load_u8_part(x.add(pixel * channels + channel), count);
                sum = V::add_i(sum, bytes);
            }
            V::store_part(out.add(channel), V::mul(V::to_float(sum), V::splat(scale)), count);
        }
    }
}
