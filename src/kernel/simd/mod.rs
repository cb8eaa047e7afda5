//! One vector abstraction, several machines.
//!
//! An algorithm is written once as a generic `#[inline(always)]` function over [`Vector`] (32-bit
//! lanes) or [`Dot`] (8-bit dot products), and compiled once per machine inside a function that
//! enables the machine's instructions (see [`entry_points`]). The methods are unsafe for one
//! reason only: the processor must have the instructions, and pointers must be good for the
//! elements they name.

mod scalar;

pub(crate) use scalar::Scalar;

/// Vectors of `LANES` floats and of `LANES` 32-bit integers.
///
/// # Safety
/// Every method requires that the processor runs the machine's instructions, and may only be
/// called where those are enabled, so that it is inlined. Methods that take a pointer read or write
/// exactly the elements they say they do, at any alignment.
pub(crate) trait Vector: Copy {
    /// 32-bit lanes in a vector; at most 16.
    const LANES: usize;
    /// Vectors of columns in a tile of a float matrix product, by the number of registers.
    const PRODUCT_VECTORS: usize;
    /// A vector of floats.
    type F: Copy;
    /// A vector of 32-bit integers.
    type I: Copy;
    /// The ends of a range of bytes.
    type ByteRange: Copy;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::F;
    /// Loads `LANES` floats.
    unsafe fn load(p: *const f32) -> Self::F;
    /// Loads `count <= LANES` floats; other lanes are zero.
    unsafe fn load_part(p: *const f32, count: usize) -> Self::F;
    /// Stores `LANES` floats.
    unsafe fn store(p: *mut f32, v: Self::F);
    /// Stores the first `count <= LANES` lanes.
    unsafe fn store_part(p: *mut f32, v: Self::F, count: usize);
    /// `a + b`.
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`, correctly rounded.
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` with one rounding.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The smaller; unspecified where either is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// The larger; unspecified where either is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// `|a|`.
    unsafe fn abs(a: Self::F) -> Self::F;
    /// `a * 2^n` for integer-valued `n` in -126..=127.
    unsafe fn scale_by_power(a: Self::F, n: Self::F) -> Self::F;
    /// Sum of the lanes, in an order of the machine's own.
    unsafe fn sum(a: Self::F) -> f32;
    /// Smallest lane.
    unsafe fn smallest(a: Self::F) -> f32;
    /// Largest lane.
    unsafe fn largest(a: Self::F) -> f32;

    /// All lanes `x`.
    unsafe fn splat_i(x: i32) -> Self::I;
    /// Loads `LANES` integers.
    unsafe fn load_i(p: *const i32) -> Self::I;
    /// Stores `LANES` integers.
    unsafe fn store_i(p: *mut i32, v: Self::I);
    /// `a + b`, wrapping.
    unsafe fn add_i(a: Self::I, b: Self::I) -> Self::I;
    /// `a * b`, wrapping.
    unsafe fn mul_i(a: Self::I, b: Self::I) -> Self::I;
    /// Sums of the lanes of four vectors, wrapping.
    unsafe fn sum_four_i(v: [Self::I; 4]) -> [i32; 4];
    /// The bits of floats, taken as integers.
    unsafe fn bits_to_int(a: Self::F) -> Self::I;
    /// To float, ties to even.
    unsafe fn to_float(a: Self::I) -> Self::F;
    /// To integer, ties to even; unspecified outside the range of i32.
    unsafe fn to_int(a: Self::F) -> Self::I;

    /// Loads `LANES` bytes, each into a lane.
    unsafe fn load_u8(p: *const u8) -> Self::I;
    /// Loads `count <= LANES` bytes, each into a lane; other lanes are zero.
    unsafe fn load_u8_part(p: *const u8, count: usize) -> Self::I;
    /// A range of bytes to clamp to.
    unsafe fn byte_range(low: u8, high: u8) -> Self::ByteRange;
    /// Stores `LANES` lanes as bytes, clamped to a range.
    unsafe fn store_u8(p: *mut u8, v: Self::I, range: Self::ByteRange);
    /// Stores the first `count <= LANES` lanes as bytes, clamped to a range.
    unsafe fn store_u8_part(p: *mut u8, v: Self::I, range: Self::ByteRange, count: usize);
    /// Stores `4 * LANES` lanes as bytes, clamped to a range.
    #[inline(always)]
    unsafe fn store_u8_four(p: *mut u8, v: [Self::I; 4], range: Self::ByteRange) {
        // SAFETY: as the caller promises.
        unsafe {
            for (i, v) in v.into_iter().enumerate() {
                Self::store_u8(p.add(i * Self::LANES), v, range);
            }
        }
    }
    /// Stores four times `LANES` lanes as bytes, clamped to a range, `stride` bytes apart.
    #[inline(always)]
    unsafe fn store_u8_rows(p: *mut u8, stride: usize, v: [Self::I; 4], range: Self::ByteRange) {
        // SAFETY: as the caller promises.
        unsafe {
            for (i, v) in v.into_iter().enumerate() {
                Self::store_u8(p.add(i * stride), v, range);
            }
        }
    }
}

