//! `sextant eval watch`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use sextant::eval::{Visit, WatchReport, compare_visits, read_visits};
use sextant::watch::{Change, Happening, Moment, Next, Rules, UNKNOWN, Watcher};

use super::label::LabelSource;
use super::output::{complain, print_result};
use super::watch::{Seeing, compile_labels};
use super::{Failure, Format, Global, Outcome};

/// Arguments of `eval watch`.
#[derive(Debug, Args)]
pub struct EvalWatchArgs {
    /// The recording
    source: String,
    /// Table: beginning TAB end TAB label, times in seconds
    #[arg(long, value_name = "TSV")]
    truth: PathBuf,
    #[command(flatten)]
    labels: LabelSource,
    #[command(flatten)]
    seeing: Seeing,
}

#[derive(Serialize)]
struct ReportLine {
    #[serde(flatten)]
    watch: WatchReport,
    /// What the label with the best score of each frame, taken as it is, would have given.
    argmax: WatchReport,
    seconds: f64,
    frames: u64,
    encoded: u64,
}

/// Runs the command.
pub fn run(args: &EvalWatchArgs, global: &Global) -> Result<Outcome, Failure> {
    let truth = read_visits(&args.truth).map_err(|e| Failure::Usage(e.to_string()))?;
    let calm = args.seeing.calm()?;
    let encoder = Arc::new(global.encoder()?);
    let labels = compile_labels(&args.labels, &Rules::default(), &encoder, global)?;
    check(&truth, &args.truth, labels.labels().iter().map(|label| label.name.as_str()))?;
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    let scene = args.seeing.scene(&labels, &encoder)?;
    let frames = args.seeing.open(&args.source, &encoder, false)?;
    if frames.is_live() {
        return Err(Failure::Usage(format!("{}: only a recording can be measured", args.source)));
    }
    let mut watcher = Watcher::new(scene, calm, args.seeing.regions().len());
    let (mut calm_visits, mut naive) = (Visits::default(), Visits::default());
    let mut best: Option<String> = None;
    let mut seconds = 0.0;
    loop {
        let frame = match frames.next(Duration::from_secs(1)) {
            Next::Frame(frame) => frame,
            Next::Nothing => continue,
            Next::End => break,
        };
        let Moment::Position(time) = frame.moment else { continue };
        seconds = time;
        for (region, embedding) in frame.embeddings.iter().enumerate() {
            watcher.look(region, embedding).expect("one encoder has one space");
        }
        let (scene, scores) = (watcher.scene(), watcher.scores(0));
        let shown = scores.iter().enumerate().filter(|(at, _)| scene.is_shown(*at));
        let now = shown.max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| scene.names()[at].clone());
        if now != best {
            best.iter().for_each(|label| naive.leave(label, time));
            now.iter().for_each(|label| naive.enter(label, time));
            best = now;
        }
        if global.verbose {
            let scores: Vec<String> = scores.iter().map(|score| format!("{score:.3}")).collect();
            complain(&format!("{time:.2} s: {}", scores.join(" ")));
        }
        watcher.step(frame.time, |happening: Happening<'_>| match happening.change {
            _ if happening.label == UNKNOWN => {}
            Change::Enter => calm_visits.enter(happening.label, time),
            Change::Leave => calm_visits.leave(happening.label, time),
        });
    }
    let counts = frames.counters().counts();
    frames.counters().take_notices().iter().for_each(|notice| complain(notice));
    frames.finish().map_err(|e| Failure::Usage(e.to_string()))?;
    let line = ReportLine {
        watch: compare_visits(&truth, &calm_visits.end(), seconds),
        argmax: compare_visits(&truth, &naive.end(), seconds),
        seconds,
        frames: counts.frames,
        encoded: counts.encoded,
    };
    print(&line, global.format)?;
    Ok(Outcome::default())
}

fn check<'a>(
    truth: &[Visit],
    file: &Path,
    mut labels: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Failure> {
    match truth.iter().find(|visit| !labels.clone().any(|label| label == visit.label)) {
        None => Ok(()),
        Some(visit) => Err(Failure::Usage(format!(
            "{}: no label is called \"{}\"{}",
            file.display(),
            visit.label,
            labels.next().map(|first| format!("; the first is \"{first}\"")).unwrap_or_default()
        ))),
    }
}

/// Visits in the making.
#[derive(Default)]
struct Visits(Vec<Visit>);

impl Visits {
    fn enter(&mut self, label: &str, from: f64) {
        self.0.push(Visit { from, until: f64::INFINITY, label: label.to_owned() });
    }

    fn leave(&mut self, label: &str, until: f64) {
        let open = |visit: &&mut Visit| visit.label == label && visit.until.is_infinite();
        if let Some(visit) = self.0.iter_mut().find(open) {
            visit.until = until;
        }
    }

    fn end(self) -> Vec<Visit> {
        self.0
    }
}

fn print(line: &ReportLine, format: Format) -> std::io::Result<()> {
    print_result(line, format, |out| {
        writeln!(
            out,
            "{:.1} s, {} frames ({} encoded), {} true visits",
            line.seconds, line.frames, line.encoded, line.watch.visits
        )?;
        writeln!(out, "               consensus   per-frame best")?;
        let (ours, naive) = (&line.watch, &line.argmax);
        let delay = |d: Option<f64>| d.map_or("–".to_owned(), |d| format!("{d:.2} s"));
        for (name, a, b) in [
            ("events", ours.events.to_string(), naive.events.to_string()),
            ("precision", format!("{:.3}", ours.precision), format!("{:.3}", naive.precision)),
            ("recall", format!("{:.3}", ours.recall), format!("{:.3}", naive.recall)),
            (
                "per visit",
                format!("{:.2}", ours.events_per_visit),
                format!("{:.2}", naive.events_per_visit),
            ),
            (
                "per hour",
                format!("{:.0}", ours.events_per_hour),
                format!("{:.0}", naive.events_per_hour),
            ),
            ("median delay", delay(ours.median_delay), delay(naive.median_delay)),
        ] {
            writeln!(out, "{name:<14} {a:>9}   {b:>14}")?;
        }
        writeln!(out, "\nconsensus      visits  found  events  right  median  longest delay")?;
        for label in &ours.labels {
            let [name, median, longest] =
                [label.label.clone(), delay(label.median_delay), delay(label.longest_delay)];
            let (visits, found) = (label.visits, label.found);
            let (events, right) = (label.events, label.right);
            writeln!(
                out,
                "{name:<20} {visits}  {found:>5}  {events:>6}  {right:>5}  {median:>6}  {longest:>7}"
            )?;
        }
        Ok(())
    })
}
