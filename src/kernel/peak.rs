//! How fast a core can multiply bytes at all: what the rates of kernels are compared with.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::simd::{Dot, entry_points, unrolled};
use super::{AlignedBytes, Machine};

/// Bytes of operands: a small part of any first-level cache, and enough for every tile.
const OPERANDS: usize = 8 << 10;
/// Inputs of a tile.
const DEPTH: usize = 128;

/// 8-bit multiply-adds a second that this core does on a machine with operands at hand, by bare
/// dot products or by tiles of a matrix product, whichever is more: the fastest of some short
/// spells, so that a busy computer lowers it little.
///
/// It is the rate of the machine's own instructions ([`Machine::Avx2`], say, needs several for
/// what one of [`Machine::AvxVnni`] does).
///
/// # Panics
/// If this processor does not have the machine.
pub fn peak_multiply_adds(machine: Machine) -> f64 {
    machine.assert_available();
    let operands = AlignedBytes::zeroed(OPERANDS);
    let operands = operands.as_slice();
    // SAFETY: the machine is available, and there are as many operands as both ask for.
    let dots = fastest(|rounds| unsafe { dots_on(machine, operands, rounds) });
    // SAFETY: the same.
    let tiles = fastest(|rounds| unsafe { tiles_on(machine, operands, rounds) });
    dots.max(tiles)
}

/// The highest rate at which `work`, given a number of rounds, does what it says it did.
fn fastest(mut work: impl FnMut(usize) -> usize) -> f64 {
    let (start, mut best, mut rounds) = (Instant::now(), 0f64, 64);
    while start.elapsed() < Duration::from_millis(60) {
        let spell = Instant::now();
        let done = work(rounds);
        let seconds = spell.elapsed().as_secs_f64();
        match seconds < 5e-4 {
            true => rounds *= 2,
            false => best = best.max(done as f64 / seconds),
        }
    }
    best
}

entry_points! {
    /// Adds products in registers; gives the number of multiply-adds done.
    fn dots_on(operands: &[u8], rounds: usize) -> usize = dots;
    /// Multiplies tiles; gives the number of multiply-adds done.
    fn tiles_on(operands: &[u8], rounds: usize) -> usize = tiles;
}

/// Adds products to as many sums as stay in registers and hide an instruction's latency.
///
/// # Safety
/// The machine's instructions are enabled; there are [`OPERANDS`] bytes.
#[inline(always)]
unsafe fn dots<V: Dot>(operands: &[u8], rounds: usize) -> usize {
    let together = V::TILE_ROWS[0].min(12);
    // SAFETY: no more than six vectors of 64 bytes are read.
    unsafe {
        let mut sums = [V::splat_i(0); 12];
        let start = operands.as_ptr();
        let activations = [V::broadcast_group(start), V::broadcast_group(start.add(4))];
        for _ in 0..rounds {
            // Opaque, or the compiler would multiply once and for all.
            let weights = black_box(start).cast::<i8>();
            unrolled!(together, |i| {
                let w = V::load_weights(weights.add(i / 2 * 4 * V::LANES));
                sums[i] = V::dot(sums[i], activations[i % 2], w);
            });
        }
        for sum in sums {
            black_box(V::sum_four_i([sum; 4]));
        }
    }
    rounds * together * 4 * V::LANES
}

/// Multiplies the machine's widest tile over and over.
///
/// # Safety
/// As for [`dots`].
#[inline(always)]
unsafe fn tiles<V: Dot>(operands: &[u8], rounds: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe {
        match (V::TILE_ROWS[V::PANEL_VECTORS - 1], V::PANEL_VECTORS) {
            (6.., 4) => repeat::<V, 6, 4>(operands, rounds),
            (_, 4) => repeat::<V, 4, 4>(operands, rounds),
            (8.., 2) => repeat::<V, 8, 2>(operands, rounds),
            (6.., 2) => repeat::<V, 6, 2>(operands, rounds),
            (4.., 2) => repeat::<V, 4, 2>(operands, rounds),
            (_, 1) => repeat::<V, 4, 1>(operands, rounds),
            _ => repeat::<V, 1, 1>(operands, rounds),
        }
    }
}

/// # Safety
/// As for [`dots`].
#[inline(always)]
unsafe fn repeat<V: Dot, const R: usize, const N: usize>(operands: &[u8], rounds: usize) -> usize {
    let groups = DEPTH / V::K_GROUP;
    assert!(operands.len() >= (R * DEPTH).max(DEPTH * N * V::LANES), "operands are missing");
    // SAFETY: the rows and the panel were just seen to be there.
    unsafe {
        let mut sums = [[V::splat_i(0); N]; R];
        for _ in 0..rounds {
            let start = black_box(operands.as_ptr());
            V::tile::<R, N>(start, DEPTH, start.cast(), groups, &mut sums);
        }
        for &sum in sums.as_flattened() {
            black_box(V::sum_four_i([sum; 4]));
        }
    }
    rounds * R * N * V::LANES * DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_multiplies() {
        let operands = AlignedBytes::zeroed(OPERANDS);
        for machine in Machine::available() {
            // SAFETY: the machine is available, the operands are as many as asked for.
            let done = unsafe {
                [
                    dots_on(machine, operands.as_slice(), 2),
                    tiles_on(machine, operands.as_slice(), 2),
                ]
            };
            assert!(done.iter().all(|&done| done >= 2 * 16), "{machine}: {done:?}");
        }
    }
}
