//! Quantisation and linear layers.

use super::*;

/// A random linear layer and its parts.
struct Case {
    inputs: usize,
    outputs: usize,
    weights: Vec<i8>,
    scales: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(random: &mut Random, outputs: usize, inputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            weights: random.weights(outputs * inputs),
            scales: (0..outputs).map(|_| 0.002 + 0.001 * random.unit()).collect(),
            bias: random.floats(outputs, 1.0),
        }
    }

    fn linear(&self, machine: Machine) -> Linear {
        let Self { inputs, outputs, weights, scales, bias } = self;
        Linear::new(machine, weights, *outputs, *inputs, scales, Some(bias)).unwrap()
    }

    /// `Σ (a - zero_point) · w` for each output.
    fn accumulators(&self, row: &[u8], zero_point: u8) -> Vec<i64> {
        self.weights
            .chunks_exact(self.inputs)
            .map(|w| {
                let product =
                    |(&a, &w): (&u8, &i8)| (i64::from(a) - i64::from(zero_point)) * i64::from(w);
                row.iter().zip(w).map(product).sum()
            })
            .collect()
    }

    /// The exact result on quantised rows, as real numbers.
    fn real(&self, row: &[u8], quantisation: Quantisation) -> Vec<f64> {
        self.accumulators(row, quantisation.zero_point)
            .into_iter()
            .enumerate()
            .map(|(n, sum)| {
                let scale = f64::from(self.scales[n]) * f64::from(quantisation.scale);
                sum as f64 * scale + f64::from(self.bias[n])
            })
            .collect()
    }
}

fn check_dynamic(case: &Case, rows: usize, random: &mut Random) {
    let x = random.floats(rows * case.inputs, 3.0);
    let residual = random.floats(rows * case.outputs, 1.0);
    let activation = Activation::ALL[random.below(Activation::ALL.len())];
    for machine in Machine::available() {
        let linear = case.linear(machine);
        let mut quantised = QuantisedRows::default();
        quantised.quantise(machine, &x, case.inputs);
        let mut expected = Vec::new();
        for i in 0..rows {
            let real = case.real(quantised.row(i), quantised.quantisation(i));
            let residual = &residual[i * case.outputs..];
            let finish = |(y, r): (f64, &f32)| reference_activation(activation, y) + f64::from(*r);
            expected.extend(real.into_iter().zip(residual).map(finish));
        }
        let mut out = vec![f32::NAN; rows * case.outputs];
        let mut scratch = Scratch::new();
        linear.forward(&x, activation, Some(&residual), &mut out, &mut scratch);
        assert_close(&out, &expected, 4e-6, 3e-6);

        // The same panel by panel, without residual, must give the same numbers.
        let mut whole = vec![f32::NAN; rows * case.outputs];
        linear.forward(&x, activation, None, &mut whole, &mut scratch);
        let mut parts = vec![f32::NAN; rows * case.outputs];
        let mut rest = MatrixMut::dense(&mut parts, rows, case.outputs);
        for panel in 0..linear.panels() {
            let columns = linear.columns(panel..panel + 1);
            let (part, after) = rest.split_columns(columns.len());
            linear.forward_quantised(&quantised, panel..panel + 1, activation, None, part);
            rest = after;
        }
        assert_eq!(whole, parts, "{machine}");
    }
}

/// The bytes a static layer must give, by the documented formula in single precision.
fn requantised(
    case: &Case,
    x: &[u8],
    input: Quantisation,
    output: StaticOutput,
    r: &[u8],
) -> Vec<u8> {
    let step = f64::from(output.quantisation.scale);
    let mut expected = Vec::new();
    for (row, r) in x.chunks_exact(case.inputs).zip(r.chunks_exact(case.outputs)) {
        for (n, sum) in case.accumulators(row, input.zero_point).into_iter().enumerate() {
            let multiplier = (f64::from(case.scales[n]) * f64::from(input.scale) / step) as f32;
            let mut addend =
                f64::from(case.bias[n]) / step + f64::from(output.quantisation.zero_point);
            if let Some(residual) = output.residual {
                let ratio = f64::from(residual.scale) / step;
                addend -= f64::from(residual.zero_point) * f64::from(residual.scale) / step;
                let y = (sum as f32).mul_add(multiplier, addend as f32);
                expected.push(clamp(f32::from(r[n]).mul_add(ratio as f32, y), output));
            } else {
                expected.push(clamp((sum as f32).mul_add(multiplier, addend as f32), output));
            }
        }
    }
    expected
}

fn clamp(y: f32, output: StaticOutput) -> u8 {
    let (low, high) = output.range;
    let low = output.quantisation.quantise(low);
    let high = output.quantisation.quantise(high);
    y.round_ties_even().clamp(f32::from(low), f32::from(high)) as u8
}

