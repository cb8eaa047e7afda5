//! What the loop sees, for others to look at.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use sextant::CompiledLabels;
use sextant::watch::{Counts, FramePicture, Seen, Watcher};

use super::super::super::output::six_digits;
use super::super::super::thumbnail;
use super::super::events::{EventLine, Time};
use super::super::service::memory_bytes;

/// Events that are remembered for who looks later.
const EVENTS: usize = 200;
/// How long after a picture was asked for more are taken from the loop.
const INTEREST: Duration = Duration::from_secs(5);
/// Longest side of the live picture, in pixels.
const SIDE: u32 = 960;
const QUALITY: u8 = 80;
/// A loop that has not gone round for so long hangs.
const HANGS: Duration = Duration::from_secs(60);

/// A picture of the moment; it becomes a JPEG once, when the first client wants it.
pub struct Shot {
    /// Counts the pictures that were taken.
    pub serial: u64,
    /// When it was taken.
    pub at: Instant,
    picture: FramePicture,
    jpeg: OnceLock<Option<Arc<[u8]>>>,
}

impl Shot {
    /// The picture as a JPEG; none where it cannot be encoded.
    pub fn jpeg(&self) -> Option<Arc<[u8]>> {
        let encode = || {
            let jpeg = thumbnail::jpeg(&*self.picture.picture()?, SIDE, QUALITY);
            jpeg.ok().map(Arc::from)
        };
        self.jpeg.get_or_init(encode).clone()
    }
}

/// What is on the board.
pub struct State {
    /// Counts the label sets.
    version: u64,
    /// Counts the frames that were looked at.
    pub looked: u64,
    labels: Vec<(String, bool)>,
    /// Scores and presence of each label, region after region.
    scores: Vec<Vec<(f32, bool)>>,
    unknown: Vec<bool>,
    moment: Option<Time>,
    /// The latest picture that somebody asked for.
    pub shot: Option<Arc<Shot>>,
    events: VecDeque<(u64, Arc<str>)>,
    next_event: u64,
    counts: Counts,
    metrics: String,
    fps: f64,
    framed: Option<Instant>,
    beaten: Instant,
    /// Whether the watch is over.
    pub ended: bool,
}

/// The state, and a bell that rings when it changes.
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
    regions: Vec<Option<String>>,
    source: String,
    enter: f32,
    started: Instant,
    /// Until when pictures are wanted, in milliseconds after the start.
    wanted: AtomicU64,
    pending: Mutex<Option<CompiledLabels>>,
}

