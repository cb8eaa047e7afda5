//! Every kernel on every machine of this processor, against plain 64-bit arithmetic.

mod colour;
mod float;
mod integer;
mod picture;
mod resample;
mod scan;

use super::*;

/// A small generator of test data (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// Uniform in -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.unit() * scale).collect()
    }

    /// Bytes, of which every fourth is an extreme value.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| match self.next() % 8 {
                0 => 0,
                1 => 255,
                _ => self.next() as u8,
            })
            .collect()
    }

    /// Weights in -127..=127, of which every fourth is an extreme value.
    fn weights(&mut self, count: usize) -> Vec<i8> {
        (0..count)
            .map(|_| match self.next() % 8 {
                0 => -127,
                1 => 127,
                _ => (self.next() % 255) as i32 as i8,
            })
            .map(|w| w.max(-127))
            .collect()
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Fewer cases where every instruction is interpreted.
const fn cases(usual: usize, under_miri: usize) -> usize {
    if cfg!(miri) { under_miri } else { usual }
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= absolute + relative * expected.abs(),
            "element {i}: {found} instead of {expected} (error {error:e})"
        );
    }
}

/// An activation in 64 bits.
fn reference_activation(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::GeluErf => x * 0.5 * erfc(-x / std::f64::consts::SQRT_2),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
    }
}

/// The complementary error function: the Taylor series near zero, and the continued fraction
/// (Abramowitz and Stegun 7.1.5 and 7.1.14) away from it.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return 1.0 - sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = x;
    for n in (1..200).rev() {
        fraction = x + f64::from(n) / 2.0 / fraction;
    }
    (-x * x).exp() / fraction / std::f64::consts::PI.sqrt()
}

#[test]
fn names_are_accepted_and_others_refused() {
    for machine in Machine::available() {
        assert_eq!(machine.name().parse(), Ok(machine));
        assert_eq!(machine.name().to_uppercase().parse(), Ok(machine));
    }
    let error = "sse9".parse::<Machine>().unwrap_err();
    assert!(matches!(&error, MachineError::Unknown { name, .. } if name == "sse9"));
    assert!(error.to_string().contains("scalar"), "{error}");
    for machine in Machine::ALL.into_iter().filter(|m| !m.is_available()) {
        let error = machine.name().parse::<Machine>().unwrap_err();
        assert!(matches!(error, MachineError::Unavailable { name, .. } if name == machine));
    }
    assert!(Machine::detect().is_available());
}

#[test]
fn matrices_split_into_disjoint_views() {
    let mut data: Vec<u32> = (0..35).collect();
    let matrix = MatrixMut::new(&mut data, 5, 6, 7);
    let (top, bottom) = matrix.split_rows(2);
    let (mut left, mut right) = top.split_columns(4);
    left.row(1).fill(100);
    right.row(1).fill(200);
    let (whole, mut none) = bottom.split_columns(6);
    assert!(none.row(2).is_empty());
    let (mut whole, none) = whole.split_rows(3);
    assert_eq!(none.rows(), 0);
    assert_eq!(whole.row(2), [28, 29, 30, 31, 32, 33]);
    assert_eq!(data[7..14], [100, 100, 100, 100, 200, 200, 13]);
}

#[test]
#[should_panic(expected = "exceeds")]
fn matrix_beyond_its_slice() {
    Matrix::new(&[0u8; 10], 3, 4, 4);
}

#[test]
#[should_panic(expected = "exceeds")]
fn matrix_of_overflowing_size() {
    Matrix::new(&[0u8; 10], usize::MAX, 4, 4);
}
