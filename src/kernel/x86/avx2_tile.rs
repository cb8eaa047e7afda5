//! The tile of AVX2 without a dot product instruction.

use std::arch::asm;
use std::arch::x86_64::*;

/// [`crate::kernel::simd::Dot::tile`], `V` vectors of eight output channels.
///
/// `vpmaddubsw` multiplies unsigned bytes with signed ones and would saturate at 2 · 255 · 127. So the sizes of
/// the weights are its unsigned operand, and their signs go to the activations `a`: less 128, and inverted
/// where the weight is negative, they are `a - 128` and `127 - a`, both one exclusive-or away from `a`; 2 · 127
/// · 128 fits. What a weight needs for that is made once for all rows. It is inversion and not negation, so
/// that a negative weight is multiplied with `a - 127`.
///
/// # Safety
/// As for [`crate::kernel::simd::Dot::tile`]; the processor has AVX2.
#[inline(always)]
pub(super) unsafe fn tile<const R: usize, const V: usize>(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    groups: usize,
    accumulators: &mut [[__m256i; V]; R],
) {
    // SAFETY: as the caller promises; for the largest tile the arrays are of the shape that it takes.
    unsafe {
        if R == 4 && V == 2 {
            return four_by_two(rows, stride, panel, groups, accumulators.as_mut_ptr().cast());
        }
        let ones = _mm256_set1_epi16(1);
        let mut sums = *accumulators;
        let mut panel = panel.cast::<__m256i>();
        for group in 0..groups {
            let mut sizes = [_mm256_setzero_si256(); V];
            let mut flips = [_mm256_setzero_si256(); V];
            for v in 0..V {
                let weights = _mm256_loadu_si256(panel.add(v));
                let negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), weights);
                sizes[v] = _mm256_abs_epi8(weights);
                flips[v] = _mm256_xor_si256(negative, _mm256_set1_epi8(i8::MIN));
            }
            panel = panel.add(V);
            for (r, sums) in sums.iter_mut().enumerate() {
                let four = rows.add(r * stride + group * 4).cast::<i32>().read_unaligned();
                let four = _mm256_set1_epi32(four);
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = step(*sum, four, sizes[v], flips[v], ones);
                }
            }
        }
        *accumulators = sums;
    }
}

/// [`tile`] of four rows and two vectors: just as many registers as there are, so that a compiler, which
/// finds an order of its own, runs out of them.
///
/// # Safety
/// As for [`tile`]; `sums` are four rows of two vectors.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four_by_two(
    rows: *const u8,
    stride: usize,
    panel: *const i8,
    groups: usize,
    sums: *mut __m256i,
) {
    /// Adds the products of a row, of which four activations are in `{a}`, to two sums.
    macro_rules! row {
        ($at:literal, $first:literal, $second:literal) => {
            concat!(
                "vpbroadcastd {a}, dword ptr [",
                $at,
                "]\n",
                "vpxor {p}, {a}, {flip0}\n",
                "vpxor {a}, {a}, {flip1}\n",
                "vpmaddubsw {p}, {size0}, {p}\n",
                "vpmaddubsw {a}, {size1}, {a}\n",
                "vpmaddwd {p}, {p}, {ones}\n",
                "vpmaddwd {a}, {a}, {ones}\n",
                "vpaddd {",
                $first,
                "}, {",
                $first,
                "}, {p}\n",
                "vpaddd {",
                $second,
                "}, {",
                $second,
                "}, {a}",
            )
        };
    }
    if groups == 0 {
        return;
    }
    // SAFETY: `groups` times, four bytes of each of four rows and 64 of the panel are read, which the caller
    // promises can be; nothing is written but registers, and the sums, which are the caller's.
    unsafe {
        let mut s: [__m256i; 8] = std::array::from_fn(|i| *sums.add(i));
        asm!(
            "2:",
            "vmovdqu {size0}, ymmword ptr [{panel}]",
            "vmovdqu {size1}, ymmword ptr [{panel} + 32]",
            "vpxor {p}, {p}, {p}",
            "vpcmpgtb {flip0}, {p}, {size0}",
            "vpcmpgtb {flip1}, {p}, {size1}",
            "vpabsb {size0}, {size0}",
            "vpabsb {size1}, {size1}",
            "vpxor {flip0}, {flip0}, ymmword ptr [{middle}]",
            "vpxor {flip1}, {flip1}, ymmword ptr [{middle}]",
            row!("{row}", "s0", "s1"),
            row!("{row} + {stride}", "s2", "s3"),
            row!("{row} + 2 * {stride}", "s4", "s5"),
            row!("{last}", "s6", "s7"),
            "add {row}, 4",
            "add {last}, 4",
            "add {panel}, 64",
            "dec {groups}",
            "jnz 2b",
            row = inout(reg) rows => _,
            last = inout(reg) rows.add(3 * stride) => _,
            stride = in(reg) stride,
            panel = inout(reg) panel => _,
            groups = inout(reg) groups => _,
            middle = in(reg) MIDDLE.0.as_ptr(),
            ones = in(ymm_reg) _mm256_set1_epi16(1),
            a = out(ymm_reg) _,
            p = out(ymm_reg) _,
            size0 = out(ymm_reg) _,
            size1 = out(ymm_reg) _,
            flip0 = out(ymm_reg) _,
            flip1 = out(ymm_reg) _,
            s0 = inout(ymm_reg) s[0],
            s1 = inout(ymm_reg) s[1],
            s2 = inout(ymm_reg) s[2],
            s3 = inout(ymm_reg) s[3],
            s4 = inout(ymm_reg) s[4],
            s5 = inout(ymm_reg) s[5],
            s6 = inout(ymm_reg) s[6],
            s7 = inout(ymm_reg) s[7],
            options(pure, readonly, nostack),
        );
        for (i, s) in s.into_iter().enumerate() {
            *sums.add(i) = s;
        }
    }
}

/// 128 in every byte.
#[repr(align(32))]
struct Middle([u8; 32]);

static MIDDLE: Middle = Middle([128; 32]);

/// `sum + Σ size · (activation ^ flip)` over the four of each lane.
///
/// In assembly for its order: a compiler that gathers the multiplications of all rows needs more registers
/// than there are.
///
/// # Safety
/// The processor has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn step(
    sum: __m256i,
    activations: __m256i,
    size: __m256i,
    flip: __m256i,
    ones: __m256i,
) -> __m256i {
    let mut sum = sum;
    // SAFETY: the instructions touch registers only.
    unsafe {
        asm!(
            "vpxor {products}, {activations}, {flip}",
            "vpmaddubsw {products}, {size}, {products}",
            "vpmaddwd {products}, {products}, {ones}",
            "vpaddd {sum}, {sum}, {products}",
            products = out(ymm_reg) _,
            activations = in(ymm_reg) activations,
            flip = in(ymm_reg) flip,
            size = in(ymm_reg) size,
            ones = in(ymm_reg) ones,
            sum = inout(ymm_reg) sum,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}
