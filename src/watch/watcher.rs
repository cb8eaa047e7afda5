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

/// What a [`Watcher`] knew: see [`Watcher::resume`].
#[derive(Debug, Clone)]
pub struct Past {
    names: Vec<String>,
    tracks: Vec<Track>,
    scores: Vec<Vec<f32>>,
}

impl<'a> Watcher<'a> {
    /// A watcher of `regions` regions, at least one.
    pub fn new(scene: Scene<'a>, calm: Calm, regions: usize) -> Self {
        let tracks = vec![Track::default(); (scene.names().len() + 1) * regions.max(1)];
        let scores = vec![Vec::new(); regions.max(1)];
        Self { scene, calm, tracks, scores }
    }

    /// What it knows of the past, for a watcher with other labels.
    pub fn into_past(self) -> Past {
        Past { names: self.scene.names().to_vec(), tracks: self.tracks, scores: self.scores }
    }

    /// A watcher that goes on from the past of one of as many regions: a label that both know
    /// keeps its track. Calls `report` for the labels that were there and are known no more.
    pub fn resume(
        scene: Scene<'a>,
        calm: Calm,
        past: &Past,
        mut report: impl FnMut(Happening<'_>),
    ) -> Self {
        let mut watcher = Self::new(scene, calm, past.scores.len());
        let (count, before) = (watcher.scene.names().len(), past.names.len());
        for (region, scores) in past.scores.iter().enumerate() {
            let tracks = &past.tracks[region * (before + 1)..][..before + 1];
            let own = &mut watcher.tracks[region * (count + 1)..][..count + 1];
            own[count] = tracks[before].clone();
            for (at, label) in past.names.iter().enumerate() {
                let place = watcher.scene.names().iter().position(|name| name == label);
                match place.filter(|&place| watcher.scene.is_shown(place)) {
                    Some(place) => own[place] = tracks[at].clone(),
                    None if tracks[at].is_present() => {
                        let score = scores.get(at).copied().unwrap_or_default();
                        report(Happening { region, label, change: Change::Leave, score });
                    }
                    None => {}
                }
            }
        }
        watcher
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

    /// Whether each label of a region is there now, in the order of the names, and last
    /// [`UNKNOWN`].
    pub fn presence(&self, region: usize) -> impl Iterator<Item = bool> {
        let count = self.scene.names().len() + 1;
        self.tracks[region * count..][..count].iter().map(Track::is_present)
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
