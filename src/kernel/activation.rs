//! Activation functions, elementwise.
//!
//! Exponentials are computed as `2^n · p(f)` with a polynomial of degree 6; see [`exp`] for the
//! bound. The tests measure all bounds against 64-bit arithmetic.

use super::Machine;
use super::simd::{Vector, entry_points, unrolled};

/// A function applied to every element of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x · min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x · sigmoid(x)`, also called swish.
    Silu,
    /// `x · Φ(x)` with the normal distribution's Φ, as PyTorch's exact GELU; absolute error at most
    /// 1e-6.
    GeluErf,
    /// GELU's approximation by a hyperbolic tangent.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, the GELU of the original CLIP.
    QuickGelu,
}

impl Activation {
    /// Every activation.
    pub const ALL: [Activation; 10] = [
        Activation::None,
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Sigmoid,
        Activation::Silu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::QuickGelu,
    ];
}

/// Applies an activation to every element.
pub fn activate(machine: Machine, activation: Activation, values: &mut [f32]) {
    machine.assert_available();
    // SAFETY: the machine is available, and the pointer is good for `len` elements.
    unsafe { activate_on(machine, activation, values.as_mut_ptr(), values.len()) }
}

entry_points! {
    /// [`activate`] on a machine.
    fn activate_on(activation: Activation, p: *mut f32, count: usize) = activate_all;
}

/// Evaluates an expression with the activation as a constant: one copy for each, so that none
/// decides in its loop.
macro_rules! with_activation {
    ($activation:expr, |$constant:ident| $body:expr) => {
        with_activation!(@each $activation, $constant, $body,
            None Relu Relu6 HardSwish HardSigmoid Sigmoid Silu GeluErf GeluTanh QuickGelu)
    };
    (@each $activation:expr, $constant:ident, $body:expr, $($name:ident)*) => {
        match $activation {
            $($crate::kernel::Activation::$name => {
                let $constant = $crate::kernel::Activation::$name;
                $body
            })*
        }
    };
}
pub(crate) use with_activation;

/// # Safety
/// `p` is readable and writable for `count` floats.
#[inline(always)]
pub(crate) unsafe fn activate_all<V: Vector>(activation: Activation, p: *mut f32, count: usize) {
    // SAFETY: as the caller promises.
    with_activation!(activation, |constant| unsafe { activate_as::<V>(constant, p, count) });
}

/// [`activate_all`] with an activation that is a constant.
///
/// # Safety
/// As for [`activate_all`].
#[inline(always)]
unsafe fn activate_as<V: Vector>(activation: Activation, p: *mut f32, count: usize) {
    // SAFETY: every access stays below `count`.
    unsafe {
        let mut i = 0;
        // Short ones would be half counting otherwise.
        if matches!(activation, Activation::Relu | Activation::Relu6) {
            while i + 4 * V::LANES <= count {
                unrolled!(4, |part| {
                    let p = p.add(i + part * V::LANES);
                    V::store(p, apply::<V>(activation, V::load(p)));
                });
                i += 4 * V::LANES;
            }
        }
        while i + V::LANES <= count {
            V::store(p.add(i), apply::<V>(activation, V::load(p.add(i))));
            i += V::LANES;
        }
        if i < count {
            let v = apply::<V>(activation, V::load_part(p.add(i), count - i));
            V::store_part(p.add(i), v, count - i);
        }
    }
}

/// Applies an activation to one vector.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
pub(crate) unsafe fn apply<V: Vector>(activation: Activation, x: V::F) -> V::F {
    // SAFETY: no pointers here; the instructions are enabled by the caller.
    unsafe {
        match activation {
            Activation::None => x,
            Activation::Relu => V::max(x, V::splat(0.0)),
            Activation::Relu6 => V::min(V::max(x, V::splat(0.0)), V::splat(6.0)),
            Activation::HardSwish => V::mul(x, hard_sigmoid::<V>(x)),
            Activation::HardSigmoid => hard_sigmoid::<V>(x),
            Activation::Sigmoid => times_sigmoid::<V>(V::splat(1.0), x),
            Activation::Silu => times_sigmoid::<V>(x, x),
            Activation::GeluErf => gelu_erf::<V>(x),
            Activation::GeluTanh => gelu_tanh::<V>(x),
            Activation::QuickGelu => times_sigmoid::<V>(x, V::mul(x, V::splat(1.702))),
        }
    }
}

