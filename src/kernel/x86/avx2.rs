//! The 256-bit machines: AVX2 with FMA, and the same with the AVX-VNNI dot product.

use std::arch::x86_64::*;

use super::avx2_tile::tile;
use crate::kernel::simd::{Dot, Vector};

/// AVX2 and FMA without a dot product instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2;

/// AVX2, FMA and AVX-VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AvxVnni;

/// Eight set lanes followed by eight clear ones.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// The first `count <= 8` lanes.
#[inline(always)]
unsafe fn lanes(count: usize) -> __m256i {
    _mm256_loadu_si256(MASKS.as_ptr().add(8 - count.min(8)).cast())
}

/// One vector of integers to eight bytes, clamped.
#[inline(always)]
unsafe fn pack_one(v: __m256i, range: (__m256i, __m256i)) -> u64 {
    let words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let bytes = _mm_packus_epi16(words, words);
    let (low, high) = (_mm256_castsi256_si128(range.0), _mm256_castsi256_si128(range.1));
    _mm_cvtsi128_si64(_mm_min_epu8(_mm_max_epu8(bytes, low), high)) as u64
}

/// Bytes of four rows side by side.
#[inline(always)]
unsafe fn interleave(r: [__m256i; 4]) -> [__m256i; 4] {
    // Unpacking works within 128-bit parts, so the dwords are put in their order first:
    // dword `i` of part `l` comes from dword `2 i + l`.
    let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    let r = [
        _mm256_permutevar8x32_epi32(r[0], order),
        _mm256_permutevar8x32_epi32(r[1], order),
        _mm256_permutevar8x32_epi32(r[2], order),
        _mm256_permutevar8x32_epi32(r[3], order),
    ];
    let (a, b) = (_mm256_unpacklo_epi8(r[0], r[1]), _mm256_unpackhi_epi8(r[0], r[1]));
    let (c, d) = (_mm256_unpacklo_epi8(r[2], r[3]), _mm256_unpackhi_epi8(r[2], r[3]));
    [
        _mm256_unpacklo_epi16(a, c),
        _mm256_unpackhi_epi16(a, c),
        _mm256_unpacklo_epi16(b, d),
        _mm256_unpackhi_epi16(b, d),
    ]
}

/// `count <= 32` bytes of each of four rows.
#[inline(always)]
unsafe fn load_rows(rows: [*const u8; 4], count: usize) -> [__m256i; 4] {
    [
        load_bytes(rows[0], count),
        load_bytes(rows[1], count),
        load_bytes(rows[2], count),
        load_bytes(rows[3], count),
    ]
}

/// `count <= 32` bytes, the rest zero; quick for multiples of eight.
#[inline(always)]
unsafe fn load_bytes(p: *const u8, count: usize) -> __m256i {
    match count {
        32 => _mm256_loadu_si256(p.cast()),
        24 => {
            let high = _mm_loadl_epi64(p.add(16).cast());
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(_mm_loadu_si128(p.cast())), high)
        }
        16 => _mm256_zextsi128_si256(_mm_loadu_si128(p.cast())),
        8 => _mm256_zextsi128_si256(_mm_loadl_epi64(p.cast())),
        _ => {
            let mut copy = [0u8; 32];
            std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), count.min(32));
            _mm256_loadu_si256(copy.as_ptr().cast())
        }
    }
}

