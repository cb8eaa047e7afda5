//! Scans of the index.

use super::*;

#[test]
fn dot_products_are_exact() {
    let mut random = Random::new(20);
    let step = cases(1, 37);
    for dimension in (1..=cases(140, 75)).step_by(step).chain(cases(384, 64)..=cases(386, 64)) {
        let count = dimension % 11;
        let rows = 1 + dimension % 4;
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
            DotQueries::new(machine, &queries, dimension).dot_rows(data, &mut out);
            assert_eq!(out, expected, "{machine} {dimension} {count}");
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
            queries.dot_rows(&vec![row; dimension], &mut out);
            assert_eq!(out, [expected], "{machine} {row} {query}");
        }
    }
}

#[test]
fn hamming_distances_are_exact() {
    let mut random = Random::new(21);
    for length in 1..=cases(80, 20) {
        let query = random.bytes(length);
        let rows = random.bytes(length * 5);
        let mut expected = Vec::new();
        for row in rows.chunks_exact(length) {
            let bits = (0..8 * length).filter(|i| {
                let bit = |bytes: &[u8]| bytes[i / 8] >> (i % 8) & 1;
                bit(row) != bit(&query)
            });
            expected.push(bits.count() as u32);
        }
        for machine in Machine::available() {
            let mut out = vec![0; 5];
            hamming_rows(machine, &query, &rows, &mut out);
            assert_eq!(out, expected, "{machine} {length}");
        }
    }
}

#[test]
fn no_queries_and_no_rows_are_fine() {
    for machine in Machine::available() {
        DotQueries::new(machine, &[], 3).dot_rows(&[1, 2, 3], &mut []);
        DotQueries::new(machine, &[1, 2, 3], 3).dot_rows(&[], &mut []);
        hamming_rows(machine, &[1], &[], &mut []);
    }
}
