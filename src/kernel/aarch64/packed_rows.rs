//! Matrix products to bytes by `sdot`, with rows packed first.
//!
//! The same sums as the general tiles' ([`crate::kernel::gemm`]), in fewer instructions. A few rows at a time
//! are copied as signed bytes, four rows by sixteen inputs side by side: the exclusive-or is then done
//! once and not for every panel, and one `ld1` loads the activations, as another loads the weights,
//! of 64 products in every lane.

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::MaybeUninit;

use super::dot_product::step;
use super::multiply_long::to_signed;
use super::requantise::Finish;
use crate::kernel::gemm::Rows;
use crate::kernel::gemm_output::ByteOutput;
use crate::kernel::pack::PackedWeights;
use crate::kernel::simd::unrolled;

/// Rows multiplied together.
const ROWS: usize = 4;
/// Inputs of a row side by side, as many as a vector holds.
const INPUTS: usize = 16;
/// Vectors of packed rows: half of a first-level cache.
const ROOM: usize = (32 << 10) / INPUTS;

/// Whether rows of so many (padded) inputs fit.
pub(crate) fn suits(inputs_padded: usize) -> bool {
    inputs_padded.div_ceil(INPUTS) * ROWS <= ROOM
}

/// [`crate::kernel::gemm::requantised`] after its checks.
///
/// # Safety
/// The processor has the dot product; `rows` are readable, suit ([`suits`]) and are as long as the weights
/// say; `output` is writable for as many rows of all columns.
#[target_feature(enable = "neon,dotprod")]
pub(crate) unsafe fn run(rows: Rows, weights: &PackedWeights, output: ByteOutput<'_>) {
    let blocks = weights.inputs_padded.div_ceil(INPUTS);
    let mut packed = [const { MaybeUninit::<int8x16_t>::uninit() }; ROOM];
    let packed = packed.as_mut_ptr().cast::<int8x16_t>();
    let most = ROOM / (blocks * ROWS) * ROWS;
    let mut first = 0;
    while first < rows.count {
        let count = most.min(rows.count - first);
        // SAFETY: `count` rows from `first` on exist, and whole tiles of them fit; each tile is
        // packed before it is multiplied.
        unsafe {
            let part = Rows { start: rows.start.add(first * rows.stride), count, ..rows };
            pack_rows(part, packed);
            for panel in 0..weights.panels() {
                let at = (first, count, panel);
                let plain = is_plain(weights, panel, output);
                match weights.vectors(panel) {
                    1 => panel_of::<1, false>(packed, weights, at, output),
                    2 => panel_of::<2, false>(packed, weights, at, output),
                    3 => panel_of::<3, false>(packed, weights, at, output),
                    _ if plain => panel_of::<4, true>(packed, weights, at, output),
                    _ => panel_of::<4, false>(packed, weights, at, output),
                }
            }
        }
        first += count;
    }
}

/// Whether a panel's sums are only to be scaled and rounded, which is so for most.
fn is_plain(weights: &PackedWeights, panel: usize, output: ByteOutput<'_>) -> bool {
    let whole = (panel + 1) * weights.layout.panel_columns() <= weights.outputs;
    whole && output.plan.takes_all_bytes() && output.residual.is_null()
}

/// Packs rows as signed bytes: tile after tile of four rows; in it, for every sixteen inputs, those of each
/// row. A tile that lacks rows has its last one repeated; inputs behind a row's end are zero.
///
/// # Safety
/// The rows are readable for their stride; `to` is writable for whole tiles.
#[inline(always)]
unsafe fn pack_rows(rows: Rows, to: *mut int8x16_t) {
    let mut to = to.cast::<i8>();
    let (whole, rest) = (rows.stride / INPUTS, rows.stride % INPUTS);
    for tile in (0..rows.count).step_by(ROWS) {
        // SAFETY: as the caller promises.
        unsafe {
            let row = |r: usize| rows.start.add((tile + r).min(rows.count - 1) * rows.stride);
            let from = [row(0), row(1), row(2), row(3)];
            for block in 0..whole {
                let [a, b, c, d] = from.map(|row| to_signed(vld1q_u8(row.add(block * INPUTS))));
                vst1q_s8_x4(to, int8x16x4_t(a, b, c, d));
                to = to.add(ROWS * INPUTS);
            }
            if rest > 0 {
                let end = whole * INPUTS;
                let [a, b, c, d] = from.map(|row| to_signed(load_rest(row.add(end), rest)));
                vst1q_s8_x4(to, int8x16x4_t(a, b, c, d));
                to = to.add(ROWS * INPUTS);
            }
        }
    }
}

