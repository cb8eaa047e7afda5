//! Resampling of 8-bit pictures in fixed point, one axis at a time.
//!
//! Sums are exact in 32 bits, so all machines give the same bytes. Across, eight rows are worked on
//! at once, lane by lane: a sum over neighbours in one row would have to be added up across lanes
//! for every pixel.

use super::Machine;
use super::simd::{Vector, entry_points};

/// Fractional bits of a weight.
pub const WEIGHT_BITS: u32 = 22;

/// Rows that [`narrow_rows`] takes at once.
pub const ROWS_AT_ONCE: usize = 8;

/// Groups of so many rows that [`narrow_plane`] takes at once.
const GROUPS: usize = 4;

/// Rows that [`narrow_plane`] takes at once: a pixel has one byte there, not three.
pub const PLANE_ROWS_AT_ONCE: usize = GROUPS * ROWS_AT_ONCE;

/// What a sum starts from, so that it is rounded to the nearest.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Elements of a row that [`blend`] sums at once: as many as there are registers for.
const TOGETHER: usize = 64;

/// A byte of each of eight rows.
type Across = [u8; ROWS_AT_ONCE];

/// The source pixels, or rows, that make one of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taps {
    /// The first that counts.
    pub start: usize,
    /// The weights of it and of those after it, times two to the power of [`WEIGHT_BITS`].
    /// 255 times the sum of their magnitudes must fit 31 bits.
    pub weights: Vec<i32>,
}

impl Taps {
    /// What lies behind the last that counts.
    pub fn end(&self) -> usize {
        self.start + self.weights.len()
    }
}

/// The weighted sum of rows of bytes, rounded and clamped: `out` is one row.
///
/// Row `r` is row `r % n` of the `n` rows in `ring`, so that not all of a picture need be there.
///
/// # Panics
/// If `out` is empty, `ring` is not whole rows, at least one, or `taps` asks for more rows than
/// the ring has.
pub fn blend_rows(machine: Machine, ring: &[u8], taps: &Taps, out: &mut [u8]) {
    machine.assert_available();
    assert!(!out.is_empty() && !ring.is_empty(), "no row");
    assert!(ring.len().is_multiple_of(out.len()), "not whole rows");
    assert!(taps.weights.len() <= ring.len() / out.len(), "more rows than there are");
    // SAFETY: the machine is available.
    unsafe { blend_on(machine, ring, taps, out) }
}

/// Brings eight rows of RGB pixels to the width of `columns`.
///
/// `out` has room for one to eight rows of `3 * columns.len()` bytes; rows beyond are not kept.
/// `scratch` is room to work in, of any length.
///
/// # Panics
/// If a row is shorter than `columns` ask for, or `out` is not one to eight whole rows.
pub fn narrow_rows(
    machine: Machine,
    rows: [&[u8]; ROWS_AT_ONCE],
    columns: &[Taps],
    scratch: &mut Vec<Across>,
    out: &mut [u8],
) {
    machine.assert_available();
    let length = 3 * columns.len();
    check_rows(out, length, ROWS_AT_ONCE);
    let (start, end) = span(columns);
    // What no column asks for is not touched.
    let rows = rows.map(|row| &row[3 * start..3 * end]);
    scratch.resize(3 * (end - start) + length, Across::default());
    // SAFETY: the machine is available.
    unsafe { narrow_on(machine, rows, start, columns, scratch, out) }
}

/// The same for rows of pixels of one byte, [`PLANE_ROWS_AT_ONCE`] of them.
///
/// # Panics
/// As [`narrow_rows`].
pub fn narrow_plane(
    machine: Machine,
    rows: [&[u8]; PLANE_ROWS_AT_ONCE],
    columns: &[Taps],
    scratch: &mut Vec<Across>,
    out: &mut [u8],
) {
    machine.assert_available();
    check_rows(out, columns.len(), PLANE_ROWS_AT_ONCE);
    let (start, end) = span(columns);
    let rows = rows.map(|row| &row[start..end]);
    scratch.resize(GROUPS * (end - start + columns.len()), Across::default());
    // SAFETY: the machine is available.
    unsafe { narrow_plane_on(machine, rows, start, columns, scratch, out) }
}

fn check_rows(out: &[u8], length: usize, most: usize) {
    assert!(length > 0 && out.len().is_multiple_of(length), "not whole rows");
    assert!((1..=most).contains(&(out.len() / length)), "one to {most} rows");
}

