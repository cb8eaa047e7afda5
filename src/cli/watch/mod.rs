//! `sextant watch`.

mod actions;
mod events;
#[cfg(feature = "http")]
mod http;
mod keep;
#[cfg(feature = "mqtt")]
mod mqtt;
mod outputs;
mod service;
mod session;
mod source_name;
mod thumbnails;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sextant::watch::{
    Calm, Frames, MotionGate, PrepareOptions, Region, Rules, Scene, Source, SourceOptions, View,
    WatchError, Watcher, add_kinds, is_absence,
};
use sextant::{CompiledLabels, Encoder, Label, LabelSet};

use self::actions::Actions;
use self::events::Printer;
use self::keep::{Keep, KeepArgs};
use self::outputs::{OutputArgs, Outputs, Surroundings};
use self::service::Service;
use self::session::Session;
use super::interrupt::Interrupt;
use super::label::{LabelSource, compile_set, label_failure};
use super::output::complain;
use super::{Failure, Format, Global, Outcome};

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
    #[command(flatten)]
    outputs: OutputArgs,
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
    /// Size that a camera of this computer is asked for; it gives the nearest it can
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = size)]
    camera_size: [u32; 2],
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
    /// Two frames in a row that both score this are enough for a label to enter
    #[arg(long, value_name = "P", default_value_t = Calm::default().sure, value_parser = share)]
    sure: f32,
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

fn size(text: &str) -> Result<[u32; 2], String> {
    let parsed = text.split_once(['x', '×']).and_then(|(width, height)| {
        let [width, height] = [width.trim().parse().ok()?, height.trim().parse().ok()?];
        (width > 0 && height > 0).then_some([width, height])
    });
    parsed.ok_or_else(|| "a size is written 1280x720".to_owned())
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
            sure: self.sure,
            enter_window: self.enter_window,
            leave_window: self.leave_window,
            least_stay: self.min_stay,
            cool_down: self.cool_down,
            ..Calm::default()
        })
    }

    /// The scene of these labels, among which those of `--absence` must be.
    pub fn scene<'a>(
        &self,
        labels: &'a CompiledLabels,
        encoder: &'a Encoder,
    ) -> Result<Scene<'a>, Failure> {
        match self.absence.iter().find(|name| !has_label(labels, name)) {
            Some(name) => Err(Failure::Usage(format!("--absence {name:?}: no such label"))),
            None => Ok(self.changed_scene(labels, encoder)),
        }
    }

    /// The scene of labels that were typed later: names of `--absence` may be gone, and where all
    /// are, their words say which labels are of absence.
    fn changed_scene<'a>(&self, labels: &'a CompiledLabels, encoder: &'a Encoder) -> Scene<'a> {
        let by_name = self.absence.iter().any(|name| has_label(labels, name));
        let absent = |name: &str| match by_name {
            true => self.absence.iter().any(|absent| absent == name),
            false => is_absence(name),
        };
        Scene::new(labels, encoder.package().manifest(), &absent, self.multi)
    }

    /// Opens the source.
    pub fn open(
        &self,
        source: &str,
        encoder: &Arc<Encoder>,
        keep_pictures: bool,
    ) -> Result<Frames, Failure> {
        let fps = (self.fps > 0.0).then_some(self.fps);
        let mut options = SourceOptions::default();
        options.input_rate = self.input_rate;
        options.new_only = self.new_only;
        options.fps = fps;
        options.camera_size = self.camera_size;
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
        options.encoders = rayon::current_num_threads();
        options.keep_pictures = keep_pictures;
        options.limits = encoder.limits().clone();
        Frames::start(source, encoder, options).map_err(source_failure)
    }

    /// The names of the regions; one without a name where there are none.
    pub fn regions(&self) -> Vec<Option<String>> {
        match &self.roi[..] {
            [] => vec![None],
            regions => regions.iter().map(|region| Some(region.name().to_owned())).collect(),
        }
    }
}

fn has_label(labels: &CompiledLabels, name: &str) -> bool {
    labels.labels().iter().any(|label| label.name == name)
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
    let encoder = Arc::new(global.encoder()?);
    let mut labels = compile_labels(&args.labels, &rules, &encoder, global)?;
    encoder.load_image().map_err(|e| Failure::Unfit(e.to_string()))?;
    let mut scene = args.seeing.scene(&labels, &encoder)?;
    let regions = args.seeing.regions();
    let surroundings = Surroundings {
        encoder: &encoder,
        labels: &args.labels,
        rules: &rules,
        regions: &regions,
        source: &args.source,
        enter: calm.enter,
        unknown: args.unknown,
        index: args.keep.folder(),
    };
    let outputs = Outputs::start(&args.outputs, &surroundings, global)?;
    let actions = Actions::new(rules, scene.names(), &regions)?;
    let keep = Keep::open(&args.keep, &args.source, &args.seeing.roi, &encoder)?;
    let keep_pictures =
        actions.want_pictures() || outputs.want_pictures() || args.keep.want_pictures();
    let frames = args.seeing.open(&args.source, &encoder, keep_pictures)?;
    let service = Service::new(args.status && !global.quiet, args.metrics.clone(), regions.clone());
    let status = service.shows_status();
    let mut session = Session {
        encoder: &encoder,
        frames: &frames,
        interrupt: Interrupt::listen(),
        printer: Printer::new(regions.clone(), args.unknown, args.sample, status),
        actions,
        keep,
        service,
        outputs,
        latest: Vec::new(),
    };
    session.service.ready();
    let mut watcher = Watcher::new(scene, calm, regions.len());
    session.outputs.begin(&watcher);
    // Round once for each label set.
    while let Some((changed, frame)) = session.watch(&mut watcher)? {
        let past = watcher.into_past();
        labels = changed;
        scene = args.seeing.changed_scene(&labels, &encoder);
        watcher = session.resume(scene, calm, &past, &frame)?;
        session.take(*frame, &mut watcher)?;
    }
    session.finish(&watcher);
    let counts = frames.counters().counts();
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
pub fn compile_labels(
    source: &LabelSource,
    rules: &Rules,
    encoder: &Encoder,
    global: &Global,
) -> Result<CompiledLabels, Failure> {
    let texts: Vec<&str> =
        rules.rules.iter().filter(|rule| rule.is_text).map(|rule| rule.label.as_str()).collect();
    let mut set = match &source.labels {
        Some(labels) if CompiledLabels::is_compiled(Path::new(labels)) => {
            if texts.is_empty() {
                return source.compile(encoder, global);
            }
            return Err(Failure::Usage(
                "compiled labels take no texts: give the rules labels, or list the labels by name"
                    .to_owned(),
            ));
        }
        Some(labels) => LabelSet::from_argument(labels).map_err(label_failure)?,
        None if texts.is_empty() => return source.compile(encoder, global),
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
    compile_set_with_kinds(set, &source.template, encoder, global)
}

/// Embeds a label set, in which a word like "person" also means those it is seldom said of.
fn compile_set_with_kinds(
    mut set: LabelSet,
    templates: &[String],
    encoder: &Encoder,
    global: &Global,
) -> Result<CompiledLabels, Failure> {
    let of_model = &encoder.package().manifest().templates;
    let of_set = set.templates.clone().unwrap_or_else(|| of_model.clone());
    add_kinds(&mut set, if templates.is_empty() { &of_set } else { templates });
    compile_set(&set, templates, encoder, global)
}
