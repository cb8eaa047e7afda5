//! From exact accumulators back to bytes.

use super::{KernelError, Quantisation};

/// What a static layer's bytes mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StaticOutput {
    /// Scale and zero point of the result.
    pub quantisation: Quantisation,
    /// The range that the result, residual included, is clamped to, in real numbers: `0..6` for
    /// ReLU6, `-∞..∞` for none.
    pub range: (f32, f32),
    /// Scale and zero point of what is added to the result, if anything is.
    pub residual: Option<Quantisation>,
}

/// Parameters of the step from accumulators to bytes, one per output channel:
///
/// `q = clamp(round(accumulator · multiplier + addend + r · residual_multiplier), low, high)`
///
/// in single precision with fused multiply-adds and rounding to even, in this order; so all machines
/// give the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantisation {
    /// The input's zero point, which is also what padding is filled with.
    pub(crate) zero_point: u8,
    /// What an accumulator starts from: minus the zero point (and the machine's offset) times
    /// the sum of the weights.
    pub(crate) start: Vec<i32>,
    pub(crate) multipliers: Vec<f32>,
    pub(crate) addends: Vec<f32>,
    pub(crate) low: u8,
    pub(crate) high: u8,
    /// Ratio of the residual's scale to the result's.
    pub(crate) residual: Option<f32>,
}

impl Requantisation {
    /// Whether the range to clamp to is that of bytes.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn takes_all_bytes(&self) -> bool {
        (self.low, self.high) == (0, u8::MAX)
    }

    pub(crate) fn new(
        scales: &[f32],
        bias: &[f32],
        sums: &[i32],
        (inputs, offset): (usize, i32),
        input: Quantisation,
        output: StaticOutput,
    ) -> Result<Self, KernelError> {
        let StaticOutput { quantisation, range: (low, high), residual } = output;
        input.check("input scale")?;
        quantisation.check("output scale")?;
        if low.is_nan() || high.is_nan() || low > high {
            return Err(KernelError::EmptyRange { low, high });
        }
        let step = f64::from(quantisation.scale);
        let mut constant = f64::from(quantisation.zero_point);
        if let Some(residual) = residual {
            residual.check("residual scale")?;
            constant -= f64::from(residual.zero_point) * f64::from(residual.scale) / step;
        }
        let ratio = f64::from(input.scale) / step;
        let multipliers: Vec<f32> = scales.iter().map(|&s| (f64::from(s) * ratio) as f32).collect();
        let addends: Vec<f32> =
            bias.iter().map(|&b| (f64::from(b) / step + constant) as f32).collect();
        KernelError::check_finite("multiplier", &multipliers)?;
        KernelError::check_finite("addend", &addends)?;
        let residual = residual.map(|r| (f64::from(r.scale) / step) as f32);
        // The largest result there can be must still be an i32, to be clamped.
        let largest = |values: &[f32]| values.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        let most = largest(&multipliers) * (255 * 127) as f32 * inputs as f32
            + largest(&addends)
            + residual.unwrap_or(0.0) * 255.0;
        if most.is_nan() || most > (1 << 30) as f32 {
            return Err(KernelError::Overflow { scale: quantisation.scale });
        }
        Ok(Self {
            zero_point: input.zero_point,
            start: sums
                .iter()
                .map(|&sum| sum.wrapping_mul(offset - i32::from(input.zero_point)))
                .collect(),
            multipliers,
            addends,
            low: quantisation.quantise(low),
            high: quantisation.quantise(high),
            residual,
        })
    }
}
