//! The reference machine: vectors of four lanes in portable Rust.

use super::{Dot, Vector};

/// Lanes of the reference machine: more than one, so that the reference meets partial vectors.
const N: usize = 4;

/// The reference machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map<T: Copy, U: Copy + Default>(a: [T; N], f: impl Fn(T) -> U) -> [U; N] {
    let mut out = [U::default(); N];
    for (out, a) in out.iter_mut().zip(a) {
        *out = f(a);
    }
    out
}

#[inline(always)]
fn zip<T: Copy + Default>(a: [T; N], b: [T; N], f: impl Fn(T, T) -> T) -> [T; N] {
    let mut out = [T::default(); N];
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
    out
}

impl Vector for Scalar {
    const LANES: usize = N;
    const PRODUCT_VECTORS: usize = 2;
    type F = [f32; N];
    type I = [i32; N];
    type ByteRange = (u8, u8);

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; N] {
        // SAFETY: the caller promises N readable floats.
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, count: usize) -> [f32; N] {
        let mut out = [0.0; N];
        // SAFETY: the caller promises `count <= N` readable floats.
        unsafe { std::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), count.min(N)) };
        out
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; N]) {
        // SAFETY: the caller promises N writable floats.
        unsafe { p.cast::<[f32; N]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: [f32; N], count: usize) {
        // SAFETY: the caller promises `count <= N` writable floats.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, count.min(N)) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        let mut out = [0.0; N];
        for i in 0..N {
            out[i] = a[i].mul_add(b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(a: [f32; N]) -> [f32; N] {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn abs(a: [f32; N]) -> [f32; N] {
        map(a, f32::abs)
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: [f32; N], n: [f32; N]) -> [f32; N] {
        zip(a, n, |a, n| a * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; N]) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    unsafe fn smallest(a: [f32; N]) -> f32 {
        a.into_iter().fold(a[0], |m, x| if x < m { x } else { m })
    }
    #[inline(always)]
    unsafe fn largest(a: [f32; N]) -> f32 {
        a.into_iter().fold(a[0], |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    unsafe fn splat_i(x: i32) -> [i32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> [i32; N] {
        // SAFETY: the caller promises N readable integers.
        unsafe { p.cast::<[i32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i(p: *mut i32, v: [i32; N]) {
        // SAFETY: the caller promises N writable integers.
        unsafe { p.cast::<[i32; N]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add_i(a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn mul_i(a: [i32; N], b: [i32; N]) -> [i32; N] {
        zip(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn sum_four_i(v: [[i32; N]; 4]) -> [i32; 4] {
        v.map(|v| v.into_iter().fold(0, i32::wrapping_add))
    }
    #[inline(always)]
    unsafe fn bits_to_int(a: [f32; N]) -> [i32; N] {
        map(a, |a| a.to_bits() as i32)
    }
    #[inline(always)]
    unsafe fn to_float(a: [i32; N]) -> [f32; N] {
        map(a, |a| a as f32)
    }
    #[inline(always)]
    unsafe fn to_int(a: [f32; N]) -> [i32; N] {
        map(a, |a| a.round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> [i32; N] {
        // SAFETY: the caller promises N readable bytes.
        map(unsafe { p.cast::<[u8; N]>().read_unaligned() }, i32::from)
    }
    #[inline(always)]
    unsafe fn load_u8_part(p: *const u8, count: usize) -> [i32; N] {
        let mut bytes = [0; N];
        // SAFETY: the caller promises `count <= N` readable bytes.
        unsafe { std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), count.min(N)) };
        map(bytes, i32::from)
    }
    #[inline(always)]
    unsafe fn byte_range(low: u8, high: u8) -> (u8, u8) {
        (low, high)
    }
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: [i32; N], range: (u8, u8)) {
        // SAFETY: the caller promises N writable bytes.
        unsafe { Self::store_u8_part(p, v, range, N) }
    }
    #[inline(always)]
    unsafe fn store_u8_part(p: *mut u8, v: [i32; N], (low, high): (u8, u8), count: usize) {
        let bytes = map(v, |v| v.clamp(i32::from(low), i32::from(high)) as u8);
        // SAFETY: the caller promises `count <= N` writable bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, count.min(N)) }
    }
}

impl Dot for Scalar {
    const K_GROUP: usize = 4;
    const PANEL_VECTORS: usize = 2;
    const TILE_ROWS: [usize; 4] = [4, 2, 1, 1];
    const OFFSET: i32 = 0;
    type Activations = [[u8; 4]; N];
    type Weights = [[i8; 4]; N];

    #[inline(always)]
    unsafe fn broadcast_group(p: *const u8) -> [[u8; 4]; N] {
        // SAFETY: the caller promises four readable bytes.
        [unsafe { p.cast::<[u8; 4]>().read_unaligned() }; N]
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> [[i8; 4]; N] {
        // SAFETY: the caller promises 4 * N readable weights.
        unsafe { p.cast::<[[i8; 4]; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> [[u8; 4]; N] {
        // SAFETY: as the caller promises.
        unsafe { Self::load_signed_part(p, 4 * N) }
    }
    #[inline(always)]
    unsafe fn load_signed_part(p: *const i8, count: usize) -> [[u8; 4]; N] {
        let mut bytes = [0i8; 4 * N];
        // SAFETY: the caller promises `count <= 4 * N` readable bytes.
        unsafe { std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), count.min(4 * N)) };
        let mut out = [[0; 4]; N];
        for (out, byte) in out.as_flattened_mut().iter_mut().zip(bytes) {
            *out = (byte as u8) ^ 0x80;
        }
        out
    }
    #[inline(always)]
    unsafe fn dot(mut sum: [i32; N], a: [[u8; 4]; N], w: [[i8; 4]; N]) -> [i32; N] {
        for (sum, (a, w)) in sum.iter_mut().zip(a.iter().zip(&w)) {
            for (&a, &w) in a.iter().zip(w) {
                *sum = sum.wrapping_add(i32::from(a) * i32::from(w));
            }
        }
        sum
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [[[u8; 4]; N]; 4] {
        let mut out = [[[0; 4]; N]; 4];
        for (r, row) in rows.into_iter().enumerate() {
            // SAFETY: the caller promises 4 * N readable bytes in each row.
            let bytes = unsafe { row.cast::<[u8; 4 * N]>().read_unaligned() };
            for (channel, byte) in bytes.into_iter().enumerate() {
                out[channel / N][channel % N][r] = byte;
            }
        }
        out
    }
}