/// What both 256-bit machines do alike.
macro_rules! vector {
    ($machine:ident) => {
        impl Vector for $machine {
            const LANES: usize = 8;
            const PRODUCT_VECTORS: usize = 2;
            type F = __m256;
            type I = __m256i;
            type ByteRange = (__m256i, __m256i);

            #[inline(always)]
            unsafe fn splat(x: f32) -> __m256 {
                _mm256_set1_ps(x)
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> __m256 {
                _mm256_loadu_ps(p)
            }
            #[inline(always)]
            unsafe fn load_part(p: *const f32, count: usize) -> __m256 {
                _mm256_maskload_ps(p, lanes(count))
            }
            #[inline(always)]
            unsafe fn store(p: *mut f32, v: __m256) {
                _mm256_storeu_ps(p, v)
            }
            #[inline(always)]
            unsafe fn store_part(p: *mut f32, v: __m256, count: usize) {
                _mm256_maskstore_ps(p, lanes(count), v)
            }
            #[inline(always)]
            unsafe fn add(a: __m256, b: __m256) -> __m256 {
                _mm256_add_ps(a, b)
            }
            #[inline(always)]
            unsafe fn sub(a: __m256, b: __m256) -> __m256 {
                _mm256_sub_ps(a, b)
            }
            #[inline(always)]
            unsafe fn mul(a: __m256, b: __m256) -> __m256 {
                _mm256_mul_ps(a, b)
            }
            #[inline(always)]
            unsafe fn div(a: __m256, b: __m256) -> __m256 {
                _mm256_div_ps(a, b)
            }
            #[inline(always)]
            unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
                _mm256_fmadd_ps(a, b, c)
            }
            #[inline(always)]
            unsafe fn min(a: __m256, b: __m256) -> __m256 {
                _mm256_min_ps(a, b)
            }
            #[inline(always)]
            unsafe fn max(a: __m256, b: __m256) -> __m256 {
                _mm256_max_ps(a, b)
            }
            #[inline(always)]
            unsafe fn round(a: __m256) -> __m256 {
                _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
            }
            #[inline(always)]
            unsafe fn abs(a: __m256) -> __m256 {
                _mm256_andnot_ps(_mm256_set1_ps(-0.0), a)
            }
            #[inline(always)]
            unsafe fn scale_by_power(a: __m256, n: __m256) -> __m256 {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
            }
            #[inline(always)]
            unsafe fn sum(a: __m256) -> f32 {
                let v = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
            }
            #[inline(always)]
            unsafe fn smallest(a: __m256) -> f32 {
                let v = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let v = _mm_min_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_min_ss(v, _mm_movehdup_ps(v)))
            }
            #[inline(always)]
            unsafe fn largest(a: __m256) -> f32 {
                let v = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
                let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
                _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
            }
            #[inline(always)]
            unsafe fn splat_i(x: i32) -> __m256i {
                _mm256_set1_epi32(x)
            }
            #[inline(always)]
            unsafe fn load_i(p: *const i32) -> __m256i {
                _mm256_loadu_si256(p.cast())
            }
            #[inline(always)]
            unsafe fn store_i(p: *mut i32, v: __m256i) {
                _mm256_storeu_si256(p.cast(), v)
            }
            #[inline(always)]
            unsafe fn add_i(a: __m256i, b: __m256i) -> __m256i {
                _mm256_add_epi32(a, b)
            }
            #[inline(always)]
            unsafe fn mul_i(a: __m256i, b: __m256i) -> __m256i {
                _mm256_mullo_epi32(a, b)
            }
            #[inline(always)]
            unsafe fn sum_four_i(v: [__m256i; 4]) -> [i32; 4] {
                let a = _mm256_hadd_epi32(v[0], v[1]);
                let b = _mm256_hadd_epi32(v[2], v[3]);
                // Each 128-bit part now holds a sum of each of the four vectors.
                let v = _mm256_hadd_epi32(a, b);
                let high = _mm256_extracti128_si256::<1>(v);
                let mut sums = [0; 4];
                let v = _mm_add_epi32(_mm256_castsi256_si128(v), high);
                _mm_storeu_si128(sums.as_mut_ptr().cast(), v);
                sums
            }
            #[inline(always)]
            unsafe fn bits_to_int(a: __m256) -> __m256i {
                _mm256_castps_si256(a)
            }
            #[inline(always)]
            unsafe fn to_float(a: __m256i) -> __m256 {
                _mm256_cvtepi32_ps(a)
            }
            #[inline(always)]
            unsafe fn to_int(a: __m256) -> __m256i {
                _mm256_cvtps_epi32(a)
            }
            #[inline(always)]
            unsafe fn load_u8(p: *const u8) -> __m256i {
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))
            }
            #[inline(always)]
            unsafe fn load_u8_part(p: *const u8, count: usize) -> __m256i {
                let mut copy = [0u8; 8];
                std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), count.min(8));
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(copy.as_ptr().cast()))
            }
            #[inline(always)]
            unsafe fn byte_range(low: u8, high: u8) -> (__m256i, __m256i) {
                (_mm256_set1_epi8(low as i8), _mm256_set1_epi8(high as i8))
            }
            #[inline(always)]
            unsafe fn store_u8(p: *mut u8, v: __m256i, range: (__m256i, __m256i)) {
                p.cast::<u64>().write_unaligned(pack_one(v, range))
            }
            #[inline(always)]
            unsafe fn store_u8_part(
                p: *mut u8,
                v: __m256i,
                range: (__m256i, __m256i),
                count: usize,
            ) {
                let copy = pack_one(v, range).to_le_bytes();
                std::ptr::copy_nonoverlapping(copy.as_ptr(), p, count.min(8));
            }
            #[inline(always)]
            unsafe fn store_u8_four(p: *mut u8, v: [__m256i; 4], range: (__m256i, __m256i)) {
                // Packing works within 128-bit parts: vector `i`, part `l` ends at dword
                // `4 l + i`.
                let low = _mm256_packs_epi32(v[0], v[1]);
                let high = _mm256_packs_epi32(v[2], v[3]);
                let v = _mm256_packus_epi16(low, high);
                let v = _mm256_min_epu8(_mm256_max_epu8(v, range.0), range.1);
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                _mm256_storeu_si256(p.cast(), _mm256_permutevar8x32_epi32(v, order));
            }
        }
    };
}

