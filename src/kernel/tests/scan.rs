//! Scans of the index.

use super::*;

#[test]
fn dot_products_are_exact() {
    let mut random = Random::new(20);
    let step = cases(1, 37);
    for dimension in (1..=cases(140, 75)).step_by(step).chain(cases(384, 64)..=cases(386, 64)) {
        let count = dimension % 19;
        let rows = 1 + dimension % 15;
        let queries = random.weights(count * dimension);
        // Rows come from a file, so they hold anything; and they lie at any address.
        let offset = random.below(4);
        let mut data = vec![0i8; offset + rows * dimension];
        data.fill_with(
            || if random.next().is_multiple_of(4) { i8::MIN } else { random.next() as i8 },
        );
        let data = &data[offset..];
        let mut expected = Vec::new();
        for row in data.chunks_exact(dimension) {
            for query in queries.chunks_exact(dimension) {
                let products = row.iter().zip(query).map(|(&a, &b)| i32::from(a) * i32::from(b));
                expected.push(products.sum::<i32>());
            }
        }
        for machine in Machine::available() {
            let mut out = vec![-1; rows * count];
            let prepared = DotQueries::new(machine, &queries, dimension);
            prepared.dot_rows(data, &mut out, &mut Scratch::new());
            assert_eq!(out, expected, "{machine} {dimension} {count}");
            if count > 0 {
                // The same rows again, last first.
                let starts: Vec<usize> = (0..rows).rev().map(|row| row * dimension).collect();
                let mut out = vec![-1; rows];
                prepared.dot_rows_at(data, &starts, &mut out);
                let first = expected.iter().step_by(count).rev().copied();
                assert_eq!(out, first.collect::<Vec<_>>(), "{machine} {dimension} {count}");
            }
        }
    }
}

#[test]
fn extreme_dot_products_are_exact() {
    let dimension = cases(65_536, 70);
    for (row, query) in [(-128i8, -128i8), (-128, 127), (127, -127), (127, 127), (-128, -127)] {
        let expected = i32::from(row) * i32::from(query) * dimension as i32;
        for machine in Machine::available() {
            let queries = DotQueries::new(machine, &vec![query; dimension], dimension);
            let mut out = [0];
            queries.dot_rows(&vec![row; dimension], &mut out, &mut Scratch::new());
            assert_eq!(out, [expected], "{machine} {row} {query}");
            let queries = DotQueries::new(machine, &vec![query; 17 * dimension], dimension);
            let mut out = [0; 17];
            queries.dot_rows(&vec![row; dimension], &mut out, &mut Scratch::new());
            assert_eq!(out, [expected; 17], "{machine} {row} {query}");
        }
    }
}

#[test]
fn hamming_distances_are_exact() {
    let mut random = Random::new(21);
    for words in 1..=cases(65, 3) {
        let query = random.bytes(8 * words);
        let tiles = random.bytes(2 * TILE_ROWS * 8 * words);
        let mut expected = Vec::new();
        for tile in tiles.chunks_exact(TILE_ROWS * 8 * words) {
            for row in 0..TILE_ROWS {
                let bits = (0..64 * words).filter(|i| {
                    let bit = |bytes: &[u8], start: usize| bytes[start + i % 64 / 8] >> (i % 8) & 1;
                    bit(tile, 8 * (i / 64 * TILE_ROWS + row)) != bit(&query, i / 64 * 8)
                });
                expected.push(bits.count() as u32);
            }
        }
        for machine in Machine::available() {
            let mut out = vec![0; 2 * TILE_ROWS];
            hamming_tiles(machine, &query, &tiles, &mut out);
            assert_eq!(out, expected, "{machine} {words}");
        }
    }
}

#[test]
fn no_queries_and_no_rows_are_fine() {
    for machine in Machine::available() {
        DotQueries::new(machine, &[], 3).dot_rows(&[1, 2, 3], &mut [], &mut Scratch::new());
        DotQueries::new(machine, &[1, 2, 3], 3).dot_rows(&[], &mut [], &mut Scratch::new());
        hamming_tiles(machine, &[1; 8], &[], &mut []);
    }
}
