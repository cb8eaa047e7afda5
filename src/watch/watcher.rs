//! From scores to events, for every label of every region.

use super::{Calm, Change, Scene, Track};
use crate::embedding::{Embedding, EmbeddingError};

/// The name under which it is reported that no label fits.
pub const UNKNOWN: &str = "unknown";

/// What happened in one region at one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Happening<'a> {
    /// Position in the list of regions.
    pub region: usize,
    /// The label, or [`UNKNOWN`].
    pub label: &'a str,
    /// It came or it went.
    pub change: Change,
    /// Mean score of the frames that agreed.
    pub score: f32,
}

/// Follows the labels of a scene over time, in each region on its own.
#[derive(Debug)]
pub struct Watcher<'a> {
    scene: Scene<'a>,
    calm: Calm,
    /// One track a label, and one more for "unknown", region after region.
    tracks: Vec<Track>,
    /// The latest scores of each region.
    scores: Vec<Vec<f32>>,
}

impl<'a> Watcher<'a> {
    /// A watcher of `regions` regions, at least one.
    pub fn new(scene: Scene<'a>, calm: Calm, regions: usize) -> Self {
        let tracks = vec![Track::default(); (scene.names().len() + 1) * regions.max(1)];
        let scores = vec![Vec::new(); regions.max(1)];
        Self { scene, calm, tracks, scores }
    }

    /// The scene.
    pub fn scene(&self) -> &Scene<'a> {
        &self.scene
    }

    /// The latest scores of a region, one a label; empty before its first frame.
    pub fn scores(&self, region: usize) -> &[f32] {
        &self.scores[region]
    }

    /// The labels that are there now, with their latest scores.
    pub fn present(&self, region: usize) -> impl Iterator<Item = (&str, f32)> {
        let count = self.scene.names().len();
        let tracks = &self.tracks[region * (count + 1)..][..count];
        let scores = self.scores[region].iter();
        let all = self.scene.names().iter().zip(tracks).zip(scores);
        all.filter(|((_, track), _)| track.is_present())
            .map(|((name, _), &score)| (name.as_str(), score))
    }

    /// Takes the embedding of a region's part of a frame.
    ///
    /// # Errors
    /// [`EmbeddingError::SpaceMismatch`].
    pub fn look(&mut self, region: usize, embedding: &Embedding) -> Result<(), EmbeddingError> {
        self.scene.score(embedding, &mut self.scores[region])
    }

    /// Lets time go on to a frame at `time` seconds, with the latest scores: those of the frame,
    /// or the ones before where nothing has moved since. Calls `report` for what happened.
    pub fn step(&mut self, time: f64, mut report: impl FnMut(Happening<'_>)) {
        let count = self.scene.names().len();
        for (region, scores) in self.scores.iter().enumerate() {
            if scores.is_empty() {
                continue;
            }
            let tracks = &mut self.tracks[region * (count + 1)..][..count + 1];
            let unknown = if self.scene.is_unknown(scores) { 1.0 } else { 0.0 };
            let names = self.scene.names().iter().map(String::as_str).chain([UNKNOWN]);
            // Who leaves is told before who comes: a lamp that both switch ends up right.
            let mut came = heapless::Vec::<_, 16>::new();
            for (at, (label, &score)) in names.zip(scores.iter().chain([&unknown])).enumerate() {
                if at < count && !self.scene.is_shown(at) {
                    continue;
                }
                let Some((change, score)) = tracks[at].update(time, score, &self.calm) else {
                    continue;
                };
                let happening = Happening { region, label, change, score };
                match change {
                    Change::Leave => report(happening),
                    Change::Enter => {
                        if let Err(happening) = came.push(happening) {
                            report(happening);
                        }
                    }
                }
            }
            came.into_iter().for_each(&mut report);
        }
    }
}
