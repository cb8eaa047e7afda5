//! Zero-shot classification accuracy.

use serde::Serialize;

use super::calibration::expected_calibration_error;

/// Bins of the expected calibration error.
const BINS: usize = 15;

/// Counts answers one by one.
#[derive(Debug, Clone, Default)]
pub struct ClassifyTally {
    top1: usize,
    top5: usize,
    answers: Vec<(f32, bool)>,
    unknown: usize,
}

/// What `eval classify` reports. Shares are in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassifyReport {
    /// Pictures measured.
    pub n: usize,
    /// Pictures that could not be read.
    pub failed: usize,
    /// Classes that competed.
    pub classes: usize,
    /// Share whose best label is the true one.
    pub top1: f64,
    /// Share whose five best labels hold the true one.
    pub top5: f64,
    /// Expected calibration error of the best label's score.
    pub ece: f64,
    /// Mean score of the best label.
    pub confidence: f64,
    /// Share called "unknown".
    pub unknown: f64,
}

impl ClassifyTally {
    /// Counts one picture: the true class, a score for every class, and whether the engine said
    /// "unknown". Equal scores rank by class order, as a stable sort would.
    pub fn add(&mut self, truth: usize, scores: &[f32], unknown: bool) {
        let Some(&own) = scores.get(truth) else { return };
        let ahead = scores
            .iter()
            .enumerate()
            .filter(|&(class, &score)| score > own || (score == own && class < truth))
            .count();
        let best = scores.iter().copied().fold(0.0, f32::max);
        self.top1 += usize::from(ahead < 1);
        self.top5 += usize::from(ahead < 5);
        self.unknown += usize::from(unknown);
        self.answers.push((best, ahead < 1));
    }

    /// The report over everything counted.
    pub fn report(&self, classes: usize, failed: usize) -> ClassifyReport {
        let n = self.answers.len();
        let share = |count: usize| count as f64 / n.max(1) as f64;
        let confidence: f64 = self.answers.iter().map(|(score, _)| f64::from(*score)).sum();
        ClassifyReport {
            n,
            failed,
            classes,
            top1: share(self.top1),
            top5: share(self.top5),
            ece: expected_calibration_error(&self.answers, BINS),
            confidence: confidence / n.max(1) as f64,
            unknown: share(self.unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        let mut tally = ClassifyTally::default();
        tally.add(0, &[0.7, 0.1, 0.05, 0.05, 0.05, 0.05], false);
        tally.add(5, &[0.5, 0.2, 0.1, 0.1, 0.05, 0.05], false);
        tally.add(1, &[0.5, 0.5, 0.0, 0.0, 0.0, 0.0], true);
        let report = tally.report(6, 0);
        assert_eq!(report.n, 3);
        assert!((report.top1 - 1.0 / 3.0).abs() < 1e-9);
        assert!((report.top5 - 2.0 / 3.0).abs() < 1e-9);
        assert!((report.unknown - 1.0 / 3.0).abs() < 1e-9);
    }
}
