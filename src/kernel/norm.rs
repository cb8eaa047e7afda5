//! Layer normalisation, length normalisation, sums and means of floats.

use super::Machine;
use super::simd::{Vector, entry_points, load_some, store_some};

/// Layer normalisation of each row: `(x - mean) / √(variance + epsilon) · gamma + beta`.
///
/// The variance is that of the whole row (divided by its length), computed from the differences to
/// the mean in a second pass. Gamma defaults to ones, beta to zeros. The row length is `columns`.
///
/// # Panics
/// If lengths disagree.
pub fn layer_norm(
    machine: Machine,
    x: &[f32],
    columns: usize,
    gamma: Option<&[f32]>,
    beta: Option<&[f32]>,
    epsilon: f32,
    out: &mut [f32],
) {
    machine.assert_available();
    assert!(columns > 0 && x.len().is_multiple_of(columns), "not a whole number of rows");
    assert_eq!(x.len(), out.len(), "output has the wrong length");
    assert!(gamma.is_none_or(|g| g.len() == columns), "gamma has the wrong length");
    assert!(beta.is_none_or(|b| b.len() == columns), "beta has the wrong length");
    let gamma = gamma.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let beta = beta.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let shape = (x.len() / columns, columns);
    // SAFETY: the machine is available, and all lengths were checked.
    unsafe { layer_norm_on(machine, x.as_ptr(), shape, (gamma, beta), epsilon, out.as_mut_ptr()) }
}

/// Divides each row of `columns` values by its Euclidean length, if that is not zero.
///
/// # Panics
/// If `x` is not a whole number of rows.
pub fn l2_normalise_rows(machine: Machine, x: &mut [f32], columns: usize) {
    machine.assert_available();
    assert!(columns > 0 && x.len().is_multiple_of(columns), "not a whole number of rows");
    // SAFETY: the machine is available, and `x` is whole rows.
    unsafe { l2_on(machine, x.as_mut_ptr(), (x.len() / columns, columns)) }
}

/// `out += x`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn add_assign(machine: Machine, out: &mut [f32], x: &[f32]) {
    machine.assert_available();
    assert_eq!(x.len(), out.len(), "lengths differ");
    // SAFETY: the machine is available, and both slices have the length given.
    unsafe { add_on(machine, out.as_mut_ptr(), x.as_ptr(), x.len()) }
}

entry_points! {
    /// [`layer_norm`] on a machine.
    fn layer_norm_on(x: *const f32, shape: (usize, usize), gamma_beta: (*const f32, *const f32),
        epsilon: f32, out: *mut f32) = layer_norm_rows;
    /// [`l2_normalise_rows`] on a machine.
    fn l2_on(x: *mut f32, shape: (usize, usize)) = l2_rows;
    /// [`add_assign`] on a machine.
    fn add_on(out: *mut f32, x: *const f32, count: usize) = add_all;
}

/// # Safety
/// `x` and `out` hold `rows * columns` floats, `gamma` and `beta` `columns` unless null.
#[inline(always)]
unsafe fn layer_norm_rows<V: Vector>(
    x: *const f32,
    (rows, columns): (usize, usize),
    (gamma, beta): (*const f32, *const f32),
    epsilon: f32,
    out: *mut f32,
) {
    // SAFETY: every access stays within the rows promised.
    unsafe {
        for row in 0..rows {
            let (x, out) = (x.add(row * columns), out.add(row * columns));
            let total = sum_of::<V>(x, columns, None);
            let mean = total / columns as f32;
            let square = sum_of::<V>(x, columns, Some(mean));
            let mean = V::splat(mean);
            let inverse = V::splat(1.0 / (square / columns as f32 + epsilon).sqrt());
            let mut i = 0;
            while i < columns {
                let count = (columns - i).min(V::LANES);
                let mut y = V::mul(V::sub(load_some::<V>(x.add(i), count), mean), inverse);
                if !gamma.is_null() {
                    y = V::mul(y, load_some::<V>(gamma.add(i), count));
                }
                if !beta.is_null() {
                    y = V::add(y, load_some::<V>(beta.add(i), count));
                }
                if count == V::LANES {
                    V::store(out.add(i), y);
                } else {
                    V::store_part(out.add(i), y, count);
                }
                i += count;
            }
        }
    }
}

/// The sum of all elements, or that of the squares of their differences to a mean.
///
/// # Safety
/// `x` holds `count` floats.
#[inline(always)]
unsafe fn sum_of<V: Vector>(x: *const f32, count: usize, mean: Option<f32>) -> f32 {
    // SAFETY: every access stays below `count`.
    unsafe {
        let centre = V::splat(mean.unwrap_or(0.0));
        let term = |sum: V::F, v: V::F| -> V::F {
            if mean.is_some() {
                let d = V::sub(v, centre);
                V::fma(d, d, sum)
            } else {
                V::add(sum, v)
            }
        };
        let [mut a, mut b, mut c, mut d] = [V::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * V::LANES <= count {
            a = term(a, V::load(x.add(i)));
            b = term(b, V::load(x.add(i + V::LANES)));
            c = term(c, V::load(x.add(i + 2 * V::LANES)));
            d = term(d, V::load(x.add(i + 3 * V::LANES)));
            i += 4 * V::LANES;
        }
        while i + V::LANES <= count {
            a = term(a, V::load(x.add(i)));
            i += V::LANES;
        }
        let mut sum = V::sum(V::add(V::add(a, b), V::add(c, d)));
        for i in i..count {
            let x = *x.add(i);
            sum += mean.map_or(x, |mean| (x - mean) * (x - mean));
        }
        sum
    }
}

/// # Safety
/// `x` holds `rows * columns` floats.
#[inline(always)]
unsafe fn l2_rows<V: Vector>(x: *mut f32, (rows, columns): (usize, usize)) {
    // SAFETY: every access stays within the rows promised.
    unsafe {
        for row in 0..rows {
            let x = x.add(row * columns);
            let mut squares = V::splat(0.0);
            for i in (0..columns).step_by(V::LANES) {
                let v = load_some::<V>(x.add(i), (columns - i).min(V::LANES));
                squares = V::fma(v, v, squares);
            }
            let length = V::sum(squares).sqrt();
            if length > 0.0 {
                let inverse = V::splat(1.0 / length);
                for i in (0..columns).step_by(V::LANES) {
                    let count = (columns - i).min(V::LANES);
                    let v = V::mul(load_some::<V>(x.add(i), count), inverse);
                    store_some::<V>(x.add(i), v, count);
                }
            }
        }
    }
}

/// # Safety
/// Both pointers are good for `count` floats.
#[inline(always)]
unsafe fn add_all<V: Vector>(out: *mut f32, x: *const f32, count: usize) {
    // SAFETY: every access stays below `count`.
    unsafe {
        for i in (0..count).step_by(V::LANES) {
            let n = (count - i).min(V::LANES);
            let y = V::add(load_some::<V>(out.add(i), n), load_some::<V>(x.add(i), n));
            store_some::<V>(out.add(i), y, n);
        }
    }
}
