//! Events as JSON lines.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;
use serde::Serialize;
use sextant::watch::{Change, Counts, Happening, Moment, Seen, UNKNOWN, Watcher};

use super::super::output::{json_line, six_digits, stdout};

/// One line of output.
#[derive(Debug, Serialize)]
pub struct EventLine<'a> {
    /// Position in a recording in seconds, or the time of day (RFC 3339, UTC).
    pub time: Time,
    /// Number of the frame, from 0.
    pub frame: u64,
    /// "enter", "leave" or "sample".
    pub event: &'static str,
    /// The label.
    pub label: &'a str,
    /// Its score.
    pub score: f64,
    /// The region, where regions are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<&'a str>,
}

/// A time as it is printed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Time {
    /// Seconds.
    Position(f64),
    /// RFC 3339.
    Clock(String),
}

impl Time {
    /// How a moment is printed.
    pub fn of(moment: Moment) -> Self {
        match moment {
            Moment::Position(seconds) => Self::Position((seconds * 1000.0).round() / 1000.0),
            Moment::Clock(time) => {
                let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
                Self::Clock(format!("{time:.3}"))
            }
        }
    }
}

/// The name of a change.
pub fn name_of(change: Change) -> &'static str {
    match change {
        Change::Enter => "enter",
        Change::Leave => "leave",
    }
}

/// Prints events as they happen.
pub struct Printer {
    regions: Vec<Option<String>>,
    unknown: bool,
    sample: Option<f64>,
    sampled: f64,
    /// Whether a status line stands where an event is to be printed.
    beside_status: bool,
}

impl Printer {
    /// A printer for these regions; `status` says that a status line is shown.
    pub fn new(
        regions: Vec<Option<String>>,
        unknown: bool,
        sample: Option<f64>,
        status: bool,
    ) -> Self {
        let beside_status = status && std::io::stdout().is_terminal();
        Self { regions, unknown, sample, sampled: f64::NEG_INFINITY, beside_status }
    }

    /// Takes the status line away.
    fn make_room(&self) {
        if self.beside_status {
            eprint!("\r\x1b[K");
        }
    }

    /// Whether "unknown" is an event.
    pub fn tells_unknown(&self) -> bool {
        self.unknown
    }

    /// The line of an event.
    pub fn line<'a>(&'a self, frame: &Seen, happening: &Happening<'a>) -> EventLine<'a> {
        EventLine {
            time: Time::of(frame.moment),
            frame: frame.number,
            event: name_of(happening.change),
            label: happening.label,
            score: six_digits(happening.score),
            region: self.regions[happening.region].as_deref(),
        }
    }

    /// Prints one event at once: whoever reads them wants to act.
    pub fn event(&self, line: &EventLine<'_>) -> std::io::Result<()> {
        self.make_room();
        let mut out = stdout();
        json_line(&mut out, line)?;
        out.flush()
    }

    /// Prints the best label of each region, if it is time for that.
    pub fn sample(&mut self, frame: &Seen, watcher: &Watcher<'_>) -> std::io::Result<()> {
        let Some(step) = self.sample.filter(|step| frame.time - self.sampled >= *step) else {
            return Ok(());
        };
        self.sampled = if self.sampled.is_finite() && frame.time - self.sampled < 2.0 * step {
            self.sampled + step
        } else {
            frame.time
        };
        self.make_room();
        let mut out = stdout();
        for (region, name) in self.regions.iter().enumerate() {
            let (scene, scores) = (watcher.scene(), watcher.scores(region));
            let shown = scores.iter().enumerate().filter(|(at, _)| scene.is_shown(*at));
            let Some((best, score)) = shown.max_by(|a, b| a.1.total_cmp(b.1)) else { continue };
            let unknown = scene.is_unknown(scores);
            let line = EventLine {
                time: Time::of(frame.moment),
                frame: frame.number,
                event: "sample",
                label: if unknown { UNKNOWN } else { &scene.names()[best] },
                score: six_digits(*score),
                region: name.as_deref(),
            };
            json_line(&mut out, &line)?;
        }
        out.flush()
    }
}

/// What happened to all frames, for a person.
pub fn summary(counts: &Counts) -> String {
    let looked = counts.encoded + counts.still;
    let saved = 100.0 * counts.still as f64 / looked.max(1) as f64;
    let mut text = format!(
        "{} frames: {} encoded, {} still ({saved:.0} % of the work saved)",
        counts.frames, counts.encoded, counts.still
    );
    for (count, what) in [
        (counts.passed_over, "passed over"),
        (counts.dropped, "dropped"),
        (counts.damaged, "damaged"),
        (counts.garbage_bytes, "bytes of garbage"),
        (counts.reconnects, "reconnects"),
        (counts.failed_actions, "failed actions"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}
