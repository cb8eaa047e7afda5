//! Attention, softmax, normalisation and activations.

use super::*;

/// One head in 64 bits; `mask(query, key)` is added to the score.
fn reference_attention(
    (q, k, v): (&Matrix<'_, f32>, &Matrix<'_, f32>, &Matrix<'_, f32>),
    scale: f32,
    mask: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let mut out = Vec::new();
    for i in 0..q.rows() {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let scores: Vec<f64> = (0..k.rows())
            .map(|j| dot(q.row(i), k.row(j)) * f64::from(scale) + mask(i, j))
            .collect();
        let largest = scores.iter().fold(f64::NEG_INFINITY, |m, &s| m.max(s));
        let weights: Vec<f64> = scores
            .iter()
            .map(|s| if largest.is_finite() { (s - largest).exp() } else { 0.0 })
            .collect();
        let total: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        for c in 0..v.columns() {
            let sum: f64 =
                weights.iter().enumerate().map(|(j, w)| w * f64::from(v.row(j)[c])).sum();
            out.push(sum / total);
        }
    }
    out
}

fn check_attention(queries: usize, keys: usize, size: usize, values: usize, random: &mut Random) {
    // Rows lie further apart than they are long, as those of one head among several do.
    let (q_stride, k_stride, v_stride) = (size + 3, size, values * 2);
    let q = random.floats(queries * q_stride, 1.0);
    let k = random.floats(keys * k_stride, 2.0);
    let v = random.floats(keys * v_stride, 1.0);
    let q = Matrix::new(&q, queries, size, q_stride);
    let k = Matrix::new(&k, keys, size, k_stride);
    let v = Matrix::new(&v, keys, values, v_stride);
    let scale = 1.0 / (size as f32).sqrt();
    let mut additive = random.floats(queries * keys, 2.0);
    for add in additive.iter_mut().step_by(3) {
        *add = f32::NEG_INFINITY;
    }
    // The last query sees nothing at all.
    additive[(queries - 1) * keys..].fill(f32::NEG_INFINITY);
    let mut padding = vec![0.0; keys];
    padding[keys / 2 + 1..].fill(f32::NEG_INFINITY);
    let hidden = |hide: bool| if hide { f64::NEG_INFINITY } else { 0.0 };
    let masks: [(Mask<'_>, Vec<f64>); 4] = [
        (Mask::None, reference_attention((&q, &k, &v), scale, |_, _| 0.0)),
        (
            Mask::Causal,
            reference_attention((&q, &k, &v), scale, |i, j| hidden(j + queries > i + keys)),
        ),
        (
            Mask::Additive(Matrix::dense(&additive, queries, keys)),
            reference_attention((&q, &k, &v), scale, |i, j| f64::from(additive[i * keys + j])),
        ),
        (
            Mask::Additive(Matrix::new(&padding, queries, keys, 0)),
            reference_attention((&q, &k, &v), scale, |_, j| f64::from(padding[j])),
        ),
    ];
    for machine in Machine::available() {
        for (mask, expected) in &masks {
            let stride = values + 5;
            let mut out = vec![9.0; queries * stride];
            let view = MatrixMut::new(&mut out, queries, values, stride);
            attention(machine, q, k, v, scale, *mask, view, &mut Scratch::new());
            for (row, expected) in out.chunks_exact(stride).zip(expected.chunks_exact(values)) {
                assert_close(&row[..values], expected, 3e-6, 2e-6);
                assert_eq!(row[values..], [9.0; 5], "{machine} wrote beyond its columns");
            }
        }
    }
}

#[test]
fn attention_of_small_shapes() {
    let mut random = Random::new(30);
    for queries in 1..=cases(15, 3) {
        for keys in 1..=cases(20, 3) {
            let size = 1 + random.below(cases(40, 5));
            let values = 1 + random.below(cases(80, 5));
            check_attention(queries, keys, size, values, &mut random);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore)]
fn attention_of_usual_shapes() {
    let mut random = Random::new(31);
    for (sequence, size) in [(50, 64), (197, 64), (77, 64), (32, 32), (65, 24), (130, 100)] {
        check_attention(sequence, sequence, size, size, &mut random);
    }
    check_attention(1, 300, 64, 64, &mut random);
}

#[test]
fn attention_survives_large_scores() {
    for machine in Machine::available() {
        let q = [1e18f32, -1e18];
        let k = [1e18f32, -1e18, 5e17];
        let v = [1.0f32, 2.0, 3.0];
        let mut out = [0.0; 2];
        let (q, k, v) = (Matrix::dense(&q, 2, 1), Matrix::dense(&k, 3, 1), Matrix::dense(&v, 3, 1));
        let view = MatrixMut::dense(&mut out, 2, 1);
        attention(machine, q, k, v, 1.0, Mask::None, view, &mut Scratch::new());
        assert_eq!(out, [1.0, 2.0], "{machine}");
    }
}

#[test]
fn softmax_sums_to_one() {
    let mut random = Random::new(32);
    for columns in 1..=cases(70, 9) {
        let mut x = random.floats(3 * columns, 30.0);
        x[2 * columns..].fill(f32::NEG_INFINITY);
        x[0] = f32::NEG_INFINITY;
        let mut expected = Vec::new();
        for row in x.chunks_exact(columns) {
            let largest = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
            let e = |x: &f32| match largest {
                f32::NEG_INFINITY => 0.0,
                _ => (f64::from(*x) - f64::from(largest)).exp(),
            };
            let total: f64 = row.iter().map(e).sum::<f64>().max(f64::MIN_POSITIVE);
            expected.extend(row.iter().map(|x| e(x) / total));
        }
        for machine in Machine::available() {
            let mut out = x.clone();
            softmax_rows(machine, &mut out, columns);
            // Scores lie at most 60 below the largest.
            assert_close(&out, &expected, 1e-37, 1e-6 + 60.0 * 6e-8);
        }
    }
}

#[test]
fn layer_norm_has_the_moments_asked_for() {
    let mut random = Random::new(33);
    for columns in 1..=cases(80, 9) {
        // Far from zero, so that a one-pass variance would be lost.
        let x: Vec<f32> = random.floats(2 * columns, 1.0).iter().map(|x| x + 1000.0).collect();
        let (gamma, beta) = (random.floats(columns, 2.0), random.floats(columns, 2.0));
        for (gamma, beta, epsilon) in [
            (Some(&gamma[..]), Some(&beta[..]), 1e-5),
            (Some(&gamma[..]), None, 1e-12),
            (None, None, 1e-6),
        ] {
            let mut expected = Vec::new();
            for row in x.chunks_exact(columns) {
                let n = columns as f64;
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                let square = |&x: &f32| (f64::from(x) - mean).powi(2);
                let variance = row.iter().map(square).sum::<f64>() / n;
                for (i, &x) in row.iter().enumerate() {
                    let y = (f64::from(x) - mean) / (variance + f64::from(epsilon)).sqrt();
                    let y = y * gamma.map_or(1.0, |g| f64::from(g[i]));
                    expected.push(y + beta.map_or(0.0, |b| f64::from(b[i])));
                }
            }
            for machine in Machine::available() {
                let mut out = vec![f32::NAN; x.len()];
                layer_norm(machine, &x, columns, gamma, beta, epsilon, &mut out);
                // The mean of numbers near 1000 is itself only known to 6e-5.
                if columns > 1 {
                    assert_close(&out, &expected, 2e-3, 1e-3);
                }
                let centred: Vec<f32> = x.iter().map(|x| x - 1000.0).collect();
                layer_norm(machine, &centred, columns, gamma, beta, 1e-5, &mut out);
                assert!(out.iter().all(|y| y.is_finite()), "{machine}");
            }
        }
    }
}

#[test]
fn layer_norm_is_accurate_near_zero() {
    let mut random = Random::new(34);
    for columns in [5, 16, 33, cases(768, 20)] {
        let x = random.floats(3 * columns, 4.0);
        let mut expected = Vec::new();
        for row in x.chunks_exact(columns) {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / columns as f64;
            let square = |&x: &f32| (f64::from(x) - mean).powi(2);
            let variance = row.iter().map(square).sum::<f64>() / columns as f64;
            expected.extend(row.iter().map(|&x| (f64::from(x) - mean) / (variance + 1e-5).sqrt()));
        }
        for machine in Machine::available() {
            let mut out = vec![f32::NAN; x.len()];
            layer_norm(machine, &x, columns, None, None, 1e-5, &mut out);
            assert_close(&out, &expected, 1e-6, 1e-6);
        }
    }
}

#[test]
fn rows_get_length_one() {
    let mut random = Random::new(35);
    for columns in 1..=cases(70, 9) {
        let mut x = random.floats(3 * columns, 3.0);
        x[columns..2 * columns].fill(0.0);
        for machine in Machine::available() {
            let mut out = x.clone();
            l2_normalise_rows(machine, &mut out, columns);
            assert_eq!(out[columns..2 * columns], x[columns..2 * columns]);
            let length = x[..columns].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let expected: Vec<f64> = x[..columns].iter().map(|&x| f64::from(x) / length).collect();
            assert_close(&out[..columns], &expected, 1e-7, 3e-7);
            let mut sum = x.clone();
            add_assign(machine, &mut sum, &out);
            let expected: Vec<f32> = x.iter().zip(&out).map(|(a, b)| a + b).collect();
            assert_eq!(sum, expected);
        }
    }
}

/// The bounds that `Activation` documents, on a fine grid and beyond it.
#[test]
fn activations_keep_their_bounds() {
    let points = cases(40_000, 60);
    let mut x: Vec<f32> = (0..=points).map(|i| (i as f32 / points as f32 - 0.5) * 40.0).collect();
    x.extend([0.0, -0.0, 1e-30, -1e-30, 100.0, -100.0, 1e6, -1e6, 1e30, -1e30]);
    for activation in Activation::ALL {
        let expected: Vec<f64> =
            x.iter().map(|&x| reference_activation(activation, f64::from(x))).collect();
        for machine in Machine::available() {
            let mut out = x.clone();
            activate(machine, activation, &mut out);
            let absolute = match activation {
                Activation::None | Activation::Relu | Activation::Relu6 => 0.0,
                _ => 1e-6,
            };
            assert_close(&out, &expected, absolute, 5e-7);
            let mut ends = [f32::INFINITY, f32::NEG_INFINITY];
            activate(machine, activation, &mut ends);
            let bounded = matches!(
                activation,
                Activation::Relu6 | Activation::Sigmoid | Activation::HardSigmoid
            );
            if bounded {
                let top = if activation == Activation::Relu6 { 6.0 } else { 1.0 };
                assert_close(&ends, &[top, 0.0], 1e-6, 0.0);
            } else {
                assert_eq!(ends[0], f32::INFINITY, "{machine} {activation:?}");
            }
        }
    }
}

#[test]
fn exponentials_keep_their_bound() {
    // Through a softmax of pairs (0, x): e^x / (1 + e^x), and of sums where one term is tiny.
    let points = cases(20_000, 50);
    for machine in Machine::available() {
        for i in 0..=points {
            let x = -87.0 * i as f32 / points as f32;
            let mut pair = [0.0, x];
            softmax_rows(machine, &mut pair, 2);
            let expected = f64::from(x).exp() / (1.0 + f64::from(x).exp());
            assert_close(&pair[1..], &[expected], 0.0, 5e-7);
        }
    }
}
