//! AVX-512 with VNNI: 16 lanes, 32 registers, `vpdpbusd`.

use std::arch::x86_64::*;

use crate::kernel::simd::{Dot, Vector};

/// The 512-bit machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512;

/// The first `count <= 16` lanes.
#[inline(always)]
fn lanes(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as u16
}

/// The first `count <= 64` bytes.
#[inline(always)]
fn bytes(count: usize) -> __mmask64 {
    if count >= 64 { u64::MAX } else { (1u64 << count) - 1 }
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const PRODUCT_VECTORS: usize = 4;
    type F = __m512;
    type I = __m512i;
    type ByteRange = ByteRange;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        _mm512_set1_ps(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        _mm512_loadu_ps(p)
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, count: usize) -> __m512 {
        _mm512_maskz_loadu_ps(lanes(count), p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        _mm512_storeu_ps(p, v)
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, v: __m512, count: usize) {
        _mm512_mask_storeu_ps(p, lanes(count), v)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        _mm512_sub_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        _mm512_div_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        _mm512_min_ps(a, b)
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        _mm512_max_ps(a, b)
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }
    #[inline(always)]
    unsafe fn abs(a: __m512) -> __m512 {
        _mm512_abs_ps(a)
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: __m512, n: __m512) -> __m512 {
        _mm512_scalef_ps(a, n)
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        _mm512_reduce_add_ps(a)
    }
    #[inline(always)]
    unsafe fn smallest(a: __m512) -> f32 {
        _mm512_reduce_min_ps(a)
    }
    #[inline(always)]
    unsafe fn largest(a: __m512) -> f32 {
        _mm512_reduce_max_ps(a)
    }
    #[inline(always)]
    unsafe fn splat_i(x: i32) -> __m512i {
        _mm512_set1_epi32(x)
    }
    #[inline(always)]
    unsafe fn load_i(p: *const i32) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn store_i(p: *mut i32, v: __m512i) {
        _mm512_storeu_si512(p.cast(), v)
    }
    #[inline(always)]
    unsafe fn add_i(a: __m512i, b: __m512i) -> __m512i {
        _mm512_add_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn mul_i(a: __m512i, b: __m512i) -> __m512i {
        _mm512_mullo_epi32(a, b)
    }
    #[inline(always)]
    unsafe fn sum_four_i(v: [__m512i; 4]) -> [i32; 4] {
        let a =
            _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        let b =
            _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        // Each 128-bit part now holds a sum of each of the four vectors.
        let v = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let high = _mm512_extracti64x4_epi64::<1>(v);
        let v = _mm256_add_epi32(_mm512_castsi512_si256(v), high);
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let mut sums = [0; 4];
        _mm_storeu_si128(sums.as_mut_ptr().cast(), v);
        sums
    }
    #[inline(always)]
    unsafe fn bits_to_int(a: __m512) -> __m512i {
        _mm512_castps_si512(a)
    }
    #[inline(always)]
    unsafe fn to_float(a: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(a)
    }
    #[inline(always)]
    unsafe fn to_int(a: __m512) -> __m512i {
        _mm512_cvtps_epi32(a)
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))
    }
    #[inline(always)]
    unsafe fn load_u8_part(p: *const u8, count: usize) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes(count), p.cast()))
    }
    #[inline(always)]
    unsafe fn byte_range(low: u8, high: u8) -> ByteRange {
        ByteRange {
            low: _mm512_set1_epi32(i32::from(low)),
            high: _mm512_set1_epi32(i32::from(high)),
            low_bytes: _mm512_set1_epi8(low as i8),
            high_bytes: _mm512_set1_epi8(high as i8),
        }
    }
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: __m512i, range: ByteRange) {
        let v = _mm512_min_epi32(_mm512_max_epi32(v, range.low), range.high);
        _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(v));
    }
    #[inline(always)]
    unsafe fn store_u8_part(p: *mut u8, v: __m512i, range: ByteRange, count: usize) {
        let v = _mm512_min_epi32(_mm512_max_epi32(v, range.low), range.high);
        _mm_mask_storeu_epi8(p.cast(), lanes(count), _mm512_cvtepi32_epi8(v));
    }
    #[inline(always)]
    unsafe fn store_u8_four(p: *mut u8, v: [__m512i; 4], range: ByteRange) {
        // Packing works within 128-bit parts: vector `i`, part `l` ends at dword `4 l + i`.
        let low = _mm512_packs_epi32(v[0], v[1]);
        let high = _mm512_packs_epi32(v[2], v[3]);
        let v = _mm512_packus_epi16(low, high);
        let v = _mm512_min_epu8(_mm512_max_epu8(v, range.low_bytes), range.high_bytes);
        _mm512_storeu_si512(p.cast(), _mm512_permutexvar_epi32(transposed(), v));
    }
}

