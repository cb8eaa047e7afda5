//! The range of values that a tensor takes over the calibration samples.

/// Bins of a histogram.
const BINS: usize = 2048;

/// Ends tried on each side.
const STEPS: usize = 40;

/// The smallest part of a side that is kept.
const SMALLEST_PART: f64 = 0.3;

/// A histogram whose bins double in width when a value falls outside.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    /// Half of the width covered, centred on zero.
    reach: f32,
    counts: Vec<u64>,
    low: f32,
    high: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        let (low, high) = (f32::INFINITY, f32::NEG_INFINITY);
        Self { reach: 0.0, counts: vec![0; BINS], low, high }
    }
}

impl Histogram {
    /// Takes values in; those that are not finite are left out.
    pub fn add(&mut self, values: &[f32]) {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        let largest = finite().fold(0f32, |m, v| m.max(v.abs()));
        if largest > self.reach {
            self.grow(largest);
        }
        for value in finite() {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
            let bin = (value / self.reach + 1.0) * (BINS / 2) as f32;
            self.counts[(bin as usize).min(BINS - 1)] += 1;
        }
    }

    fn grow(&mut self, reach: f32) {
        if self.reach == 0.0 {
            self.reach = reach.max(f32::MIN_POSITIVE);
        }
        while self.reach < reach {
            let mut halved = vec![0; BINS];
            for (bin, count) in self.counts.iter().enumerate() {
                halved[BINS / 4 + bin / 2] += count;
            }
            self.counts = halved;
            self.reach *= 2.0;
        }
    }

    /// The range whose 256 steps represent the values with the smallest squared error, values outside
    /// being clamped; `None` if nothing was seen.
    pub fn best_range(&self) -> Option<(f32, f32)> {
        if self.low > self.high {
            return None;
        }
        let (low, high) = (f64::from(self.low.min(0.0)), f64::from(self.high.max(0.0)));
        let part = |step: usize| SMALLEST_PART + (1.0 - SMALLEST_PART) * step as f64 / STEPS as f64;
        let mut best = (low, high);
        let mut error = self.error(best);
        // One side after the other, twice: the sides hardly depend on each other.
        for _ in 0..2 {
            for step in 0..=STEPS {
                for candidate in [(low * part(step), best.1), (best.0, high * part(step))] {
                    let found = self.error(candidate);
                    if found < error {
                        (best, error) = (candidate, found);
                    }
                }
            }
        }
        Some((best.0 as f32, best.1 as f32))
    }

    /// The squared error of quantising to 256 steps over a range.
    fn error(&self, (low, high): (f64, f64)) -> f64 {
        let step = (high - low) / 255.0;
        let rounding = step * step / 12.0;
        let width = 2.0 * f64::from(self.reach) / BINS as f64;
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bin, count)| {
                let value = (bin as f64 + 0.5) * width - f64::from(self.reach);
                let outside = (low - value).max(value - high).max(0.0);
                *count as f64 * if outside > 0.0 { outside * outside } else { rounding }
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_spread_keeps_its_ends() {
        let mut histogram = Histogram::default();
        let values: Vec<f32> = (-300..=700).map(|i| i as f32 / 100.0).collect();
        values.chunks(7).for_each(|part| histogram.add(part));
        let (low, high) = histogram.best_range().unwrap();
        assert!((low + 3.0).abs() < 0.15 && (high - 7.0).abs() < 0.3, "{low} {high}");
    }

    #[test]
    fn a_lone_outlier_is_clamped() {
        let mut histogram = Histogram::default();
        let values: Vec<f32> = (0..200_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        histogram.add(&[30.0]);
        (0..20).for_each(|_| histogram.add(&values));
        let (low, high) = histogram.best_range().unwrap();
        assert!(low == 0.0 && high < 15.0, "{low} {high}");
    }

    #[test]
    fn nothing_seen_and_zeros_are_no_trouble() {
        assert_eq!(Histogram::default().best_range(), None);
        let mut histogram = Histogram::default();
        histogram.add(&[0.0, f32::NAN, 0.0]);
        assert_eq!(histogram.best_range(), Some((0.0, 0.0)));
    }
}
