//! `sextant watch`.

mod actions;
mod events;
mod keep;
mod service;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sextant::watch::{
    Calm, Change, Frames, Happening, MotionGate, Next, PrepareOptions, Region, Rules, Scene,
    Source, SourceOptions, UNKNOWN, View, WatchError, Watcher, is_absence,
};
use sextant::{CompiledLabels, Embedding, Encoder, Label, LabelSet};

use self::actions::Actions;
use self::events::Printer;
use self::keep::{Keep, KeepArgs};
use self::service::Service;
use super::interrupt::Interrupt;
use super::label::{LabelSource, compile_set, label_failure};
use super::output::complain;
use super::{Failure, Format, Global, Outcome};

/// How long to wait for a frame before looking around.
const PATIENCE: Duration = Duration::from_millis(500);

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// A video or MJPEG file, a folder that fills up, /dev/videoN, an address such as rtsp://…,
    /// or - for MJPEG on standard input
    source: String,
    #[command(flatten)]
    labels: LabelSource,
    #[command(flatten)]
    seeing: Seeing,
    /// Also print a line with the best label every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    sample: Option<f64>,
    /// Also report when nothing in the label set fits, as label "unknown"
    #[arg(long)]
    unknown: bool,
    /// What to do when: a TOML file
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Show a line about what goes on, on a terminal
    #[arg(long)]
    status: bool,
    /// Write counts for Prometheus's text file collector here, every few seconds
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// How frames become scores, and scores events.
#[derive(Debug, Args)]
pub struct Seeing {
    /// Watch a part of the picture: x,y,w,h or name=x,y,w,h, in pixels or in shares of the
    /// picture (0.5,0,0.5,1); repeatable
    #[arg(long, value_name = "REGION")]
    roi: Vec<Region>,
    /// What the encoder sees: the whole picture, or its middle as the model was trained on
    #[arg(long, value_enum, default_value_t = ViewName::Whole)]
    view: ViewName,
    /// Look at most at so many frames a second; 0 for all
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    fps: f64,
    /// Look at every so manyth frame only
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Treat the source as a recording of so many frames a second: nothing is dropped, and times
    /// are positions in it
    #[arg(long, value_name = "FPS", value_parser = positive)]
    input_rate: Option<f64>,
    /// Leave out what a folder holds already
    #[arg(long)]
    new_only: bool,
    /// Skip the encoder while no part of the picture changes by so many levels of 255; 0 never
    #[arg(long, value_name = "LEVELS", default_value_t = 8.0, value_parser = rate)]
    motion: f64,
    /// A label that says what the scene looks like when nothing is there (repeatable) [default:
    /// labels with words like "empty" and "nobody"]
    #[arg(long, value_name = "LABEL")]
    absence: Vec<String>,
    /// Score labels on their own: several may be there at once
    #[arg(long)]
    multi: bool,
    /// A frame speaks for a label from this score on
    #[arg(long, value_name = "P", default_value_t = Calm::default().enter, value_parser = share)]
    enter: f32,
    /// A frame speaks against a label that is there below this score
    #[arg(long, value_name = "P", default_value_t = Calm::default().leave, value_parser = share)]
    leave: f32,
    /// Seconds over which frames must agree that a label enters
    #[arg(long, value_name = "SECONDS", default_value_t = Calm::default().enter_window, value_parser = positive)]
    enter_window: f64,
    /// Seconds over which frames must agree that a label leaves
    #[arg(long, value_name = "SECONDS", default_value_t = Calm::default().leave_window, value_parser = positive)]
    leave_window: f64,
    /// A label that entered stays at least so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Calm::default().least_stay, value_parser = rate)]
    min_stay: f64,
    /// A label that left does not enter again for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Calm::default().cool_down, value_parser = rate)]
    cool_down: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ViewName {
    Whole,
    Middle,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e6).contains(&value) => Ok(value),
        _ => Err("a number from 0 to a million".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    rate(text).and_then(|value| if value > 0.0 { Ok(value) } else { Err("more than 0".to_owned()) })
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a score lies between 0 and 1".to_owned()),
    }
}

impl Seeing {
    /// When labels enter and leave.
    pub fn calm(&self) -> Result<Calm, Failure> {
        if self.leave > self.enter {
            return Err(Failure::Usage("--leave must not be above --enter".to_owned()));
        }
        Ok(Calm {
            enter: self.enter,
            leave: self.leave,
            enter_window: self.enter_window,
            leave_window: self.leave_window,
            least_stay: self.min_stay,
            cool_down: self.cool_down,
            ..Calm::default()
        })
    }

    /// The scene of these labels.
    pub fn scene<'a>(
        &self,
        labels: &'a CompiledLabels,
        encoder: &'a Encoder,
    ) -> Result<Scene<'a>, Failure> {
        for absent in &self.absence {
            if !labels.labels().iter().any(|label| label.name == *absent) {
                return Err(Failure::Usage(format!("--absence {absent:?}: no such label")));
            }
        }
        let absent = |name: &str| match &self.absence[..] {
            [] => is_absence(name),
            names => names.iter().any(|absent| absent == name),
        };
        Ok(Scene::new(labels, encoder.package().manifest(), &absent, self.multi))
    }

    /// Opens the source.
    pub fn open(
        &self,
        source: &str,
        encoder: &Encoder,
        keep_pictures: bool,
    ) -> Result<Frames, Failure> {
        let fps = (self.fps > 0.0).then_some(self.fps);
        let mut options = SourceOptions::default();
        options.input_rate = self.input_rate;
        options.new_only = self.new_only;
        options.fps = fps;
        options.limits = encoder.limits().clone();
        let source = Source::open(source, &options).map_err(source_failure)?;
        let mut options = PrepareOptions::default();
        options.fps = fps;
        options.every = self.every;
        options.view = match self.view {
            ViewName::Whole => View::Whole,
            ViewName::Middle => View::Middle,
        };
        options.regions = self.roi.clone();
        let gate = (self.motion > 0.0).then(|| MotionGate::new(self.motion as f32, 2.0));
        options.gate = gate;
        options.keep_pictures = keep_pictures;
        options.limits = encoder.limits().clone();
        let preprocess = &encoder.package().manifest().image.preprocess;
        Frames::start(source, preprocess, options).map_err(source_failure)
    }

    /// The names of the regions; one without a name where there are none.
    pub fn regions(&self) -> Vec<Option<String>> {
        match &self.roi[..] {
            [] => vec![None],
            regions => regions.iter().map(|region| Some(region.name().to_owned())).collect(),
        }
    }
}

