//! `sextant space`.

use clap::Subcommand;

use super::{Failure, Global, Outcome, align, pca, report};

/// Subcommands of `space`.
#[derive(Debug, Subcommand)]
pub enum SpaceCommand {
    /// Measure a space: an index, captioned pictures, or a label set
    Report(report::ReportArgs),
    /// Fit the model to pairs of pictures and captions, and write it as a new package
    Align(align::AlignArgs),
    /// Cut embeddings to their principal axes: shorter rows, and what that costs
    Pca(pca::PcaArgs),
}

/// Runs the command.
pub fn run(command: &SpaceCommand, global: &Global) -> Result<Outcome, Failure> {
    match command {
        SpaceCommand::Report(args) => report::run(args, global),
        SpaceCommand::Align(args) => align::run(args, global),
        SpaceCommand::Pca(args) => pca::run(args, global),
    }
}