vector!(Avx2);
vector!(AvxVnni);

/// Without a dot product instruction, `vpmaddubsw` multiplies bytes and adds pairs in 16 bits.
/// It would saturate at 2 · 255 · 127, so activations are shifted to -128..=127 first and their
/// sign is moved to the weight: 2 · 128 · 127 fits.
impl Dot for Avx2 {
    const K_GROUP: usize = 4;
    const PANEL_VECTORS: usize = 2;
    const TILE_ROWS: [usize; 4] = [8, 4, 1, 1];
    const OFFSET: i32 = 128;
    const NEGATIVE_OFFSET: i32 = 127;
    /// The shifted activations and their magnitudes.
    type Activations = (__m256i, __m256i);
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn broadcast_group(p: *const u8) -> (__m256i, __m256i) {
        shifted(_mm256_set1_epi32(p.cast::<i32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> __m256i {
        _mm256_loadu_si256(p.cast())
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> (__m256i, __m256i) {
        Self::load_signed_part(p, 32)
    }
    #[inline(always)]
    unsafe fn load_signed_part(p: *const i8, count: usize) -> (__m256i, __m256i) {
        let v = load_bytes(p.cast(), count);
        (v, _mm256_abs_epi8(v))
    }
    #[inline(always)]
    unsafe fn dot(accumulator: __m256i, a: (__m256i, __m256i), w: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(a.1, _mm256_sign_epi8(w, a.0));
        _mm256_add_epi32(accumulator, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [(__m256i, __m256i); 4] {
        let v = interleave(load_rows(rows, 32));
        [shifted(v[0]), shifted(v[1]), shifted(v[2]), shifted(v[3])]
    }
    #[inline(always)]
    unsafe fn interleave_part(rows: [*const u8; 4], count: usize) -> [(__m256i, __m256i); 4] {
        let v = interleave(load_rows(rows, count));
        [shifted(v[0]), shifted(v[1]), shifted(v[2]), shifted(v[3])]
    }
    #[inline(always)]
    unsafe fn tile<const R: usize, const V: usize>(
        rows: *const u8,
        stride: usize,
        panel: *const i8,
        groups: usize,
        accumulators: &mut [[__m256i; V]; R],
    ) {
        tile(rows, stride, panel, groups, accumulators)
    }
}

/// Bytes minus 128, and the magnitudes of that.
#[inline(always)]
unsafe fn shifted(a: __m256i) -> (__m256i, __m256i) {
    let a = _mm256_xor_si256(a, _mm256_set1_epi8(i8::MIN));
    (a, _mm256_abs_epi8(a))
}

impl Dot for AvxVnni {
    const K_GROUP: usize = 4;
    const PANEL_VECTORS: usize = 2;
    const TILE_ROWS: [usize; 4] = [12, 6, 1, 1];
    const OFFSET: i32 = 0;
    type Activations = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn broadcast_group(p: *const u8) -> __m256i {
        _mm256_set1_epi32(p.cast::<i32>().read_unaligned())
    }
    #[inline(always)]
    unsafe fn load_weights(p: *const i8) -> __m256i {
        _mm256_loadu_si256(p.cast())
    }
    #[inline(always)]
    unsafe fn load_signed(p: *const i8) -> __m256i {
        Self::load_signed_part(p, 32)
    }
    #[inline(always)]
    unsafe fn load_signed_part(p: *const i8, count: usize) -> __m256i {
        _mm256_xor_si256(load_bytes(p.cast(), count), _mm256_set1_epi8(i8::MIN))
    }
    #[inline(always)]
    unsafe fn dot(accumulator: __m256i, a: __m256i, w: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(accumulator, a, w)
    }
    #[inline(always)]
    unsafe fn interleave(rows: [*const u8; 4]) -> [__m256i; 4] {
        interleave(load_rows(rows, 32))
    }
    #[inline(always)]
    unsafe fn interleave_part(rows: [*const u8; 4], count: usize) -> [__m256i; 4] {
        interleave(load_rows(rows, count))
    }
}