fn source_failure(error: WatchError) -> Failure {
    Failure::Usage(error.to_string())
}

/// Runs the command.
pub fn run(args: &WatchArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json])?;
    let calm = args.seeing.calm()?;
    let rules = match &args.rules {
        Some(path) => Rules::load(path).map_err(|e| Failure::Unfit(e.to_string()))?,
        None => Rules::default(),
    };
    let encoder = global.encoder()?;
    let labels = compile_labels(&args.labels, &rules, &encoder, global)?;
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    let scene = args.seeing.scene(&labels, &encoder)?;
    let regions = args.seeing.regions();
    let actions = Actions::new(rules, scene.names(), &regions)?;
    let keep = Keep::open(&args.keep, &args.source, &encoder)?;
    let frames = args.seeing.open(&args.source, &encoder, actions.want_pictures())?;
    let interrupt = Interrupt::listen();
    let service = Service::new(args.status && !global.quiet, args.metrics.clone());
    let mut session = Session {
        encoder: &encoder,
        watcher: Watcher::new(scene, calm, regions.len()),
        printer: Printer::new(regions, args.unknown, args.sample),
        actions,
        keep,
        service,
    };
    session.service.ready();
    loop {
        let next = frames.next(PATIENCE);
        for notice in frames.counters().take_notices() {
            complain(&notice);
        }
        match next {
            Next::Frame(frame) => session.take(*frame)?,
            Next::Nothing => {}
            Next::End => break,
        }
        session.service.beat(&frames, &session.watcher, &session.keep);
        if interrupt.came() {
            break;
        }
    }
    let counts = frames.counters().counts();
    session.keep.finish();
    session.actions.finish();
    session.service.end(&frames, &session.watcher, &session.keep);
    let ended = frames.finish();
    if !global.quiet {
        complain(&events::summary(&counts));
    }
    let mut failed = usize::from(counts.frames > 0 && counts.damaged >= counts.frames);
    if let Err(error) = ended {
        complain(&error.to_string());
        failed += 1;
    }
    Ok(Outcome { failed })
}

/// The label set, and the texts of the rules.
fn compile_labels(
    source: &LabelSource,
    rules: &Rules,
    encoder: &Encoder,
    global: &Global,
) -> Result<CompiledLabels, Failure> {
    let texts: Vec<&str> =
        rules.rules.iter().filter(|rule| rule.is_text).map(|rule| rule.label.as_str()).collect();
    if texts.is_empty() {
        return source.compile(encoder, global);
    }
    let mut set = match &source.labels {
        Some(labels) if CompiledLabels::is_compiled(Path::new(labels)) => {
            return Err(Failure::Usage(
                "compiled labels take no texts: give the rules labels, or list the labels by name"
                    .to_owned(),
            ));
        }
        Some(labels) => LabelSet::from_argument(labels).map_err(label_failure)?,
        None => LabelSet::default(),
    };
    for text in texts {
        if set.labels.iter().any(|label| label.name == text) {
            continue;
        }
        let prompts = vec![text.to_owned()];
        set.classes.push(set.labels.len());
        set.labels.push(Label { name: text.to_owned(), prompts, ..Label::default() });
    }
    compile_set(&set, &source.template, encoder, global)
}

/// Everything that a frame passes through.
struct Session<'a> {
    encoder: &'a Encoder,
    watcher: Watcher<'a>,
    printer: Printer,
    actions: Actions,
    keep: Keep,
    service: Service,
}

impl Session<'_> {
    fn take(&mut self, frame: sextant::watch::Prepared) -> Result<(), Failure> {
        let mut embeddings: Vec<Embedding> = Vec::with_capacity(frame.grids.len());
        for (region, grid) in frame.grids.iter().enumerate() {
            let embedding = self.encoder.pixel_grid(grid, "frame");
            let embedding = embedding.map_err(|e| Failure::Unfit(e.to_string()))?;
            self.watcher.look(region, &embedding).expect("one encoder has one space");
            embeddings.push(embedding);
        }
        let mut result = Ok(());
        let printer = &mut self.printer;
        let mut collected: Vec<(usize, String, Change, f32)> = Vec::new();
        self.watcher.step(frame.time, |happening: Happening<'_>| {
            if happening.label == UNKNOWN && !printer.tells_unknown() {
                return;
            }
            let written = printer.event(&frame, &happening);
            if result.is_ok() {
                result = written;
            }
            let Happening { region, label, change, score } = happening;
            collected.push((region, label.to_owned(), change, score));
        });
        result?;
        for (region, label, change, score) in &collected {
            let happening = Happening { region: *region, label, change: *change, score: *score };
            let scores = (self.watcher.scene().names(), self.watcher.scores(*region));
            self.actions.take(&frame, &happening, scores, embeddings.get(*region), self.encoder);
        }
        self.printer.sample(&frame, &self.watcher)?;
        self.keep.take(&frame, &embeddings, !collected.is_empty());
        Ok(())
    }
}
