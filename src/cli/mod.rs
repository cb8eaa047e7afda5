//! The command line.

#[cfg(feature = "workbench")]
mod align;
mod bench;
mod contact_sheet;
mod embed;
#[cfg(feature = "workbench")]
mod eval;
#[cfg(feature = "workbench")]
mod eval_compose;
#[cfg(feature = "workbench")]
mod eval_watch;
#[cfg(feature = "workbench")]
mod eval_where;
mod examples;
mod hubs;
mod index;
mod inputs;
mod interrupt;
mod label;
mod labels;
mod model;
mod moment;
mod output;
mod panics;
#[cfg(feature = "workbench")]
mod pca;
mod progress;
#[cfg(feature = "workbench")]
mod quantise;
mod query;
#[cfg(feature = "workbench")]
mod report;
mod row;
mod search;
mod selection;
mod similar;
#[cfg(feature = "workbench")]
mod space;
mod thumbnail;
mod watch;
mod where_;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use panics::quiet_contained_panics;
use sextant::{DEFAULT_MODEL, DecodeLimits, Encoder};

/// Label what a camera sees, and find what it saw: offline, in int8.
#[derive(Debug, Parser)]
#[command(name = "sextant", version, long_version = output::long_version(), max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Model package: a name (see `sextant model list`) or a folder
    #[arg(long, global = true, value_name = "NAME|DIR", default_value = DEFAULT_MODEL)]
    pub model: String,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Refuse pictures of more megapixels than this
    #[arg(long, global = true, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=4000))]
    pub max_megapixels: u64,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more about what is done
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For reading
    Text,
    /// JSON Lines: one object a line
    Json,
    /// Comma-separated values with a header
    Csv,
    /// A NumPy array (`embed` with -o)
    Npy,
    /// A Markdown table (`bench`)
    Markdown,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Zero-shot labels for pictures
    Label(label::LabelArgs),
    /// Work on label sets
    #[command(subcommand)]
    Labels(labels::LabelsCommand),
    /// Embeddings of pictures and texts
    Embed(embed::EmbedArgs),
    /// How alike two pictures or texts are
    Similar(similar::SimilarArgs),
    /// Where in a picture a text is: peak, box and heat map
    Where(where_::WhereArgs),
    #[cfg(feature = "workbench")]
    /// Measure and fit the space that pictures and texts share
    #[command(subcommand)]
    Space(space::SpaceCommand),
    /// Build and keep an index of pictures
    #[command(subcommand)]
    Index(index::IndexCommand),
    /// Find what is in an index, by pictures, by words, or by both
    Search(search::SearchArgs),
    /// Look at, check and import model packages
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Label what a camera sees, steadily: events as JSON lines
    Watch(Box<watch::WatchArgs>),
    #[cfg(feature = "workbench")]
    /// Measure a model offline
    #[command(subcommand)]
    Eval(eval::EvalCommand),
    /// Measure how fast this very computer is
    Bench(bench::BenchArgs),
}

/// Why a command ended early, and with which exit code.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage: exit code 2.
    Usage(String),
    /// A model, label set or index that is damaged or does not fit: exit code 3.
    Unfit(String),
    /// What was asked for could not be done, though nothing is damaged: exit code 1.
    Failed(String),
    /// Whoever read our output went away.
    Closed,
    /// Writing results failed: exit code 1.
    Output(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Output(error),
        }
    }
}

impl From<sextant::PackageError> for Failure {
    fn from(error: sextant::PackageError) -> Self {
        Failure::Unfit(error.to_string())
    }
}

/// How many inputs failed; decides between exit codes 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Inputs that were reported and skipped.
    pub failed: usize,
}

/// A number of results to give: none at all is no request.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("a whole number, 1 or more".to_owned()),
    }
}

/// A text to look for: an empty one has a place in the space, and no meaning.
fn some_text(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("there is nothing in it: give words".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Parses the command line, runs the command and gives the process's exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.execute() {
        Ok(Outcome { failed: 0 }) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(failure) => {
            let (code, message) = match failure {
                Failure::Usage(message) => (2, message),
                Failure::Unfit(message) => (3, message),
                Failure::Failed(message) => (1, message),
                Failure::Output(error) => (1, format!("cannot write the results: {error}")),
                Failure::Closed => (0, String::new()),
            };
            output::complain(&message);
            ExitCode::from(code)
        }
    }
}

impl Cli {
    fn execute(self) -> Result<Outcome, Failure> {
        let threads = self.global.threads.map_or(0, usize::from);
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|e| Failure::Usage(format!("cannot start {threads} threads: {e}")))?;
        let global = &self.global;
        match self.command {
            Command::Label(args) => label::run(&args, global),
            Command::Labels(command) => labels::run(&command, global),
            Command::Embed(args) => embed::run(&args, global),
            Command::Similar(args) => similar::run(&args, global),
            Command::Where(args) => where_::run(&args, global),
            #[cfg(feature = "workbench")]
            Command::Space(command) => space::run(&command, global),
            Command::Index(command) => index::run(&command, global),
            Command::Search(args) => search::run(&args, global),
            Command::Model(command) => model::run(&command, global),
            Command::Watch(args) => watch::run(&args, global),
            #[cfg(feature = "workbench")]
            Command::Eval(command) => eval::run(&command, global),
            Command::Bench(args) => bench::run(&args, global),
        }
    }
}

impl Global {
    /// The encoder that `--model` and the limits ask for.
    pub fn encoder(&self) -> Result<Encoder, Failure> {
        let package = sextant::find_model(&self.model)?;
        Ok(Encoder::with_limits(package, self.limits()))
    }

    /// The same for an inner layer of the image tower, if one is asked for.
    pub fn encoder_at(&self, layer: Option<usize>) -> Result<Encoder, Failure> {
        let Some(layer) = layer else { return self.encoder() };
        let package = sextant::find_model(&self.model)?;
        Encoder::at_layer(package, self.limits(), layer).map_err(|error| match error {
            sextant::EncodeError::NoLayer { .. } => Failure::Usage(error.to_string()),
            error => Failure::Unfit(error.to_string()),
        })
    }

    /// How large a picture may be.
    pub fn limits(&self) -> DecodeLimits {
        let max_pixels = self.max_megapixels * 1_000_000;
        DecodeLimits { max_pixels, ..DecodeLimits::default() }
    }

    /// Refuses formats that a command does not print.
    pub fn require_format(&self, allowed: &[Format]) -> Result<(), Failure> {
        if allowed.contains(&self.format) {
            return Ok(());
        }
        let name = |format: &Format| {
            format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
        };
        let allowed: Vec<_> = allowed.iter().map(name).collect();
        Err(Failure::Usage(format!(
            "this command prints {}, not {}",
            allowed.join(", "),
            name(&self.format)
        )))
    }
}
