//! Resampling.

use super::*;

/// Taps of a resize from `source` to `output` elements, at most `most` each, with weights that
/// sum to one and of which some are negative.
fn taps(random: &mut Random, source: usize, output: usize, most: usize) -> Vec<Taps> {
    let make = |place: usize| {
        let count = 1 + random.below(most.min(source));
        let start = (place * source / output).min(source - count);
        let mut weights: Vec<i32> =
            (0..count).map(|_| random.below(1 << 20) as i32 - (1 << 17)).collect();
        let sum: i32 = weights.iter().sum();
        weights[count / 2] += (1 << WEIGHT_BITS) - sum;
        Taps { start, weights }
    };
    (0..output).map(make).collect()
}

fn blended(taps: &Taps, value: impl Fn(usize) -> u8) -> u8 {
    let products =
        (taps.start..).zip(&taps.weights).map(|(at, &w)| i64::from(w) * i64::from(value(at)));
    ((products.sum::<i64>() + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS).clamp(0, 255) as u8
}

#[test]
fn blended_rows_are_exact() {
    let mut random = Random::new(30);
    for length in [1, 2, 3, 15, 16, 63, 64, 65, 200].into_iter().take(cases(9, 5)) {
        let held = 1 + random.below(9);
        let ring = random.bytes(held * length);
        // The picture has more rows than are held.
        for taps in taps(&mut random, held, 3, 8) {
            let taps = Taps { start: taps.start + 3 * held, ..taps };
            let expected: Vec<u8> = (0..length)
                .map(|at| blended(&taps, |row| ring[row % held * length + at]))
                .collect();
            for machine in Machine::available() {
                let mut out = vec![7; length];
                blend_rows(machine, &ring, &taps, &mut out);
                assert_eq!(out, expected, "{machine} {length} {taps:?}");
            }
        }
    }
}

#[test]
fn narrowed_rows_are_exact() {
    narrowed::<3, ROWS_AT_ONCE>(narrow_rows);
    narrowed::<1, PLANE_ROWS_AT_ONCE>(narrow_plane);
}

/// Brings `ROWS` rows to the width of columns.
type Narrow<const ROWS: usize> =
    fn(Machine, [&[u8]; ROWS], &[Taps], &mut Vec<[u8; ROWS_AT_ONCE]>, &mut [u8]);

fn narrowed<const CHANNELS: usize, const ROWS: usize>(narrow_by: Narrow<ROWS>) {
    let mut random = Random::new(31);
    let sizes = [(1, 1), (2, 5), (7, 3), (64, 29), (100, 100), (333, 8)];
    for (width, narrow) in sizes.into_iter().take(cases(6, 4)) {
        let length = CHANNELS * width;
        let bytes = random.bytes(ROWS * length);
        let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &bytes[row * length..][..length]);
        let columns = taps(&mut random, width, narrow, 11);
        let expected: Vec<u8> = rows
            .iter()
            .flat_map(|row| {
                let pixel = |taps: &Taps| -> [u8; CHANNELS] {
                    std::array::from_fn(|c| blended(taps, |x| row[CHANNELS * x + c]))
                };
                columns.iter().flat_map(pixel).collect::<Vec<u8>>()
            })
            .collect();
        for machine in Machine::available() {
            for kept in [1, 5, ROWS] {
                let mut out = vec![7; kept * CHANNELS * narrow];
                narrow_by(machine, rows, &columns, &mut Vec::new(), &mut out);
                assert_eq!(out, expected[..out.len()], "{machine} {width} {narrow}");
            }
        }
    }
}