#[inline(always)]
unsafe fn hard_sigmoid<V: Vector>(x: V::F) -> V::F {
    // SAFETY: no pointers here.
    unsafe {
        let shifted = V::add(x, V::splat(3.0));
        let clamped = V::min(V::max(shifted, V::splat(0.0)), V::splat(6.0));
        V::mul(clamped, V::splat(1.0 / 6.0))
    }
}

/// `x / (1 + e^-y)`.
#[inline(always)]
unsafe fn times_sigmoid<V: Vector>(x: V::F, y: V::F) -> V::F {
    // SAFETY: no pointers here.
    unsafe {
        let e = exp::<V>(V::sub(V::splat(0.0), y));
        V::div(x, V::add(V::splat(1.0), e))
    }
}

/// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, which is `x · sigmoid` of twice the argument.
#[inline(always)]
unsafe fn gelu_tanh<V: Vector>(x: V::F) -> V::F {
    // SAFETY: no pointers here.
    unsafe {
        const TWICE: f32 = 1.595_769;
        let square = V::mul(x, x);
        let inner = V::fma(square, V::splat(TWICE * 0.044_715), V::splat(TWICE));
        times_sigmoid::<V>(x, V::mul(x, inner))
    }
}

/// `x · Φ(x) = max(x, 0) - |x| · Φ(-|x|)`, with a polynomial for `Φ(-m)`.
///
/// The polynomial was fitted to `erfc(m / √2) / 2` on 0..=5.2 in the variable `m / 2.6 - 1`, so that
/// the largest error of `m · Φ(-m)` is smallest (Lawson's algorithm). Beyond 5.2 `m · Φ(-m)` is
/// less than 5.3e-7 and taken as constant.
#[inline(always)]
unsafe fn gelu_erf<V: Vector>(x: V::F) -> V::F {
    const COEFFICIENTS: [f32; 15] = [
        0.005_616_689,
        0.015_139_644,
        -0.035_490_114,
        -0.011_636_662,
        0.091_105_31,
        -0.066_306_46,
        -0.083_319_11,
        0.190_443_01,
        -0.104_804_35,
        -0.109_631_32,
        0.252_864_3,
        -0.229_173_1,
        0.119_365_79,
        -0.035_315_927,
        0.004_661_198,
    ];
    // SAFETY: no pointers here.
    unsafe {
        let m = V::min(V::abs(x), V::splat(5.2));
        let t = V::fma(m, V::splat(1.0 / 2.6), V::splat(-1.0));
        let mut p = V::splat(-0.003_518_792_8);
        for c in COEFFICIENTS {
            p = V::fma(p, t, V::splat(c));
        }
        V::sub(V::max(x, V::splat(0.0)), V::mul(m, p))
    }
}

/// `e^x`: relative error at most 3e-7 for -87 <= x <= 88; below, the result stays at `e^-87`
/// (1.6e-38), above at `e^88` (1.7e38). So it is never zero, infinite or subnormal.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V::F) -> V::F {
    // SAFETY: no pointers here.
    unsafe {
        let x = V::max(V::min(x, V::splat(88.0)), V::splat(-87.0));
        let n = V::round(V::mul(x, V::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts: the first has few bits, so that n · HIGH is exact.
        let f = V::fma(n, V::splat(-0.693_359_4), x);
        let f = V::fma(n, V::splat(2.121_944_4e-4), f);
        let mut p = V::splat(1.0 / 720.0);
        for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = V::fma(p, f, V::splat(c));
        }
        V::scale_by_power(p, n)
    }
}