/// Dot products of four unsigned activations with four signed weights in every lane.
///
/// # Safety
/// As for [`Vector`].
pub(crate) trait Dot: Vector {
    /// Inputs that lie side by side for one output channel in packed weights.
    const K_GROUP: usize;
    /// Vectors of output channels in a full panel of packed weights: 1 to 4.
    const PANEL_VECTORS: usize;
    /// Rows of a tile, for panels of 1, 2, 3 and 4 vectors.
    const TILE_ROWS: [usize; 4];
    /// What the machine subtracts from each activation: accumulators miss
    /// `OFFSET` times the sum of the weights, which is added beforehand.
    const OFFSET: i32;
    /// What [`Dot::tile`] subtracts from each activation that meets a negative weight. Where that is not
    /// [`Dot::OFFSET`], packed weights know what their accumulators lack.
    const NEGATIVE_OFFSET: i32 = Self::OFFSET;
    /// Activations made ready for [`Dot::dot`].
    type Activations: Copy;
    /// Weights made ready for [`Dot::dot`].
    type Weights: Copy;

    /// Loads four activations and repeats them in every lane.
    unsafe fn broadcast_group(p: *const u8) -> Self::Activations;
    /// Loads `4 * LANES` weights.
    unsafe fn load_weights(p: *const i8) -> Self::Weights;
    /// Loads `4 * LANES` signed bytes `s` as the activations `s + 128`.
    unsafe fn load_signed(p: *const i8) -> Self::Activations;
    /// Loads `count <= 4 * LANES` signed bytes `s`, the rest zero, as the activations `s + 128`.
    unsafe fn load_signed_part(p: *const i8, count: usize) -> Self::Activations;
    /// `accumulator + Σ (activation - OFFSET) · weight` over the four of each lane.
    unsafe fn dot(accumulator: Self::I, a: Self::Activations, w: Self::Weights) -> Self::I;

    /// Loads `4 * LANES` bytes from each of four rows and interleaves them: lane `l` of vector
    /// `v` holds the four rows' bytes number `v * LANES + l`.
    unsafe fn interleave(rows: [*const u8; 4]) -> [Self::Activations; 4];
    /// [`Dot::interleave`] of `count <= 4 * LANES` bytes a row; other lanes hold anything.
    #[inline(always)]
    unsafe fn interleave_part(rows: [*const u8; 4], count: usize) -> [Self::Activations; 4] {
        // SAFETY: the caller promises `count` readable bytes a row; copies have room for all.
        unsafe {
            let mut copies = [[0u8; 64]; 4];
            for (copy, row) in copies.iter_mut().zip(rows) {
                std::ptr::copy_nonoverlapping(row, copy.as_mut_ptr(), count.min(64));
            }
            Self::interleave([
                copies[0].as_ptr(),
                copies[1].as_ptr(),
                copies[2].as_ptr(),
                copies[3].as_ptr(),
            ])
        }
    }

    /// Multiplies `R` rows of activations, less the offsets, with one panel of `V` vectors of output
    /// channels and adds the products to the accumulators.
    ///
    /// # Safety
    /// Rows start `stride` bytes apart and are readable for `groups * K_GROUP` bytes; the panel
    /// for `groups * K_GROUP * V * LANES`.
    #[inline(always)]
    unsafe fn tile<const R: usize, const V: usize>(
        rows: *const u8,
        stride: usize,
        panel: *const i8,
        groups: usize,
        accumulators: &mut [[Self::I; V]; R],
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut panel = panel;
            let mut sums = *accumulators;
            for group in 0..groups {
                let mut weights = [Self::load_weights(panel); V];
                for (v, weights) in weights.iter_mut().enumerate().skip(1) {
                    *weights = Self::load_weights(panel.add(v * 4 * Self::LANES));
                }
                panel = panel.add(V * 4 * Self::LANES);
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = Self::broadcast_group(rows.add(r * stride + group * 4));
                    for (sum, &weights) in sums.iter_mut().zip(&weights) {
                        *sum = Self::dot(*sum, a, weights);
                    }
                }
            }
            *accumulators = sums;
        }
    }
}

