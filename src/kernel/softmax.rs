//! Softmax of rows.

use super::Machine;
use super::activation::exp;
use super::simd::{Vector, entry_points, load_some, store_some};

/// Replaces each row of `columns` values by its softmax.
///
/// A row of minus infinities becomes zeros. The relative error of an element that is not smaller
/// than 1e-37 is at most 1e-6, and 6e-8 more for each unit that its score lies below the largest (the
/// rounding of that difference).
///
/// # Panics
/// If `x` is not a whole number of rows.
pub fn softmax_rows(machine: Machine, x: &mut [f32], columns: usize) {
    machine.assert_available();
    assert!(columns > 0 && x.len().is_multiple_of(columns), "not a whole number of rows");
    // SAFETY: the machine is available, and `x` is whole rows.
    unsafe { softmax_on(machine, x.as_mut_ptr(), (x.len() / columns, columns)) }
}

entry_points! {
    /// [`softmax_rows`] on a machine.
    fn softmax_on(x: *mut f32, shape: (usize, usize)) = softmax;
}

/// # Safety
/// `x` holds `rows * columns` floats.
#[inline(always)]
unsafe fn softmax<V: Vector>(x: *mut f32, (rows, columns): (usize, usize)) {
    // SAFETY: every access stays within the rows promised.
    unsafe {
        for row in 0..rows {
            let x = x.add(row * columns);
            let total = exponentials::<V>(x, columns, std::ptr::null());
            let inverse = V::splat(if total > 0.0 { 1.0 / total } else { 0.0 });
            for i in (0..columns).step_by(V::LANES) {
                let count = (columns - i).min(V::LANES);
                let y = V::mul(load_some::<V>(x.add(i), count), inverse);
                store_some::<V>(x.add(i), y, count);
            }
        }
    }
}

/// Replaces `count` scores by `e^(score + add - largest)` and gives their sum; where all are minus
/// infinity, by zeros, and gives zero. `add` may be null.
///
/// # Safety
/// `x` and, unless null, `add` hold `count` floats.
#[inline(always)]
pub(crate) unsafe fn exponentials<V: Vector>(x: *mut f32, count: usize, add: *const f32) -> f32 {
    // SAFETY: every access stays below `count`.
    unsafe {
        let whole = count - count % V::LANES;
        let mut largest = V::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(V::LANES) {
            let mut v = V::load(x.add(i));
            if !add.is_null() {
                v = V::add(v, V::load(add.add(i)));
                V::store(x.add(i), v);
            }
            largest = V::max(largest, v);
        }
        let mut top = V::largest(largest);
        for i in whole..count {
            if !add.is_null() {
                *x.add(i) += *add.add(i);
            }
            top = if *x.add(i) > top { *x.add(i) } else { top };
        }
        if top == f32::NEG_INFINITY {
            std::slice::from_raw_parts_mut(x, count).fill(0.0);
            return 0.0;
        }
        let largest = V::splat(top);
        let mut sums = V::splat(0.0);
        for i in (0..whole).step_by(V::LANES) {
            let e = exp::<V>(V::sub(V::load(x.add(i)), largest));
            V::store(x.add(i), e);
            sums = V::add(sums, e);
        }
        let mut total = V::sum(sums);
        let rest = count - whole;
        if rest > 0 {
            let e = exp::<V>(V::sub(V::load_part(x.add(whole), rest), largest));
            V::store_part(x.add(whole), e, rest);
            for i in whole..count {
                total += *x.add(i);
            }
        }
        total
    }
}
