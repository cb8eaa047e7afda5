//! Depthwise weights for kernels that multiply sixteen channels at a time, and what such a job needs. The
//! kernels are in `aarch64/depthwise.rs` (which interleaves no rows) and `aarch64/depthwise_dot.rs` (which
//! interleaves four, as the general kernels do); no other processor has any.

use super::scratch::{AlignedBytes, as_bytes};
use super::{Machine, Window};

/// Channels worked on together.
pub(crate) const CHANNELS: usize = 16;

/// Bytes that copied rows may take: half of a first-level cache, with what else is used at the time.
const ROW_BYTES: usize = 16 << 10;

/// Whether a layer is computed this way.
pub(crate) fn suits(machine: Machine, window: Window, channels: usize) -> bool {
    matches!(machine, Machine::Neon | Machine::NeonDot)
        && matches!(window.kernel, [3, 3] | [5, 5])
        && matches!(window.stride, [1, 1] | [2, 2])
        && channels >= CHANNELS
}

/// The first channel of a group of sixteen. The last group overlaps the one before it where
/// channels are not a multiple of sixteen.
pub(crate) fn group_start(group: usize, channels: usize) -> usize {
    (group * CHANNELS).min(channels - CHANNELS)
}

/// Weights ordered kernel row, kernel column, channel, packed by groups of sixteen channels; in
/// each, tap after tap.
pub(crate) fn pack_taps(weights: &[i8], channels: usize) -> AlignedBytes {
    let taps = weights.len() / channels;
    let mut packed = AlignedBytes::zeroed(channels.next_multiple_of(CHANNELS) * taps);
    for (group, to) in packed.as_mut_slice().chunks_exact_mut(taps * CHANNELS).enumerate() {
        let first = group_start(group, channels);
        for (to, tap) in to.chunks_exact_mut(CHANNELS).zip(weights.chunks_exact(channels)) {
            to.copy_from_slice(as_bytes(&tap[first..first + CHANNELS]));
        }
    }
    packed
}

/// The same packed for four interleaved rows: by groups of sixteen channels; in each, for every output row that
/// `groups` groups of four rows serve, group after group; in it, kernel column after column; in it,
/// for every channel, the weights of the four rows.
pub(crate) fn pack_columns(
    weights: &[i8],
    channels: usize,
    window: Window,
    (groups, shared_rows): (usize, usize),
) -> AlignedBytes {
    let width = window.kernel[1];
    let block = groups * width * CHANNELS * 4;
    let sets = channels.div_ceil(CHANNELS) * shared_rows;
    let mut packed = AlignedBytes::zeroed(sets * block);
    for (set, to) in packed.as_mut_slice().chunks_exact_mut(block).enumerate() {
        let (group, shared) = (set / shared_rows, set % shared_rows);
        let first = group_start(group, channels);
        for (tap, weights) in weights.chunks_exact(channels).enumerate() {
            let (row, column) = (tap / width + shared * window.stride[0], tap % width);
            let to = &mut to[(row / 4 * width + column) * CHANNELS * 4..][..CHANNELS * 4];
            for (to, &weight) in to.chunks_exact_mut(4).zip(&weights[first..first + CHANNELS]) {
                to[row % 4] = weight as u8;
            }
        }
    }
    packed
}

/// Output rows, of so many, that are computed from one copy of their input rows, each of so many columns.
pub(crate) fn rows_together(window: Window, columns: usize, rows: usize) -> usize {
    let most = ROW_BYTES / (columns * CHANNELS);
    (most.saturating_sub(window.kernel[0]) / window.stride[0] + 1).min(rows.max(1))
}

/// Bytes of scratch memory: of that copy, or of the interleaved columns under a row of output.
pub(crate) fn scratch_bytes(
    machine: Machine,
    (window, groups): (Window, usize),
    columns: usize,
    rows: usize,
) -> usize {
    if machine != Machine::Neon {
        return columns * groups * CHANNELS * 4;
    }
    let together = rows_together(window, columns, rows);
    ((together - 1) * window.stride[0] + window.kernel[0]) * columns * CHANNELS
}
