//! Tiles of packed rows: the inner loops of [`super::packed_rows`].

use std::arch::aarch64::*;
use std::arch::asm;

use super::dot_product::step;
use super::packed_rows::ROWS;
use crate::kernel::simd::unrolled;

/// Sums of four packed rows with a panel of `V` vectors.
///
/// # Safety
/// The dot product is enabled; `packed` is readable for the inputs of `groups` groups of four, the panel for
/// `groups * 16 * V` bytes, `start` for `4 * V` numbers.
#[inline(always)]
pub(super) unsafe fn multiply<const V: usize>(
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
        if V == 2 {
            let sums = multiply_two(packed, panel, groups, start);
            return std::array::from_fn(|r| std::array::from_fn(|v| sums[r][v % 2]));
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
            "tbz {blocks}, #0, 2f",
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            group!("0"),
            group!("1"),
            group!("2"),
            group!("3"),
            "2:",
            "lsr {blocks}, {blocks}, #1",
            "cbz {blocks}, 3f",
            // Two blocks a turn.
            "5:",
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            "subs {blocks}, {blocks}, #1",
            group!("0"),
            group!("1"),
            group!("2"),
            group!("3"),
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            group!("0"),
            group!("1"),
            group!("2"),
            group!("3"),
            "b.ne 5b",
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

/// The `sdot`s of two groups of inputs, or of the first of them: two lanes of rows v0 to v3 with
/// weights v4 and v5, and v6 and v7.
macro_rules! groups_of_two {
    (first $a:literal) => {
        concat!(
            "ld1 {{v4.16b, v5.16b}}, [{w}], #32\n",
            groups_of_two!(@group $a, "4", "5"),
        )
    };
    ($a:literal, $b:literal) => {
        concat!(
            "ld1 {{v4.16b, v5.16b, v6.16b, v7.16b}}, [{w}], #64\n",
            groups_of_two!(@group $a, "4", "5"),
            groups_of_two!(@group $b, "6", "7"),
        )
    };
    (@group $lane:literal, $w:literal, $x:literal) => {
        concat!(
            "sdot v16.4s, v", $w, ".16b, v0.4b[", $lane, "]\n",
            "sdot v17.4s, v", $x, ".16b, v0.4b[", $lane, "]\n",
            "sdot v18.4s, v", $w, ".16b, v1.4b[", $lane, "]\n",
            "sdot v19.4s, v", $x, ".16b, v1.4b[", $lane, "]\n",
            "sdot v20.4s, v", $w, ".16b, v2.4b[", $lane, "]\n",
            "sdot v21.4s, v", $x, ".16b, v2.4b[", $lane, "]\n",
            "sdot v22.4s, v", $w, ".16b, v3.4b[", $lane, "]\n",
            "sdot v23.4s, v", $x, ".16b, v3.4b[", $lane, "]\n",
        )
    };
}

/// [`multiply`] with a panel of two vectors.
///
/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn multiply_two(
    packed: *const int8x16_t,
    panel: *const i8,
    groups: usize,
    start: *const i32,
) -> [[int32x4_t; 2]; ROWS] {
    let (a, b, c, d): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    let (e, f, g, h): (int32x4_t, int32x4_t, int32x4_t, int32x4_t);
    // SAFETY: as in `multiply_four`, with eight numbers of `start` and 32 weights a group.
    unsafe {
        asm!(
            "ld1 {{v16.4s, v17.4s}}, [{start}]",
            "ld1 {{v18.4s, v19.4s}}, [{start}]",
            "ld1 {{v20.4s, v21.4s}}, [{start}]",
            "ld1 {{v22.4s, v23.4s}}, [{start}]",
            "cbz {blocks}, 3f",
            "2:",
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            "subs {blocks}, {blocks}, #1",
            groups_of_two!("0", "1"),
            groups_of_two!("2", "3"),
            "b.ne 2b",
            "3:",
            "cbz {rest}, 4f",
            "ld1 {{v0.16b, v1.16b, v2.16b, v3.16b}}, [{a}], #64",
            groups_of_two!(first "0"),
            "cmp {rest}, #2",
            "b.lo 4f",
            groups_of_two!(first "1"),
            "b.eq 4f",
            groups_of_two!(first "2"),
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
            options(readonly, nostack),
        );
    }
    [[a, b], [c, d], [e, f], [g, h]]
}