/// Loads `count <= LANES` floats, quickly where that is all of them.
///
/// # Safety
/// `p` is readable for `count` floats.
#[inline(always)]
pub(crate) unsafe fn load_some<V: Vector>(p: *const f32, count: usize) -> V::F {
    // SAFETY: as the caller promises.
    unsafe { if count == V::LANES { V::load(p) } else { V::load_part(p, count) } }
}

/// Stores `count <= LANES` floats, quickly where that is all of them.
///
/// # Safety
/// `p` is writable for `count` floats.
#[inline(always)]
pub(crate) unsafe fn store_some<V: Vector>(p: *mut f32, v: V::F, count: usize) {
    // SAFETY: as the caller promises.
    unsafe { if count == V::LANES { V::store(p, v) } else { V::store_part(p, v, count) } }
}

/// Asks for the cache line of an address, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and never faults; every x86-64 processor has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1strm, [{}]", in(reg) place,
            options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = place;
}

/// Repeats a block for each index below a constant that is at most 12, written out, so that arrays
/// indexed by it stay in registers (loops over arrays are unrolled too late for that).
macro_rules! unrolled {
    ($count:expr, |$i:ident| $body:block) => {
        unrolled!(@each $count, $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@each $count:expr, $i:ident, $body:block, $($index:literal)*) => {
        $(if $index < $count {
            let $i: usize = $index;
            $body
        })*
    };
}
pub(crate) use unrolled;

/// Compiles a generic algorithm once per machine and picks one at run time.
///
/// `entry_points! { /// doc  fn name(a: A, ...) -> R = generic; }` makes
/// `unsafe fn name(machine: Machine, a: A, ...) -> R`, which calls `generic::<V>(a, ...)` with the
/// machine's instructions enabled. The caller must have checked that the machine is available.
macro_rules! entry_points {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident;)*) => {$(
        $(#[$meta])*
        ///
        /// # Safety
        /// The machine is available on this processor, and the arguments keep the promises
        /// that the generic function of this algorithm asks for.
        pub(crate) unsafe fn $name(machine: $crate::kernel::Machine, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt")]
            unsafe fn avx2($($arg: $type),*) $(-> $ret)? {
                // SAFETY: as the caller promises.
                unsafe { $generic::<$crate::kernel::x86::Avx2>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt,avxvnni")]
            unsafe fn avx_vnni($($arg: $type),*) $(-> $ret)? {
                // SAFETY: as the caller promises.
                unsafe { $generic::<$crate::kernel::x86::AvxVnni>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            unsafe fn avx512($($arg: $type),*) $(-> $ret)? {
                // SAFETY: as the caller promises.
                unsafe { $generic::<$crate::kernel::x86::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon($($arg: $type),*) $(-> $ret)? {
                // SAFETY: as the caller promises.
                unsafe { $generic::<$crate::kernel::aarch64::Neon>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            unsafe fn neon_dot($($arg: $type),*) $(-> $ret)? {
                // SAFETY: as the caller promises.
                unsafe { $generic::<$crate::kernel::aarch64::NeonDot>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod,i8mm")]
            unsafe fn neon_i8mm($($arg: $type),*) $(-> $ret)? {
                // SAFETY: as the caller promises.
                unsafe { $generic::<$crate::kernel::aarch64::NeonI8mm>($($arg),*) }
            }
            // SAFETY: the caller promises that the machine is available.
            unsafe {
                match machine {
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernel::Machine::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernel::Machine::AvxVnni => avx_vnni($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::kernel::Machine::Avx512Vnni => avx512($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::kernel::Machine::Neon => neon($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::kernel::Machine::NeonDot => neon_dot($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::kernel::Machine::NeonI8mm => neon_i8mm($($arg),*),
                    _ => $generic::<$crate::kernel::simd::Scalar>($($arg),*),
                }
            }
        }
    )*};
}
pub(crate) use entry_points;
