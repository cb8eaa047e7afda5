//! `sextant bench`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, builder::TypedValueParser};
use sextant::bench::{BenchError, BenchOptions, BenchReport, Budget, Stage, Step};

use super::output::{json_line, stdout};
use super::progress::Progress;
use super::{Failure, Format, Global, Outcome};

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Runs of each step
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    iterations: u32,
    /// Stop repeating a step after this many seconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Picture to decode and label [default: synthetic ones of 640×480 and 4000×3000]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Lengths of texts in tokens
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [8, 77],
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    tokens: Vec<u32>,
    /// Rows of the index that is searched
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rows: u32,
    /// Measure these steps only
    #[arg(long, value_name = "STEP,STEP", value_delimiter = ',', value_parser = stage_parser())]
    only: Vec<Stage>,
}

fn stage_parser() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.map(Stage::name))
        .map(|name| Stage::ALL.into_iter().find(|s| s.name() == name).unwrap_or(Stage::Load))
}

/// Runs the command.
pub fn run(args: &BenchArgs, global: &Global) -> Result<Outcome, Failure> {
    global.require_format(&[Format::Text, Format::Json, Format::Markdown])?;
    let longest = Duration::from_secs(args.seconds);
    let mut options = BenchOptions::default();
    options.budget = Budget { runs: args.iterations as usize, longest, ..options.budget };
    options.tokens = args.tokens.iter().map(|&n| n as usize).collect();
    options.rows = args.rows;
    if !args.only.is_empty() {
        options.stages = args.only.clone();
    }
    if let Some(path) = &args.image {
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|e| Failure::Usage(format!("{name}: cannot be read: {e}")))?;
        options.picture = Some((name, bytes));
    }
    let package = sextant::find_model(&global.model)?;
    let progress = Progress::new(options.stages.len(), "measuring", global.quiet);
    let report = sextant::bench::run(package, &options, &|done| progress.set(done));
    drop(progress);
    let report = report.map_err(failure)?;
    let mut out = stdout();
    match global.format {
        Format::Json => json_line(&mut out, &report)?,
        Format::Markdown => markdown(&mut out, &report)?,
        _ => text(&mut out, &report)?,
    }
    out.flush()?;
    Ok(Outcome::default())
}

fn failure(error: BenchError) -> Failure {
    match error {
        BenchError::Decode(_) | BenchError::NoRows | BenchError::Machine(_) => {
            Failure::Usage(error.to_string())
        }
        BenchError::Folder { folder, reason } => {
            Failure::Output(io::Error::new(reason.kind(), format!("{folder}: {reason}")))
        }
        _ => Failure::Unfit(error.to_string()),
    }
}

/// What the computer is called in a table: the board's name, or else the processor's.
fn computer(report: &BenchReport) -> &str {
    report.host.board.as_deref().unwrap_or(&report.host.processor)
}

fn mebibytes(kib: Option<u64>) -> String {
    kib.map_or("unknown".to_owned(), |kib| format!("{:.0} MiB", kib as f64 / 1024.0))
}

fn text(out: &mut impl Write, report: &BenchReport) -> io::Result<()> {
    let (host, model) = (&report.host, &report.model);
    let [width, height] = model.input;
    let optional = |value: &Option<String>| value.clone().unwrap_or("unknown".to_owned());
    writeln!(out, "sextant     {}", report.version)?;
    writeln!(
        out,
        "model       {} {}, {width}×{height} pixels to {} numbers",
        model.name, model.version, model.dimension
    )?;
    writeln!(out, "computer    {}", computer(report))?;
    writeln!(out, "processor   {}, {} cores, {}", host.processor, host.cores, host.architecture)?;
    let memory = host.memory_mib.map_or("unknown".to_owned(), |mib| format!("{mib} MiB"));
    writeln!(out, "memory      {memory}; clock policy {}", optional(&host.governor))?;
    writeln!(
        out,
        "kernels     {} ({}); a core does at most {:.0} thousand million int8 multiply-adds a second",
        host.kernels,
        host.kernels_available.join(", "),
        host.peak_gmacs
    )?;
    writeln!(out, "threads     {}", report.threads)?;
    writeln!(out)?;
    writeln!(
        out,
        "{:<11} {:<44} {:>7} {:>10} {:>10} {:>6}",
        "step", "of what", "threads", "median ms", "p95 ms", "runs"
    )?;
    for Step { stage, what, threads, timing, pictures_per_second } in &report.steps {
        let rate = pictures_per_second.map_or(String::new(), |r| format!("  {r:.1} pictures/s"));
        writeln!(
            out,
            "{:<11} {what:<44} {threads:>7} {:>10.3} {:>10.3} {:>6}{rate}",
            stage.name(),
            timing.median_ms,
            timing.p95_ms,
            timing.runs
        )?;
    }
    writeln!(out)?;
    if report.peak_memory.image_kib.is_some() {
        let labelling = mebibytes(report.peak_memory.image_kib);
        writeln!(out, "memory      {labelling} to label pictures with compiled labels, at most")?;
    }
    writeln!(out, "            {} for all of this", mebibytes(report.peak_memory.whole_kib))?;
    if let Some(temperature) = report.temperature {
        writeln!(out, "temperature {temperature:.0} °C at the end")?;
    }
    report.notes.iter().try_for_each(|note| writeln!(out, "note        {note}"))
}

/// A table of one row: what the owner of a board can send us.
fn markdown(out: &mut impl Write, report: &BenchReport) -> io::Result<()> {
    let clean = |text: &str| text.replace('|', "/");
    let mut columns: Vec<(String, String)> = vec![
        ("computer".to_owned(), clean(computer(report))),
        ("kernels".to_owned(), report.host.kernels.to_owned()),
        ("peak GMAC/s".to_owned(), format!("{:.0}", report.host.peak_gmacs)),
        ("model".to_owned(), clean(&format!("{} {}", report.model.name, report.model.version))),
    ];
    for step in &report.steps {
        let threads = match step.threads {
            1 => String::new(),
            more => format!(", {more} threads"),
        };
        let name = format!("{} {}{threads}", step.stage.name(), clean(&step.what));
        columns.push(match step.pictures_per_second {
            Some(rate) => (format!("pictures/s{threads}"), format!("{rate:.1}")),
            None => {
                let timing = step.timing;
                (name, format!("{:.2} ({:.2})", timing.median_ms, timing.p95_ms))
            }
        });
    }
    if report.peak_memory.image_kib.is_some() {
        columns.push(("memory to label".to_owned(), mebibytes(report.peak_memory.image_kib)));
    }
    columns.push(("memory".to_owned(), mebibytes(report.peak_memory.whole_kib)));
    columns.push(("sextant".to_owned(), report.version.to_owned()));
    let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    writeln!(out, "Milliseconds, median (95th percentile).\n")?;
    writeln!(out, "| {} |", names.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(names.len()))?;
    writeln!(out, "| {} |", values.join(" | "))
}
