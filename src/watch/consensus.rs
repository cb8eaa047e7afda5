//! When does a label enter, and when does it leave? Not because one frame says so.

use heapless::HistoryBuf;

/// Scores that are kept for one label: two seconds at thirty frames a second.
const RING: usize = 64;

/// How calm the events are. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calm {
    /// A frame speaks for a label from this score on.
    pub enter: f32,
    /// A frame speaks against a label that is there below this score.
    pub leave: f32,
    /// Frames of so many last seconds are asked whether a label enters.
    pub enter_window: f64,
    /// Frames of so many last seconds are asked whether a label leaves.
    pub leave_window: f64,
    /// Share of the frames asked that must agree.
    pub agreement: f32,
    /// Fewest frames that must agree.
    pub least: usize,
    /// Two frames in a row that both score this are enough for a label to enter.
    pub sure: f32,
    /// A label that entered stays at least so long.
    pub least_stay: f64,
    /// A label that left does not enter again for so long.
    pub cool_down: f64,
}

impl Default for Calm {
    fn default() -> Self {
        Self {
            enter: 0.5,
            leave: 0.2,
            enter_window: 0.4,
            leave_window: 2.0,
            agreement: 0.65,
            least: 3,
            sure: 0.55,
            least_stay: 0.5,
            cool_down: 1.0,
        }
    }
}

/// What a label did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there now.
    Enter,
    /// It is gone.
    Leave,
}

/// The recent past of one label.
///
/// ```
/// use sextant::watch::{Calm, Change, Track};
/// let (mut track, calm) = (Track::default(), Calm::default());
/// // One wild frame is nothing; two in a row are something.
/// let scores = [0.0, 0.9, 0.0, 0.0, 0.9, 0.9, 0.9];
/// let changes: Vec<_> =
///     (0..7).filter_map(|i| track.update(i as f64 / 5.0, scores[i], &calm)).collect();
/// assert_eq!(changes.len(), 1);
/// assert_eq!(changes[0].0, Change::Enter);
/// ```
#[derive(Debug, Clone)]
pub struct Track {
    recent: HistoryBuf<(f64, f32), RING>,
    present: bool,
    /// When it last entered or left.
    since: f64,
}

impl Default for Track {
    fn default() -> Self {
        Self { recent: HistoryBuf::new(), present: false, since: f64::NEG_INFINITY }
    }
}

impl Track {
    /// Whether the label is there.
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// Takes the score of a frame at `time` (seconds, never going back) and gives what the label
    /// does now, with the mean score of the frames that agree.
    pub fn update(&mut self, time: f64, score: f32, calm: &Calm) -> Option<(Change, f32)> {
        self.recent.write((time, score));
        let (window, hold) = if self.present {
            (calm.leave_window, calm.least_stay)
        } else {
            (calm.enter_window, calm.cool_down)
        };
        if time - self.since < hold {
            return None;
        }
        let (mut asked, mut agreeing, mut sum) = (0usize, 0usize, 0.0f32);
        // Backwards from the newest: the ring has no order of its own.
        for &(then, score) in self.newest_first() {
            // The frames that must be asked may be older where few come, within reason.
            let reach = if asked < calm.least { 4.0 * window } else { window };
            if time - then > reach {
                break;
            }
            asked += 1;
            let agrees = if self.present { score < calm.leave } else { score >= calm.enter };
            if agrees {
                agreeing += 1;
                sum += score;
            }
        }
        let agreed =
            agreeing >= calm.least.max(1) && agreeing as f32 >= calm.agreement * asked as f32;
        let enough = agreed || (!self.present && self.is_sure(time, calm));
        // The newest frame must not speak against it.
        let against = if self.present { score >= calm.leave } else { score < calm.leave };
        if !enough || against {
            return None;
        }
        self.present = !self.present;
        self.since = time;
        let change = if self.present { Change::Enter } else { Change::Leave };
        Some((change, sum / agreeing as f32))
    }

    /// Whether the newest two frames leave no doubt that the label is there.
    fn is_sure(&self, time: f64, calm: &Calm) -> bool {
        let mut newest = self.newest_first();
        let least = calm.sure.max(calm.enter);
        let mut speaks = || {
            newest
                .next()
                .is_some_and(|&(then, score)| score >= least && time - then <= calm.enter_window)
        };
        speaks() && speaks()
    }

    fn newest_first(&self) -> impl Iterator<Item = &(f64, f32)> {
        let (older, newer) = self.recent.as_slices();
        newer.iter().rev().chain(older.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes of scores at ten frames a second.
    fn changes(scores: &[f32]) -> Vec<(usize, Change)> {
        let (mut track, calm) = (Track::default(), Calm::default());
        let step =
            |(i, &score): (usize, &f32)| Some((i, track.update(i as f64 / 10.0, score, &calm)?.0));
        scores.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn flicker_is_no_event() {
        let alternating: Vec<f32> = (0..200).map(|i| if i % 2 == 0 { 0.9 } else { 0.1 }).collect();
        assert_eq!(changes(&alternating), []);
        let wild: Vec<f32> = (0..200).map(|i| if i % 7 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(changes(&wild), []);
    }

    #[test]
    fn a_visit_is_one_enter_and_one_leave() {
        let mut scores = vec![0.05f32; 200];
        scores[50..120].fill(0.8);
        // Blind for three frames in the middle, twice.
        scores[80..83].fill(0.1);
        scores[100..103].fill(0.1);
        let found = changes(&scores);
        assert_eq!(found.len(), 2);
        assert!(matches!(found[0], (51, Change::Enter)));
        assert!(matches!(found[1], (130..=135, Change::Leave)));
    }

    #[test]
    fn scores_between_the_thresholds_change_nothing() {
        let mut scores = vec![0.8f32; 20];
        scores.extend([0.4; 100]);
        assert_eq!(changes(&scores).len(), 1);
        assert_eq!(changes(&[0.4; 100]), []);
    }

    #[test]
    fn doubtful_frames_must_agree_for_longer() {
        let entered = |score: f32| {
            let mut scores = vec![0.05f32; 40];
            scores[20..].fill(score);
            changes(&scores).first().map(|(at, _)| *at)
        };
        assert_eq!((entered(0.9), entered(0.52), entered(0.49)), (Some(21), Some(22), None));
    }

    #[test]
    fn few_frames_are_asked_further_back() {
        let (mut track, calm) = (Track::default(), Calm::default());
        let enters = (0..6).filter_map(|i| track.update(f64::from(i) * 0.7, 0.9, &calm)).count();
        assert_eq!(enters, 1);
        let (mut track, mut calls) = (Track::default(), 0);
        for i in 0..10 {
            calls += usize::from(track.update(f64::from(i) * 3.0, 0.9, &calm).is_some());
        }
        assert_eq!(calls, 0, "frames three seconds apart say nothing about now");
    }

    #[test]
    fn the_ring_forgets_in_order() {
        let mut scores = vec![0.9f32; 1000];
        scores[500..].fill(0.0);
        assert_eq!(changes(&scores).len(), 2);
    }
}