/// Loads 4, 8 or 12 bytes; what else the vector holds meets no weight.
///
/// # Safety
/// As many bytes are readable.
#[inline(always)]
unsafe fn load_rest(from: *const u8, count: usize) -> uint8x16_t {
    // SAFETY: as the caller promises.
    unsafe {
        let low = if count >= 8 { vld1_u8(from) } else { vdup_n_u8(0) };
        let last = vdup_n_u32(from.add(count - 4).cast::<u32>().read_unaligned());
        let last = vreinterpret_u8_u32(last);
        if count == 4 { vcombine_u8(last, low) } else { vcombine_u8(low, last) }
    }
}

/// Multiplies packed rows with one panel of `V` vectors of output channels, and stores bytes.
///
/// # Safety
/// The dot product is enabled; `count` rows are packed, whose results go to rows `first` and on of the output;
/// the panel has `V` vectors, and is plain if it is said to be.
#[inline(always)]
unsafe fn panel_of<const V: usize, const PLAIN: bool>(
    packed: *const int8x16_t,
    weights: &PackedWeights,
    (first, count, panel): (usize, usize, usize),
    output: ByteOutput<'_>,
) {
    let (outputs, column) = (weights.outputs, panel * weights.layout.panel_columns());
    let tile_vectors = weights.inputs_padded.div_ceil(INPUTS) * ROWS;
    // SAFETY: as the caller promises; arrays by output channel are padded to whole vectors.
    unsafe {
        let panel = weights.data.as_slice().as_ptr().add(column * weights.inputs_padded).cast();
        let finish = Finish::<V, PLAIN>::new(output.plan, column, outputs - column);
        let start = output.plan.start.as_ptr().add(column);
        let mut packed = packed;
        let mut at = first * outputs + column;
        let mut rows = [0, outputs, 2 * outputs, 3 * outputs];
        for row in (0..count).step_by(ROWS) {
            if row + ROWS > count {
                // The last row was packed again in place of those there are not, and is stored again.
                rows = rows.map(|row_at| row_at.min((count - row - 1) * outputs));
            }
            let sums = multiply::<V>(packed, panel, weights.inputs_padded / 4, start);
            unrolled!(4, |r| {
                let at = at + rows[r];
                let residual = match output.residual.is_null() {
                    true => None,
                    false => Some(output.residual.add(at)),
                };
                finish.store(sums[r], output.out.add(at), residual);
            });
            packed = packed.add(tile_vectors);
            at += ROWS * outputs;
        }
    }
}

/// Sums of four packed rows with a panel of `V` vectors.
///
/// # Safety
/// The dot product is enabled; `packed` is readable for the inputs of `groups` groups of four, the panel for
/// `groups * 16 * V` bytes, `start` for `4 * V` numbers.
#[inline(always)]
unsafe fn multiply<const V: usize>(
    packed: *const int8x16_t,
    panel: *const i8,
    groups: usize,
    start: *const i32,
) -> [[int32x4_t; V]; ROWS] {
    // SAFETY: as the caller promises.
    unsafe {
        if V == 4 {
            let sums = multiply_four(packed, panel, groups, start);
            return std::array::from_fn(|r| std::array::from_fn(|v| sums[r][v % 4]));
        }
        let mut sums = [[vdupq_n_s32(0); V]; ROWS];
        unrolled!(V, |v| {
            let start = vld1q_s32(start.add(v * 4));
            unrolled!(4, |r| { sums[r][v] = start });
        });
        for block in 0..groups.div_ceil(4) {
            let a: [int8x16_t; ROWS] = std::array::from_fn(|r| *packed.add(block * ROWS + r));
            let panel = panel.add(block * 64 * V);
            step::<0, ROWS, V>(&mut sums, &a, panel);
            let left = groups - block * 4;
            if left > 1 {
                step::<1, ROWS, V>(&mut sums, &a, panel.add(16 * V));
            }
            if left > 2 {
                step::<2, ROWS, V>(&mut sums, &a, panel.add(32 * V));
            }
            if left > 3 {
                step::<3, ROWS, V>(&mut sums, &a, panel.add(48 * V));
            }
        }
        sums
    }
}

