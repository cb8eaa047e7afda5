//! The best few of many, in memory fixed beforehand.

use std::cmp::{Ordering, Reverse};

use heapless::binary_heap::{BinaryHeap, Min};

/// Most results of a search.
pub const MAX_RESULTS: usize = 1024;
/// Candidates kept for rescoring.
const CAPACITY: usize = 2 * MAX_RESULTS;

/// A row and its score. Higher scores come first, then lower rows, so that the order of equal
/// scores does not depend on which thread saw them first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub score: f32,
    pub row: u32,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    /// The better candidate is the greater one.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(Reverse(self.row).cmp(&Reverse(other.row)))
    }
}

/// Keeps the best candidates that it was shown.
#[derive(Debug)]
pub(crate) struct Top {
    heap: Box<BinaryHeap<Candidate, Min, CAPACITY>>,
    limit: usize,
    threshold: f32,
}

impl Top {
    /// Keeps `limit` candidates, which is at least 1 and at most twice [`MAX_RESULTS`].
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, CAPACITY);
        Self { heap: Box::default(), limit, threshold: f32::NEG_INFINITY }
    }

    /// A score below this cannot enter.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Shows a candidate. One whose score is not a number never enters.
    pub fn show(&mut self, candidate: Candidate) {
        if candidate.score.is_nan() {
            return;
        }
        if self.heap.len() < self.limit {
            // Cannot fail: the limit is at most the capacity.
            let _ = self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut() {
            if candidate > *worst {
                *worst = candidate;
            }
        }
        if self.heap.len() == self.limit {
            self.threshold = self.heap.peek().map_or(f32::NEG_INFINITY, |worst| worst.score);
        }
    }

    /// Shows the candidates `first`, `first + 1` … with integer scores `dots`, each times its
    /// scale. Sixteen at a time are compared with the threshold before any is looked at.
    pub fn show_run(&mut self, first: u32, dots: &[i32], scales: &[[u8; 4]]) {
        let mut row = first;
        for (dots, scales) in dots.chunks(16).zip(scales.chunks(16)) {
            let mut scores = [f32::NEG_INFINITY; 16];
            for ((score, &dot), scale) in scores.iter_mut().zip(dots).zip(scales) {
                *score = dot as f32 * f32::from_le_bytes(*scale);
            }
            if scores.iter().fold(false, |any, &score| any | (score >= self.threshold)) {
                for (at, &score) in scores[..dots.len()].iter().enumerate() {
                    if score >= self.threshold {
                        self.show(Candidate { score, row: row + at as u32 });
                    }
                }
            }
            row += dots.len() as u32;
        }
    }

    /// Shows all that another one kept.
    pub fn merge(&mut self, other: &Top) {
        other.heap.iter().for_each(|&candidate| self.show(candidate));
    }

    /// The best candidates, best first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        let mut all = self.heap.into_vec().to_vec();
        all.sort_unstable_by_key(|&candidate| Reverse(candidate));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_same_as_sorting_everything() {
        let mut state = 1u32;
        let dots: Vec<i32> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as i32 - 128
            })
            .collect();
        let scales = vec![0.5f32.to_le_bytes(); dots.len()];
        let mut sorted: Vec<Candidate> = (0..)
            .zip(&dots)
            .map(|(row, &dot)| Candidate { score: dot as f32 * 0.5, row })
            .collect();
        sorted.sort_by_key(|&c| Reverse(c));
        for limit in [1, 10, 333, 2048] {
            // Shown in two halves, the later one first, and merged: the order must not matter.
            let (mut late, mut early) = (Top::new(limit), Top::new(limit));
            late.show_run(2500, &dots[2500..], &scales[2500..]);
            early.show_run(0, &dots[..2500], &scales[..2500]);
            late.merge(&early);
            assert_eq!(late.into_sorted(), sorted[..limit]);
        }
    }

    #[test]
    fn scores_that_are_not_numbers_never_enter() {
        let mut top = Top::new(3);
        top.show(Candidate { score: f32::NAN, row: 0 });
        top.show_run(1, &[1, 2], &[f32::NAN.to_le_bytes(), 1f32.to_le_bytes()]);
        assert_eq!(top.into_sorted(), [Candidate { score: 2.0, row: 2 }]);
    }
}