/// The ends of a range, for integers and for bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteRange {
    low: __m512i,
    high: __m512i,
    low_bytes: __m512i,
    high_bytes: __m512i,
}

impl Dot for Avx512 {
    const K_GROUP: usize = 4;
    const PANEL_VECTORS: usize = 4;
    const TILE_ROWS: [usize; 4] = [12, 12, 8, 6];
    const OFFSET: i32 = 0;
    type Activations = __m512i;
    type Weights = __m512i;

    #[inline(always)]
    unsafe fn broadcast_group(p: *const u8) -> __m512i {
        _mm512_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> __m512i {
        _mm512_loadu_si512(p.cast())
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> __m512i {
        _mm512_xor_si512(_mm512_loadu_si512(p.cast()), _mm512_set1_epi8(i8::MIN))
    }
    #[inline(always)]
    unsafe fn load_signed_part(p: *const i8, count: usize) -> __m512i {
        let v = _mm512_maskz_loadu_epi8(bytes(count), p);
        _mm512_xor_si512(v, _mm512_set1_epi8(i8::MIN))
    }
    #[inline(always)]
    unsafe fn dot(accumulator: __m512i, a: __m512i, w: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(accumulator, a, w)
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [__m512i; 4] {
        interleave([
            _mm512_loadu_si512(rows[0].cast()),
            _mm512_loadu_si512(rows[1].cast()),
            _mm512_loadu_si512(rows[2].cast()),
            _mm512_loadu_si512(rows[3].cast()),
        ])
    }
    #[inline(always)]
    unsafe fn interleave_part(rows: [*const u8; 4], count: usize) -> [__m512i; 4] {
        let mask = bytes(count);
        interleave([
            _mm512_maskz_loadu_epi8(mask, rows[0].cast()),
            _mm512_maskz_loadu_epi8(mask, rows[1].cast()),
            _mm512_maskz_loadu_epi8(mask, rows[2].cast()),
            _mm512_maskz_loadu_epi8(mask, rows[3].cast()),
        ])
    }
}

/// The order of dwords that turns rows of four parts into columns, and back.
#[inline(always)]
unsafe fn transposed() -> __m512i {
    _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
}

/// Bytes of four rows side by side.
#[inline(always)]
unsafe fn interleave(r: [__m512i; 4]) -> [__m512i; 4] {
    // Unpacking works within 128-bit parts, so the parts are transposed first.
    let order = transposed();
    let r = [
        _mm512_permutexvar_epi32(order, r[0]),
        _mm512_permutexvar_epi32(order, r[1]),
        _mm512_permutexvar_epi32(order, r[2]),
        _mm512_permutexvar_epi32(order, r[3]),
    ];
    let (a, b) = (_mm512_unpacklo_epi8(r[0], r[1]), _mm512_unpackhi_epi8(r[0], r[1]));
    let (c, d) = (_mm512_unpacklo_epi8(r[2], r[3]), _mm512_unpackhi_epi8(r[2], r[3]));
    [
        _mm512_unpacklo_epi16(a, c),
        _mm512_unpackhi_epi16(a, c),
        _mm512_unpacklo_epi16(b, d),
        _mm512_unpackhi_epi16(b, d),
    ]
}
