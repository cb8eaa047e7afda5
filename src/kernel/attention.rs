//! Attention of one head: `softmax(q · kᵀ · scale + mask) · v`, without the matrix of weights.

use super::activation::exp;
use super::simd::{Vector, entry_points};
use super::{Machine, Matrix, MatrixMut, Scratch};

/// Which keys a query may look at.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Mask<'a> {
    /// All of them.
    None,
    /// Those up to the query's own position; queries and keys end together, so with more keys than
    /// queries the first query already sees the surplus.
    Causal,
    /// What is given is added to each score, minus infinity to hide a key: queries × keys, or one
    /// row for all queries as a matrix of stride 0.
    Additive(Matrix<'a, f32>),
}

/// Computes one head of attention into `out`.
///
/// `q` is queries × size, `k` keys × size, `v` keys × value size, `out` queries × value size; rows
/// may lie any number of elements apart, so a head of a `[sequence, head, size]` or `[head,
/// sequence, size]` tensor is a view of it. A query that sees no key gets zeros.
///
/// The weights before normalisation have a relative error of at most 4e-7 plus that of the score,
/// which is a sum of `size` products in single precision.
///
/// # Panics
/// If dimensions disagree, or a head has no elements.
#[allow(clippy::too_many_arguments)]
pub fn attention(
    machine: Machine,
    q: Matrix<'_, f32>,
    k: Matrix<'_, f32>,
    v: Matrix<'_, f32>,
    scale: f32,
    mask: Mask<'_>,
    mut out: MatrixMut<'_, f32>,
    scratch: &mut Scratch,
) {
    machine.assert_available();
    assert!(q.columns() > 0 && q.columns() == k.columns(), "query and key sizes disagree");
    assert_eq!(k.rows(), v.rows(), "keys and values disagree");
    assert_eq!((out.rows(), out.columns()), (q.rows(), v.columns()), "output has the wrong shape");
    if let Mask::Additive(mask) = &mask {
        assert_eq!((mask.rows(), mask.columns()), (q.rows(), k.rows()), "mask has the wrong shape");
    }
    let numbers = scratch.numbers.reserve_f32(k.rows());
    // SAFETY: the machine is available, the matrices agree, the scratch holds a row of scores.
    unsafe { attention_on(machine, (&q, &k, &v), scale, &mask, &mut out, numbers) }
}

/// Replaces each row of `columns` values by its softmax.
///
/// A row of minus infinities becomes zeros.
///
/// # Panics
/// If `x` is not a whole number of rows.
pub fn softmax_rows(machine: Machine, x: &mut [f32], columns: usize) {
    machine.assert_available();
    assert!(columns > 0 && x.len().is_multiple_of(columns), "not a whole number of rows");
    for row in x.chunks_exact_mut(columns) {
        // SAFETY: the machine is available.
        unsafe { softmax_on(machine, row) }
    }
}

entry_points! {
    /// One head of attention on a machine.
    fn attention_on(qkv: (&Matrix<'_, f32>, &Matrix<'_, f32>, &Matrix<'_, f32>), scale: f32,
        mask: &Mask<'_>, out: &mut MatrixMut<'_, f32>, scores: &mut [f32]) = head;
    /// Softmax of one row on a machine.
    fn softmax_on(row: &mut [f32]) = softmax;
}

/// # Safety
/// Dimensions agree; `scores` has one element per key.
#[inline(always)]
unsafe fn head<V: Vector>(
    (q, k, v): (&Matrix<'_, f32>, &Matrix<'_, f32>, &Matrix<'_, f32>),
    scale: f32,
    mask: &Mask<'_>,
    out: &mut MatrixMut<'_, f32>,
    scores: &mut [f32],
) {
    for i in 0..q.rows() {
        let seen = match mask {
            Mask::Causal => (i + 1 + k.rows()).saturating_sub(q.rows()).min(k.rows()),
            _ => k.rows(),
        };
        let query = q.row(i);
        for (j, score) in scores[..seen].iter_mut().enumerate() {
            let sum: f32 = query.iter().zip(k.row(j)).map(|(a, b)| a * b).sum();
            *score = sum * scale;
        }
        if let Mask::Additive(mask) = mask {
            for (score, add) in scores.iter_mut().zip(mask.row(i)) {
                *score += add;
            }
        }
        // SAFETY: the machine's instructions are enabled.
        unsafe { softmax::<V>(&mut scores[..seen]) };
        let result = out.row(i);
        result.fill(0.0);
        for (j, &weight) in scores[..seen].iter().enumerate() {
            for (result, value) in result.iter_mut().zip(v.row(j)) {
                *result = weight.mul_add(*value, *result);
            }
        }
    }
}

/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn softmax<V: Vector>(row: &mut [f32]) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    if largest == f32::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    let (p, n) = (row.as_mut_ptr(), row.len());
    // SAFETY: every access stays below the row's length.
    unsafe {
        let largest = V::splat(largest);
        let mut total = 0.0;
        let mut sums = V::splat(0.0);
        let mut i = 0;
        while i < n {
            let count = (n - i).min(V::LANES);
            let e = exp::<V>(V::sub(V::load_part(p.add(i), count), largest));
            V::store_part(p.add(i), e, count);
            if count == V::LANES {
                sums = V::add(sums, e);
            } else {
                for j in 0..count {
                    total += *p.add(i + j);
                }
            }
            i += count;
        }
        let inverse = V::splat(1.0 / (total + V::sum(sums)));
        let mut i = 0;
        while i < n {
            let count = (n - i).min(V::LANES);
            V::store_part(p.add(i), V::mul(V::load_part(p.add(i), count), inverse), count);
            i += count;
        }
    }
}