/// The first pixel that a column asks for, and what lies behind the last.
fn span(columns: &[Taps]) -> (usize, usize) {
    let start = columns.iter().map(|taps| taps.start).min().unwrap_or(0);
    (start, columns.iter().map(Taps::end).max().unwrap_or(0))
}

entry_points! {
    /// [`blend_rows`] on a machine.
    fn blend_on(ring: &[u8], taps: &Taps, out: &mut [u8]) = blend_by;
    /// [`narrow_rows`] on a machine.
    fn narrow_on(rows: [&[u8]; ROWS_AT_ONCE], start: usize, columns: &[Taps],
        scratch: &mut [Across], out: &mut [u8]) = narrow_by;
    /// [`narrow_plane`] on a machine.
    fn narrow_plane_on(rows: [&[u8]; PLANE_ROWS_AT_ONCE], start: usize, columns: &[Taps],
        scratch: &mut [Across], out: &mut [u8]) = narrow_plane_by;
}

/// [`blend`], compiled for a machine.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn blend_by<V: Vector>(ring: &[u8], taps: &Taps, out: &mut [u8]) {
    blend(ring, taps, out);
}

/// [`narrow`], compiled for a machine.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn narrow_by<V: Vector>(
    rows: [&[u8]; ROWS_AT_ONCE],
    start: usize,
    columns: &[Taps],
    scratch: &mut [Across],
    out: &mut [u8],
) {
    narrow(rows, start, columns, scratch, out);
}

/// [`narrow_groups`], compiled for a machine.
///
/// # Safety
/// The machine's instructions are enabled.
#[inline(always)]
unsafe fn narrow_plane_by<V: Vector>(
    rows: [&[u8]; PLANE_ROWS_AT_ONCE],
    start: usize,
    columns: &[Taps],
    scratch: &mut [Across],
    out: &mut [u8],
) {
    narrow_groups(rows, start, columns, scratch, out);
}

/// The level, 0 to 255, of a sum of weighted samples.
#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[inline(always)]
fn add(sums: &mut [i32], weight: i32, values: &[u8]) {
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += weight * i32::from(value));
}

#[inline(always)]
fn blend(ring: &[u8], taps: &Taps, out: &mut [u8]) {
    let length = out.len();
    let first = taps.start % (ring.len() / length) * length;
    let (blocks, rest) = out.as_chunks_mut::<TOGETHER>();
    for (number, block) in blocks.iter_mut().enumerate() {
        let mut sums = [HALF; TOGETHER];
        let mut row = first;
        for &weight in &taps.weights {
            let values = &ring[row + number * TOGETHER..][..TOGETHER];
            add(&mut sums, weight, values);
            row = if row + length == ring.len() { 0 } else { row + length };
        }
        block.iter_mut().zip(sums).for_each(|(out, sum)| *out = level(sum));
    }
    let mut sums = [HALF; TOGETHER];
    let mut row = first;
    for &weight in &taps.weights {
        add(&mut sums, weight, &ring[row + length - rest.len()..row + length]);
        row = if row + length == ring.len() { 0 } else { row + length };
    }
    rest.iter_mut().zip(sums).for_each(|(out, sum)| *out = level(sum));
}

#[inline(always)]
fn narrow(
    rows: [&[u8]; ROWS_AT_ONCE],
    start: usize,
    columns: &[Taps],
    scratch: &mut [Across],
    out: &mut [u8],
) {
    let length = 3 * columns.len();
    let (wide, narrowed) = scratch.split_at_mut(rows[0].len());
    interleave(rows, wide);
    sum_columns::<3>(wide, start, columns, narrowed);
    separate(narrowed, length, out);
}

/// [`narrow`] of rows of single bytes, several groups of them side by side.
#[inline(always)]
fn narrow_groups(
    rows: [&[u8]; PLANE_ROWS_AT_ONCE],
    start: usize,
    columns: &[Taps],
    scratch: &mut [Across],
    out: &mut [u8],
) {
    let (wide, narrowed) = scratch.split_at_mut(GROUPS * rows[0].len());
    let (groups, _) = rows.as_chunks::<ROWS_AT_ONCE>();
    let (columns_of_groups, _) = wide.as_chunks_mut::<GROUPS>();
    for (group, rows) in groups.iter().enumerate() {
        let (blocks, rest) = columns_of_groups.as_chunks_mut::<TOGETHER>();
        let whole = blocks.len() * TOGETHER;
        for (number, block) in blocks.iter_mut().enumerate() {
            let zipped = zip::<TOGETHER>(rows.map(|row| &row[number * TOGETHER..]));
            block.iter_mut().zip(zipped).for_each(|(column, bytes)| column[group] = bytes);
        }
        for (at, column) in rest.iter_mut().enumerate() {
            column[group] = rows.map(|row| row[whole + at]);
        }
    }
    sum_columns::<GROUPS>(wide, start, columns, narrowed);
    separate_groups(narrowed, columns.len(), out);
}