fn check_static(case: &Case, rows: usize, random: &mut Random) {
    let x = random.bytes(rows * case.inputs);
    let residual = random.bytes(rows * case.outputs);
    let input = Quantisation { scale: 0.02, zero_point: random.next() as u8 };
    let output = StaticOutput {
        quantisation: Quantisation {
            scale: 0.001 * (case.inputs as f32).sqrt(),
            zero_point: random.next() as u8,
        },
        range: if random.next().is_multiple_of(2) {
            (0.0, 6.0)
        } else {
            (f32::NEG_INFINITY, f32::INFINITY)
        },
        residual: (random.next().is_multiple_of(2))
            .then_some(Quantisation { scale: 0.03, zero_point: random.next() as u8 }),
    };
    let expected = requantised(case, &x, input, output, &residual);
    let mut real = Vec::new();
    for row in x.chunks_exact(case.inputs) {
        real.extend(case.real(row, input));
    }
    for machine in Machine::available() {
        let linear = case.linear(machine);
        let plan = linear.requantisation(input, output).unwrap();
        let mut scratch = Scratch::new();
        let mut out = vec![0; rows * case.outputs];
        let residual = output.residual.is_some().then_some(&residual[..]);
        linear.forward_static(&x, &plan, residual, &mut out, &mut scratch);
        assert_eq!(out, expected, "{machine} {rows} {} {}", case.inputs, case.outputs);
        let mut floats = vec![f32::NAN; rows * case.outputs];
        let none = Activation::None;
        linear.forward_static_to_float(&x, input, none, None, &mut floats, &mut scratch);
        assert_close(&floats, &real, 2e-6, 2e-6);
    }
}

#[test]
fn small_shapes() {
    let mut random = Random::new(1);
    let (outputs, inputs, rows) = (cases(20, 3), cases(20, 3), cases(20, 3));
    for outputs in 1..=outputs {
        for inputs in 1..=inputs {
            let case = Case::new(&mut random, outputs, inputs);
            // All row counts in turn, each with many shapes.
            let rows = 1 + (outputs * 7 + inputs) % rows;
            check_dynamic(&case, rows, &mut random);
            check_static(&case, rows, &mut random);
        }
    }
}

#[test]
fn all_row_and_column_counts() {
    let mut random = Random::new(2);
    for outputs in (1..=cases(140, 5)).step_by(3) {
        for rows in (1..=cases(30, 2)).step_by(2) {
            let case = Case::new(&mut random, outputs, 8 + rows % 5);
            check_static(&case, rows, &mut random);
        }
    }
    for rows in 1..=cases(40, 2) {
        let case = Case::new(&mut random, 130, 7);
        check_dynamic(&case, rows, &mut random);
    }
}

#[test]
#[cfg_attr(miri, ignore)]
fn large_shapes() {
    let mut random = Random::new(3);
    for (rows, inputs, outputs) in [
        (50, 768, 100),
        (197, 256, 192),
        (5, 3072, 70),
        (81, 1248, 208),
        (700, 16, 96),
        (6, 9000, 19),
    ] {
        let case = Case::new(&mut random, outputs, inputs);
        check_dynamic(&case, rows, &mut random);
        check_static(&case, rows, &mut random);
    }
}

#[test]
fn extreme_values_do_not_overflow() {
    let inputs = cases(MOST_INPUTS, 40);
    for (weight, byte, zero_point) in [(-127, 255, 0), (127, 0, 255), (127, 255, 0), (-127, 0, 255)]
    {
        let case = Case {
            inputs,
            outputs: 3,
            weights: vec![weight; inputs * 3],
            scales: vec![1.0; 3],
            bias: vec![0.0; 3],
        };
        let x = vec![byte; inputs * 2];
        let sum = i64::from(weight) * (i64::from(byte) - i64::from(zero_point)) * inputs as i64;
        for machine in Machine::available() {
            let mut out = vec![0.0; 6];
            let input = Quantisation { scale: 1.0, zero_point };
            let linear = case.linear(machine);
            let none = Activation::None;
            let mut scratch = Scratch::new();
            linear.forward_static_to_float(&x, input, none, None, &mut out, &mut scratch);
            assert_eq!(out, vec![sum as f32; 6], "{machine}");
        }
    }
}