/// The `sdot`s of one group of inputs: lane `$lane` of rows v0 to v3 with weights v4 to v7.
macro_rules! group {
    ($lane:literal) => {
        concat!(
            "ld1 {{v4.16b, v5.16b, v6.16b, v7.16b}}, [{w}], #64\n",
            group!(@row "0", $lane, "16", "17", "18", "19"),
            group!(@row "1", $lane, "20", "21", "22", "23"),
            group!(@row "2", $lane, "24", "25", "26", "27"),
            group!(@row "3", $lane, "28", "29", "30", "31"),
        )
    };
    (@row $row:literal, $lane:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            "sdot v", $a, ".4s, v4.16b, v", $row, ".4b[", $lane, "]\n",
            "sdot v", $b, ".4s, v5.16b, v", $row, ".4b[", $lane, "]\n",
            "sdot v", $c, ".4s, v6.16b, v", $row, ".4b[", $lane, "]\n",
            "sdot v", $d, ".4s, v7.16b, v", $row, ".4b[", $lane, "]\n",
        )
    };
}

/// [`multiply`] with a panel of four vectors.
///
/// Written out, because neither the choice of neighbouring registers, which `ld1` needs, nor the
/// order of loads can be left to the compiler without copies.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn multiply_four(
    packed: *const int8x16_t,
    panel: *const i8,
    groups: usize,
    start: *const i32,
) -> [[int32x4_t; 4]; ROWS] {
    let (a, b, c, d): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    let (e, f, g, h): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    let (i, j, k, l): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    let (m, n, o, p): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    // SAFETY: 16 numbers of `start` are read four times; for each sixteen inputs (four groups) 64 packed bytes,
    // and for each group 64 weights: what the caller promises. Nothing is written.
    unsafe {
        asm!(
            "ld1 {{v16.4s, v17.4s, v18.4s, v19.4s}}, [{start}]",
            "ld1 {{v20.4s, v21.4s, v22.4s, v23.4s}}, [{start}]",
            "ld1 {{v24.4s, v25.4s, v26.4s, v27.4s}}, [{start}]",
            "ld1 {{v28.4s, v29.4s, v30.4s, v31.4s}}, [{start}]",
            "cbz {blocks}, 3f",
            "2:",
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            "subs {blocks}, {blocks}, #1",
            group!("0"),
            group!("1"),
            group!("2"),
            group!("3"),
            "b.ne 2b",
            "3:",
            "cbz {rest}, 4f",
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            group!("0"),
            "cmp {rest}, #2",
            "b.lo 4f",
            group!("1"),
            "b.eq 4f",
            group!("2"),
            "4:",
            a = inout(reg) packed => _,
            w = inout(reg) panel => _,
            blocks = inout(reg) groups / 4 => _,
            rest = in(reg) groups % 4,
            start = in(reg) start,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") a, out("v17") b, out("v18") c, out("v19") d,
            out("v20") e, out("v21") f, out("v22") g, out("v23") h,
            out("v24") i, out("v25") j, out("v26") k, out("v27") l,
            out("v28") m, out("v29") n, out("v30") o, out("v31") p,
            options(readonly, nostack),
        );
    }
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]]
}
