//! The micro kernel of float matrix products.

use super::simd::{Vector, store_some};

/// The most rows that [`product`] multiplies at a time.
pub(crate) const MOST_ROWS: usize = 6;

/// `out[r][c] = factors[r] · Σ_i a[r][i] · b[i][c]` for `rows <= MOST_ROWS` rows and `columns <=
/// PRODUCT_VECTORS * LANES` columns; matrices are given as address and stride.
///
/// # Safety
/// `a` is readable for `rows` rows of `depth`; `b` for `depth` rows of `columns` rounded up to whole
/// vectors; `out` is writable for `rows` rows of `columns`.
#[inline(always)]
pub(crate) unsafe fn product<V: Vector>(
    a: (*const f32, usize),
    b: (*const f32, usize),
    depth: usize,
    (rows, columns): (usize, usize),
    factors: &[f32; MOST_ROWS],
    out: (*mut f32, usize),
) {
    macro_rules! rows {
        ($vectors:literal) => {
            match rows {
                1 => tile::<V, 1, $vectors>(a, b, depth, columns, factors, out),
                2 => tile::<V, 2, $vectors>(a, b, depth, columns, factors, out),
                3 => tile::<V, 3, $vectors>(a, b, depth, columns, factors, out),
                4 => tile::<V, 4, $vectors>(a, b, depth, columns, factors, out),
                5 => tile::<V, 5, $vectors>(a, b, depth, columns, factors, out),
                _ => tile::<V, 6, $vectors>(a, b, depth, columns, factors, out),
            }
        };
    }
    debug_assert!((1..=MOST_ROWS).contains(&rows));
    let vectors = columns.div_ceil(V::LANES);
    debug_assert!((1..=V::PRODUCT_VECTORS).contains(&vectors));
    // SAFETY: as the caller promises.
    unsafe {
        if V::PRODUCT_VECTORS > 3 && vectors == 4 {
            rows!(4);
        } else if V::PRODUCT_VECTORS > 2 && vectors == 3 {
            rows!(3);
        } else if V::PRODUCT_VECTORS > 1 && vectors == 2 {
            rows!(2);
        } else {
            rows!(1);
        }
    }
}

/// # Safety
/// As for [`product`], with `R` rows and `N` vectors of columns.
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const N: usize>(
    (a, a_stride): (*const f32, usize),
    (b, b_stride): (*const f32, usize),
    depth: usize,
    columns: usize,
    factors: &[f32; MOST_ROWS],
    (out, stride): (*mut f32, usize),
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); N]; R];
        for i in 0..depth {
            let mut line = [V::splat(0.0); N];
            for (n, line) in line.iter_mut().enumerate() {
                *line = V::load(b.add(i * b_stride + n * V::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = V::splat(*a.add(r * a_stride + i));
                for (sum, &line) in sums.iter_mut().zip(&line) {
                    *sum = V::fma(factor, line, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let factor = V::splat(factors[r]);
            for (n, &sum) in sums.iter().enumerate() {
                let count = (columns - n * V::LANES).min(V::LANES);
                let to = out.add(r * stride + n * V::LANES);
                store_some::<V>(to, V::mul(sum, factor), count);
            }
        }
    }
}