#[test]
fn rows_are_quantised_to_half_a_step() {
    let mut random = Random::new(4);
    for columns in 1..=cases(70, 9) {
        let mut x = random.floats(3 * columns, 10.0);
        x[..columns].iter_mut().for_each(|x| *x = x.abs() + 1.0);
        x[columns..2 * columns].fill(0.0);
        let mut scalar = QuantisedRows::default();
        scalar.quantise(Machine::Scalar, &x, columns);
        for machine in Machine::available() {
            let mut rows = QuantisedRows::default();
            rows.quantise(machine, &x, columns);
            for i in 0..3 {
                let quantisation = rows.quantisation(i);
                assert_eq!(rows.row(i), scalar.row(i), "{machine}");
                assert_eq!(quantisation, scalar.quantisation(i), "{machine}");
                for (&q, &x) in rows.row(i).iter().zip(&x[i * columns..]) {
                    let error = (quantisation.dequantise(q) - x).abs();
                    // Rounding of the zero point may cost another half step at the ends.
                    assert!(error <= quantisation.scale * 1.001, "{x} became {q}");
                }
            }
            let quantisation = Quantisation::covering(-10.0, 10.0).unwrap();
            let mut out = vec![0; x.len()];
            quantise_slice(machine, &x, quantisation, &mut out);
            let inverse = 1.0 / quantisation.scale;
            for (&q, &x) in out.iter().zip(&x) {
                let exact = x.mul_add(inverse, f32::from(quantisation.zero_point));
                assert_eq!(f32::from(q), exact.round_ties_even().clamp(0.0, 255.0));
            }
            let (low, high) = range_with_zero(machine, &x);
            assert_eq!(low, x.iter().fold(0.0, |m: f32, &x| m.min(x)));
            assert_eq!(high, x.iter().fold(0.0, |m: f32, &x| m.max(x)));
        }
    }
}

#[test]
fn values_far_apart_and_not_finite_do_no_harm() {
    for machine in Machine::available() {
        let linear = Linear::new(machine, &[1; 40], 2, 20, &[1.0; 2], None).unwrap();
        for value in [f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40] {
            let mut x = vec![1.0; 40];
            x[3] = value;
            let mut out = vec![0.0; 4];
            linear.forward(&x, Activation::None, None, &mut out, &mut Scratch::new());
            assert!((out[2] - 20.0).abs() < 1e-3, "another row suffered: {}", out[2]);
        }
        let mut x = vec![f32::MAX; 20];
        x[0] = f32::MIN;
        let mut rows = QuantisedRows::default();
        rows.quantise(machine, &x, 20);
        assert_eq!(rows.row(0)[..3], [0, 255, 255]);
    }
}

#[test]
fn bad_parameters_are_refused() {
    let new = |w: &[i8], n, k, s: &[f32], b: Option<&[f32]>| {
        Linear::new(Machine::Scalar, w, n, k, s, b).expect_err("refused")
    };
    let ones = [1.0; 2];
    assert!(matches!(new(&[], 0, 2, &[], None), KernelError::Dimension { what: "outputs", .. }));
    assert!(matches!(new(&[], 2, 0, &ones, None), KernelError::Dimension { what: "inputs", .. }));
    assert!(matches!(
        new(&[], 1, MOST_INPUTS + 1, &[1.0], None),
        KernelError::Dimension { what: "inputs", .. }
    ));
    assert!(matches!(new(&[1; 3], 2, 2, &ones, None), KernelError::Length { what: "weights", .. }));
    assert!(matches!(new(&[1; 4], 2, 2, &[1.0], None), KernelError::Length { what: "scales", .. }));
    assert!(matches!(
        new(&[1; 4], 2, 2, &ones, Some(&[0.0])),
        KernelError::Length { what: "bias", .. }
    ));
    assert_eq!(new(&[1, 1, -128, 1], 2, 2, &ones, None), KernelError::WeightRange { index: 2 });
    assert!(matches!(
        new(&[1; 4], 2, 2, &[1.0, f32::NAN], None),
        KernelError::NotFinite { what: "scale", index: 1, .. }
    ));
    let linear = Linear::new(Machine::Scalar, &[1; 4], 2, 2, &ones, None).unwrap();
    let good = Quantisation { scale: 1.0, zero_point: 0 };
    let output = StaticOutput { quantisation: good, range: (0.0, 1.0), residual: None };
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        let bad = Quantisation { scale, zero_point: 0 };
        assert!(linear.requantisation(bad, output).is_err());
        assert!(linear.requantisation(good, StaticOutput { quantisation: bad, ..output }).is_err());
        let residual = Some(bad);
        assert!(linear.requantisation(good, StaticOutput { residual, ..output }).is_err());
    }
    let range = (1.0, 0.0);
    assert!(matches!(
        linear.requantisation(good, StaticOutput { range, ..output }),
        Err(KernelError::EmptyRange { .. })
    ));
    assert!(Quantisation::covering(f32::NAN, 0.0).is_err());
}