/// The weighted sums of columns of `N` times eight bytes.
#[inline(always)]
fn sum_columns<const N: usize>(
    wide: &[Across],
    start: usize,
    columns: &[Taps],
    narrowed: &mut [Across],
) {
    let (wide, _) = wide.as_chunks::<N>();
    let (pixels, _) = narrowed.as_chunks_mut::<N>();
    for (taps, pixel) in columns.iter().zip(pixels) {
        let mut sums = [[HALF; ROWS_AT_ONCE]; N];
        for (values, &weight) in wide[taps.start - start..].iter().zip(&taps.weights) {
            add(sums.as_flattened_mut(), weight, values.as_flattened());
        }
        let sums = sums.as_flattened().iter();
        pixel.as_flattened_mut().iter_mut().zip(sums).for_each(|(out, &sum)| *out = level(sum));
    }
}

/// Puts the rows' bytes number `i` into `wide[i]`.
#[inline(always)]
fn interleave(rows: [&[u8]; ROWS_AT_ONCE], wide: &mut [Across]) {
    let (blocks, rest) = wide.as_chunks_mut::<TOGETHER>();
    let whole = blocks.len() * TOGETHER;
    for (number, block) in blocks.iter_mut().enumerate() {
        *block = zip(rows.map(|row| &row[number * TOGETHER..]));
    }
    for (at, wide) in rest.iter_mut().enumerate() {
        *wide = rows.map(|row| row[whole + at]);
    }
}

/// The first bytes of eight rows, those of one place side by side.
#[inline(always)]
fn zip<const COUNT: usize>(rows: [&[u8]; ROWS_AT_ONCE]) -> [Across; COUNT] {
    // In pairs, as wider and wider numbers: that is what vectors have instructions for.
    let mut pairs = [[0u16; COUNT]; 4];
    for (pairs, rows) in pairs.iter_mut().zip(rows.as_chunks::<2>().0) {
        let [low, high] = rows.map(|row| &row[..COUNT]);
        for (pair, (&low, &high)) in pairs.iter_mut().zip(low.iter().zip(high)) {
            *pair = u16::from_le_bytes([low, high]);
        }
    }
    let mut fours = [[0u32; COUNT]; 2];
    for (fours, [low, high]) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
        for (four, (&low, &high)) in fours.iter_mut().zip(low.iter().zip(high)) {
            *four = u32::from(low) | u32::from(high) << 16;
        }
    }
    let [low, high] = fours;
    let mut zipped = [Across::default(); COUNT];
    for (all, (low, high)) in zipped.iter_mut().zip(low.into_iter().zip(high)) {
        *all = (u64::from(low) | u64::from(high) << 32).to_le_bytes();
    }
    zipped
}

/// The reverse: rows of `length` bytes, as many as `out` has room for.
#[inline(always)]
fn separate(narrowed: &[Across], length: usize, out: &mut [u8]) {
    for (number, row) in out.chunks_exact_mut(length).enumerate() {
        row.iter_mut().zip(narrowed).for_each(|(out, bytes)| *out = bytes[number]);
    }
}

/// The same for groups of rows.
#[inline(always)]
fn separate_groups(narrowed: &[Across], length: usize, out: &mut [u8]) {
    let (columns, _) = narrowed.as_chunks::<GROUPS>();
    let (blocks, rest) = columns.as_chunks::<8>();
    for (number, block) in blocks.iter().enumerate() {
        // Eight columns are the rows now, and eight bytes of each row come out side by side.
        let bytes = std::array::from_fn(|column| block[column].as_flattened());
        let rows = zip::<PLANE_ROWS_AT_ONCE>(bytes);
        for (row, bytes) in out.chunks_exact_mut(length).zip(rows) {
            row[8 * number..][..8].copy_from_slice(&bytes);
        }
    }
    for (number, row) in out.chunks_exact_mut(length).enumerate() {
        let row = &mut row[8 * blocks.len()..];
        for (out, column) in row.iter_mut().zip(rest) {
            *out = column.as_flattened()[number];
        }
    }
}
