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
    /// A score below this cannot enter.
    threshold: f32,
}

impl Top {
    /// Keeps `limit` candidates, which is at least 1 and at most twice [`MAX_RESULTS`].
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, CAPACITY);
        Self { heap: Box::default(), limit, threshold: f32::NEG_INFINITY }
    }

    /// Shows a candidate. One whose score is not a number never enters.
    pub fn show(&mut self, candidate: Candidate) {
        if candidate.score.is_nan() {
            return;
        }
        if self.heap.len() < self.limit {
            // Cannot fail: the limit is at most the capacity.
            let _ = self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate > *worst
        {
            *worst = candidate;
        }
        if self.heap.len() == self.limit {
            self.threshold = self.heap.peek().map_or(f32::NEG_INFINITY, |worst| worst.score);
        }
    }

    /// Shows neighbouring rows to several queries at once: `dots` holds the integer scores of
    /// the first row with each query, then those of the next row, and `scales` what the scores
    /// of a row are multiplied by. Most rows enter nowhere, so the thresholds are compared
    /// first, in a way that compiles to vector instructions.
    pub fn show_run(tops: &mut [Top], first: u32, dots: &[i32], scales: &[[u8; 4]]) {
        if let [top] = tops {
            return top.show_column(first, dots, scales);
        }
        let mut thresholds = [f32::INFINITY; 16];
        for (threshold, top) in thresholds.iter_mut().zip(&*tops) {
            *threshold = top.threshold;
        }
        for ((row, dots), scale) in (first..).zip(dots.chunks_exact(tops.len())).zip(scales) {
            let scale = f32::from_le_bytes(*scale);
            let reaches = |(&dot, threshold): (&i32, &f32)| dot as f32 * scale >= *threshold;
            if !dots.iter().zip(&thresholds).fold(false, |any, pair| any | reaches(pair)) {
                continue;
            }
            for ((top, threshold), &dot) in tops.iter_mut().zip(&mut thresholds).zip(dots) {
                let score = dot as f32 * scale;
                if score >= *threshold {
                    top.show(Candidate { score, row });
                    *threshold = top.threshold;
                }
            }
        }
    }

    /// Shows neighbouring rows to one query.
    fn show_column(&mut self, first: u32, dots: &[i32], scales: &[[u8; 4]]) {
        let mut row = first;
        for (dots, scales) in dots.chunks(16).zip(scales.chunks(16)) {
            let mut scores = [f32::NEG_INFINITY; 16];
            for ((score, &dot), scale) in scores.iter_mut().zip(dots).zip(scales) {
                *score = dot as f32 * f32::from_le_bytes(*scale);
            }
            if scores.iter().fold(false, |any, &score| any | (score >= self.threshold)) {
                for (row, &score) in (row..).zip(&scores[..dots.len()]) {
                    if score >= self.threshold {
                        self.show(Candidate { score, row });
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
            late.show_column(2500, &dots[2500..], &scales[2500..]);
            early.show_column(0, &dots[..2500], &scales[..2500]);
            late.merge(&early);
            assert_eq!(late.into_sorted(), sorted[..limit]);
        }
    }

    #[test]
    fn several_queries_keep_what_each_would_alone() {
        let dots: Vec<i32> = (0..3000).map(|i| i * 7919 % 1009).collect();
        let scales: Vec<[u8; 4]> = (0..1000).map(|i| (1.0 + i as f32).to_le_bytes()).collect();
        let mut together: Vec<Top> = (0..3).map(|_| Top::new(20)).collect();
        Top::show_run(&mut together, 5, &dots, &scales);
        for (query, top) in together.into_iter().enumerate() {
            let alone: Vec<i32> = dots.iter().skip(query).step_by(3).copied().collect();
            let mut expected = Top::new(20);
            expected.show_column(5, &alone, &scales);
            assert_eq!(top.into_sorted(), expected.into_sorted());
        }
    }

    #[test]
    fn scores_that_are_not_numbers_never_enter() {
        let mut top = Top::new(3);
        top.show(Candidate { score: f32::NAN, row: 0 });
        top.show_column(1, &[1, 2], &[f32::NAN.to_le_bytes(), 1f32.to_le_bytes()]);
        assert_eq!(top.into_sorted(), [Candidate { score: 2.0, row: 2 }]);
    }
}
