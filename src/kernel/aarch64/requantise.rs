//! Sums to bytes, sixteen channels at a time, as [`Requantisation`] says; and to floats.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::kernel::Requantisation;
use crate::kernel::simd::unrolled;

/// What becomes of the sums of `V` vectors of channels. If `PLAIN`, they are sixteen, there is no residual, and
/// the plan takes all bytes.
pub(super) struct Finish<const V: usize, const PLAIN: bool> {
    multipliers: [float32x4_t; V],
    addends: *const f32,
    ratio: float32x4_t,
    low: uint8x16_t,
    high: uint8x16_t,
    /// Channels to store.
    channels: usize,
}

impl<const V: usize, const PLAIN: bool> Finish<V, PLAIN> {
    /// Of so many channels or, if they are more, those of `V` vectors, from `channel` on.
    ///
    /// # Safety
    /// The plan's arrays hold `V` vectors from `channel` on.
    #[inline(always)]
    pub(super) unsafe fn new(plan: &Requantisation, channel: usize, channels: usize) -> Self {
        // SAFETY: as the caller promises.
        unsafe {
            let multipliers = plan.multipliers.as_ptr().add(channel);
            Self {
                multipliers: std::array::from_fn(|v| vld1q_f32(multipliers.add(v * 4))),
                addends: plan.addends.as_ptr().add(channel),
                ratio: vdupq_n_f32(plan.residual.unwrap_or(0.0)),
                low: vdupq_n_u8(plan.low),
                high: vdupq_n_u8(plan.high),
                channels: channels.min(V * 4),
            }
        }
    }

    /// Stores the sums of one pixel or row as bytes.
    ///
    /// # Safety
    /// `to`, and the residual if there is one, hold the channels.
    #[inline(always)]
    pub(super) unsafe fn store(
        &self,
        sums: [int32x4_t; V],
        to: *mut u8,
        residual: Option<*const u8>,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            let mut y = load_addends::<V>(self.addends);
            unrolled!(V, |v| {
                y[v] = vfmaq_f32(y[v], vcvtq_f32_s32(sums[v]), self.multipliers[v]);
            });
            if let Some(residual) = residual
                && !PLAIN
            {
                let bytes = widen(load_some(residual, self.channels));
                unrolled!(V, |v| { y[v] = vfmaq_f32(y[v], bytes[v % 4], self.ratio) });
            }
            let mut rounded = [vdupq_n_s32(0); 4];
            unrolled!(V, |v| { rounded[v % 4] = vcvtnq_s32_f32(y[v]) });
            let [a, b, c, d] = rounded;
            let low = vqmovn_u16(vqmovun_high_s32(vqmovun_s32(a), b));
            let mut bytes = vqmovn_high_u16(low, vqmovun_high_s32(vqmovun_s32(c), d));
            if !PLAIN {
                bytes = vminq_u8(vmaxq_u8(bytes, self.low), self.high);
            }
            match self.channels {
                _ if PLAIN => vst1q_u8(to, bytes),
                16 => vst1q_u8(to, bytes),
                8 => vst1_u8(to, vget_low_u8(bytes)),
                channels => {
                    let mut copy = [0; 16];
                    vst1q_u8(copy.as_mut_ptr(), bytes);
                    std::ptr::copy_nonoverlapping(copy.as_ptr(), to, channels);
                }
            }
        }
    }
}

/// What becomes of the sums of sixteen channels that are to be floats.
pub(super) struct Floats<'a> {
    scales: [float32x4_t; 4],
    bias: &'a [f32],
    low: float32x4_t,
    high: float32x4_t,
}

impl<'a> Floats<'a> {
    /// Of rows with a scale, and sixteen channels with theirs; the results are clamped to a range.
    ///
    /// # Panics
    /// If there are fewer scales or numbers of bias.
    #[inline(always)]
    pub(super) fn new(scale: f32, scales: &[f32], bias: &'a [f32], range: (f32, f32)) -> Self {
        let (scales, bias) = (&scales[..16], &bias[..16]);
        // SAFETY: NEON is always there; sixteen scales were found.
        unsafe {
            let scale_of = |v: usize| vmulq_n_f32(vld1q_f32(scales.as_ptr().add(v * 4)), scale);
            let (low, high) = (vdupq_n_f32(range.0), vdupq_n_f32(range.1));
            Self { scales: std::array::from_fn(scale_of), bias, low, high }
        }
    }

    /// Stores the sums of a row as floats.
    ///
    /// # Safety
    /// `to` is writable for sixteen.
    #[inline(always)]
    pub(super) unsafe fn store(&self, sums: [int32x4_t; 4], to: *mut f32) {
        // SAFETY: as the caller promises; there are sixteen numbers of bias.
        unsafe {
            let bias = load_addends::<4>(self.bias.as_ptr());
            unrolled!(4, |v| {
                let y = vfmaq_f32(bias[v], vcvtq_f32_s32(sums[v]), self.scales[v]);
                vst1q_f32(to.add(v * 4), vminq_f32(vmaxq_f32(y, self.low), self.high));
            });
        }
    }
}

/// Loads `V` vectors of addends, where sums are then added. (An instruction that is not the compiler's to
/// move: it would load them once and copy them for every row.)
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn load_addends<const V: usize>(from: *const f32) -> [float32x4_t; V] {
    // SAFETY: as the caller promises; nothing is written.
    unsafe {
        if V < 4 {
            return std::array::from_fn(|v| vld1q_f32(from.add(v * 4)));
        }
        let (a, b, c, d): (float32x4_t, float32x4_t, float32x4_t, float32x4_t);
        asm!(
            "ld1 {{v0.4s, v1.4s, v2.4s, v3.4s}}, [{from}]",
            from = in(reg) from,
            out("v0") a, out("v1") b, out("v2") c, out("v3") d,
            options(readonly, nostack, preserves_flags),
        );
        let all = [a, b, c, d];
        std::array::from_fn(|v| all[v % 4])
    }
}

/// Loads up to sixteen bytes; the others are zero.
///
/// # Safety
/// As many bytes are readable.
#[inline(always)]
unsafe fn load_some(from: *const u8, count: usize) -> uint8x16_t {
    // SAFETY: as the caller promises; the copy has room for sixteen.
    unsafe {
        match count {
            16 => vld1q_u8(from),
            8 => vcombine_u8(vld1_u8(from), vdup_n_u8(0)),
            _ => {
                let mut copy = [0; 16];
                std::ptr::copy_nonoverlapping(from, copy.as_mut_ptr(), count);
                vld1q_u8(copy.as_ptr())
            }
        }
    }
}

/// Sixteen bytes as floats.
///
/// # Safety
/// None beyond NEON, which every aarch64 processor has.
#[inline(always)]
unsafe fn widen(bytes: uint8x16_t) -> [float32x4_t; 4] {
    // SAFETY: NEON is always there.
    unsafe {
        let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
        [
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
            vcvtq_f32_u32(vmovl_high_u16(low)),
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
            vcvtq_f32_u32(vmovl_high_u16(high)),
        ]
    }
}
