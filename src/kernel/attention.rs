//! Attention of one head: `softmax(q · kᵀ · scale + mask) · v`, without the matrix of weights.
//!
//! Keys are transposed and values copied into scratch memory once; then a few queries at a time
//! get their scores, weights and results while those are in the first-level cache.

use super::product::{MOST_ROWS, product};
use super::simd::{Vector, entry_points};
use super::softmax::exponentials;
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
/// which is a sum of `size` products in single precision. A hidden key keeps a weight of at
/// most 2e-38.
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
    let lanes = machine.layout().lanes;
    let padded = [k.rows().next_multiple_of(lanes), v.columns().next_multiple_of(lanes)];
    let room = padded[0]
        .checked_mul(q.columns() + MOST_ROWS)
        .and_then(|keys| keys.checked_add(k.rows().checked_mul(padded[1])?))
        .expect("attention head is too large");
    let numbers = scratch.numbers.reserve_f32(room);
    // SAFETY: the machine is available, the matrices agree, the scratch holds transposed keys,
    // values and a few rows of scores, all padded to whole vectors.
    unsafe { attention_on(machine, (&q, &k, &v), scale, &mask, &mut out, (numbers, padded)) }
}

entry_points! {
    /// One head of attention on a machine.
    fn attention_on(qkv: (&Matrix<'_, f32>, &Matrix<'_, f32>, &Matrix<'_, f32>), scale: f32,
        mask: &Mask<'_>, out: &mut MatrixMut<'_, f32>, scratch: (&mut [f32], [usize; 2])) = head;
}

/// # Safety
/// Dimensions agree; the scratch memory has the size that [`attention`] gives it.
#[inline(always)]
unsafe fn head<V: Vector>(
    (q, k, v): (&Matrix<'_, f32>, &Matrix<'_, f32>, &Matrix<'_, f32>),
    scale: f32,
    mask: &Mask<'_>,
    out: &mut MatrixMut<'_, f32>,
    (numbers, [keys, values]): (&mut [f32], [usize; 2]),
) {
    let size = q.columns();
    let (transposed, rest) = numbers.split_at_mut(keys * size);
    let (dense, scores) = rest.split_at_mut(k.rows() * values);
    transpose_keys::<V>(k, transposed);
    for (j, row) in dense.chunks_exact_mut(values.max(1)).enumerate() {
        row[..v.columns()].copy_from_slice(v.row(j));
        row[v.columns()..].fill(0.0);
    }
    let mut first = 0;
    while first < q.rows() {
        let rows = (q.rows() - first).min(MOST_ROWS);
        let sees = |i: usize| match mask {
            Mask::Causal => (i + 1 + k.rows()).saturating_sub(q.rows()).min(k.rows()),
            _ => k.rows(),
        };
        // The last of these queries sees the most keys.
        let most = sees(first + rows - 1);
        // SAFETY: the buffers hold whole panels and rows; see `attention`.
        unsafe {
            let mut factors = [scale; MOST_ROWS];
            let queries = (q.as_ptr().add(first * q.stride()), q.stride());
            for panel in (0..most).step_by(V::PRODUCT_VECTORS * V::LANES) {
                let width = (keys - panel).min(V::PRODUCT_VECTORS * V::LANES);
                let panel_keys = (transposed.as_ptr().add(panel * size), width);
                let to = (scores.as_mut_ptr().add(panel), keys);
                product::<V>(queries, panel_keys, size, (rows, width), &factors, to);
            }
            for (r, factor) in factors[..rows].iter_mut().enumerate() {
                let seen = sees(first + r);
                let row = &mut scores[r * keys..][..most];
                row[seen..].fill(0.0);
                let add = match mask {
                    Mask::Additive(mask) => mask.row(first + r).as_ptr(),
                    _ => std::ptr::null(),
                };
                let total = exponentials::<V>(row.as_mut_ptr(), seen, add);
                *factor = if total > 0.0 { 1.0 / total } else { 0.0 };
            }
            let weights = (scores.as_ptr(), keys);
            for column in (0..v.columns()).step_by(V::PRODUCT_VECTORS * V::LANES) {
                let width = (v.columns() - column).min(V::PRODUCT_VECTORS * V::LANES);
                let panel = (dense.as_ptr().add(column), values);
                let to = (out.as_mut_ptr().add(first * out.stride() + column), out.stride());
                product::<V>(weights, panel, most, (rows, width), &factors, to);
            }
        }
        first += rows;
    }
}

/// Writes panels of keys, in each of which the keys' first elements come first, then the second
/// ones, and so on; the last panel is padded with zeros to whole vectors.
#[inline(always)]
fn transpose_keys<V: Vector>(k: &Matrix<'_, f32>, transposed: &mut [f32]) {
    let (size, keys) = (k.columns(), k.rows().next_multiple_of(V::LANES));
    for first in (0..keys).step_by(V::PRODUCT_VECTORS * V::LANES) {
        let width = (keys - first).min(V::PRODUCT_VECTORS * V::LANES);
        let panel = &mut transposed[first * size..][..width * size];
        for j in 0..width {
            if first + j < k.rows() {
                for (line, &value) in panel.chunks_exact_mut(width).zip(k.row(first + j)) {
                    line[j] = value;
                }
            } else {
                panel.chunks_exact_mut(width).for_each(|line| line[j] = 0.0);
            }
        }
    }
}