impl Board {
    /// An empty board of these regions, a source called so, and the score to enter with.
    pub fn new(regions: &[Option<String>], source: String, enter: f32) -> Self {
        // Numbers of events go up over restarts, so that a client can ask for what it missed.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = Instant::now();
        let state = State {
            version: 0,
            looked: 0,
            labels: Vec::new(),
            scores: vec![Vec::new(); regions.len()],
            unknown: vec![false; regions.len()],
            moment: None,
            shot: None,
            events: VecDeque::with_capacity(EVENTS),
            next_event: since.map_or(1, |d| d.as_millis() as u64),
            counts: Counts::default(),
            metrics: String::new(),
            fps: 0.0,
            framed: None,
            beaten: now,
            ended: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            regions: regions.to_vec(),
            source,
            enter,
            started: now,
            wanted: AtomicU64::new(0),
            pending: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The labels are those of `watcher` from now on.
    pub fn begin(&self, watcher: &Watcher<'_>) {
        let scene = watcher.scene();
        // Parts of others stand last, and are nobody's business.
        let labels = scene.names().iter().enumerate().filter(|(at, _)| !scene.is_part(*at));
        let labels = labels.map(|(at, name)| (name.clone(), !scene.is_shown(at))).collect();
        let mut state = self.lock();
        state.version += 1;
        state.labels = labels;
        state.scores.iter_mut().for_each(Vec::clear);
        self.changed.notify_all();
    }

    /// Takes what a frame gave, and its picture if somebody looks.
    pub fn frame(&self, frame: &mut Seen, watcher: &Watcher<'_>) {
        let wanted =
            self.wanted.load(Ordering::Relaxed) > self.started.elapsed().as_millis() as u64;
        let picture = frame.picture.take().filter(|_| wanted);
        let mut state = self.lock();
        let state = &mut *state;
        for region in 0..self.regions.len() {
            let scores = watcher.scores(region);
            let pairs = scores.iter().copied().zip(watcher.presence(region));
            state.scores[region].clear();
            state.scores[region].extend(pairs);
            state.unknown[region] = !scores.is_empty() && watcher.scene().is_unknown(scores);
        }
        state.looked += 1;
        state.moment = Some(Time::of(frame.moment));
        let now = Instant::now();
        if let Some(before) = state.framed.replace(now) {
            // Smoothed over about a second.
            let gap = now.duration_since(before).as_secs_f64().clamp(1e-4, 60.0);
            let weight = 1.0 - (-gap).exp();
            state.fps += weight * (1.0 / gap - state.fps);
        }
        if let Some(picture) = picture {
            let serial = state.shot.as_ref().map_or(0, |shot| shot.serial) + 1;
            let shot = Shot { serial, at: now, picture, jpeg: OnceLock::new() };
            state.shot = Some(Arc::new(shot));
        }
        self.changed.notify_all();
    }

    /// Remembers an event.
    pub fn event(&self, line: &EventLine<'_>) {
        let Ok(line) = serde_json::to_string(line) else { return };
        let mut state = self.lock();
        if state.events.len() == EVENTS {
            state.events.pop_front();
        }
        let number = state.next_event;
        state.next_event += 1;
        state.events.push_back((number, line.into()));
        self.changed.notify_all();
    }

    /// The loop goes round; `metrics` replaces the text for Prometheus.
    pub fn beat(&self, counts: &Counts, metrics: Option<String>) {
        let mut state = self.lock();
        state.beaten = Instant::now();
        state.counts = *counts;
        if let Some(metrics) = metrics {
            state.metrics = metrics;
        }
    }

    /// The watch is over.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Has the loop watch these labels from its next frame on.
    pub fn put_labels(&self, labels: CompiledLabels) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(labels);
    }

    /// The labels that were put last, once.
    pub fn take_labels(&self) -> Option<CompiledLabels> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Has the loop leave pictures here for some time.
    pub fn want_pictures(&self) {
        let until = (self.started.elapsed() + INTEREST).as_millis() as u64;
        self.wanted.fetch_max(until, Ordering::Relaxed);
    }

    /// Looks at each change until there is something to see, at most for `limit`.
    pub fn wait<T>(&self, limit: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(seen) = look(&state) {
                return Some(seen);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The text for Prometheus.
    pub fn metrics(&self) -> String {
        self.lock().metrics.clone()
    }

    /// Whether the loop goes round, and how long ago it saw a frame.
    pub fn health(&self) -> (bool, Option<Duration>) {
        let state = self.lock();
        (state.beaten.elapsed() < HANGS && !state.ended, state.framed.map(|at| at.elapsed()))
    }

    /// Everything that the page shows, as JSON.
    pub fn describe(&self, state: &State) -> Value {
        let labels =
            state.labels.iter().map(|(name, hidden)| json!({ "name": name, "negative": hidden }));
        let regions = self.regions.iter().zip(&state.scores).zip(&state.unknown);
        let regions = regions.map(|((name, scores), unknown)| {
            let score = |(score, present): &(f32, bool)| json!([six_digits(*score), present]);
            json!({
                "name": name,
                "unknown": unknown,
                "scores": scores.iter().map(score).collect::<Vec<_>>(),
            })
        });
        // A camera that has stopped has no rate.
        let silence = state.framed.map(|at| at.elapsed().as_secs_f64());
        let fps = if silence.is_some_and(|s| s < 3.0) { state.fps } else { 0.0 };
        json!({
            "source": self.source,
            "enter": six_digits(self.enter),
            "version": state.version,
            "time": state.moment,
            "fps": (fps * 10.0).round() / 10.0,
            "silence": silence.map(|s| (s * 10.0).round() / 10.0),
            "labels": labels.collect::<Vec<_>>(),
            "regions": regions.collect::<Vec<_>>(),
            "counts": state.counts,
            "memory": memory_bytes(),
            "ended": state.ended,
        })
    }

    /// The state now, as JSON.
    pub fn now(&self) -> Value {
        self.describe(&self.lock())
    }
}

impl State {
    /// The events after number `after`, oldest first.
    pub fn events_after(&self, after: u64) -> Vec<(u64, Arc<str>)> {
        self.events.iter().filter(|(number, _)| *number > after).cloned().collect()
    }

    /// The latest event's number.
    pub fn last_event(&self) -> u64 {
        self.next_event - 1
    }
}
