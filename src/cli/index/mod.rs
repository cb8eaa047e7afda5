//! `sextant index`: building and keeping an index.

mod add;
mod capture;
mod file;
mod import;
mod list;
mod upkeep;

use std::path::Path;

use clap::Subcommand;
use sextant::SpaceId;
use sextant::index::{Index, IndexError, Writer};

use super::{Failure, Global, Outcome};

/// What to do with an index.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Embed pictures and append them; what is there unchanged is skipped
    Add(add::AddArgs),
    /// Remove rows by their keys, or those that meet conditions
    Remove(upkeep::RemoveArgs),
    /// List rows
    List(list::ListArgs),
    /// What there is to know about an index as a whole
    Info(list::InfoArgs),
    /// Read every byte and name what is damaged
    Verify(upkeep::VerifyArgs),
    /// Give back the room of removed rows
    Compact(upkeep::CompactArgs),
    /// Append the vectors of a NumPy file
    Import(import::ImportArgs),
    /// Write vectors, and what belongs to them, to files
    Export(import::ExportArgs),
}

/// Runs the command.
pub fn run(command: &IndexCommand, global: &Global) -> Result<Outcome, Failure> {
    match command {
        IndexCommand::Add(args) => add::run(args, global),
        IndexCommand::Remove(args) => upkeep::remove(args, global),
        IndexCommand::List(args) => list::list(args, global),
        IndexCommand::Info(args) => list::info(args, global),
        IndexCommand::Verify(args) => upkeep::verify(args, global),
        IndexCommand::Compact(args) => upkeep::compact(args, global),
        IndexCommand::Import(args) => import::import(args, global),
        IndexCommand::Export(args) => import::export(args, global),
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        let message = error.to_string();
        match error {
            error if error.is_damage() => Failure::Unfit(message),
            IndexError::Missing { .. }
            | IndexError::NotAFolder { .. }
            | IndexError::NotEmpty { .. }
            | IndexError::Exists { .. }
            | IndexError::DimensionLimit { .. }
            | IndexError::Tag { .. }
            | IndexError::TooManyResults { .. } => Failure::Usage(message),
            _ => Failure::Failed(message),
        }
    }
}

/// Opens an index for writing, or makes it where nothing is.
fn open_or_create(folder: &Path, space: SpaceId, dimension: usize) -> Result<Writer, IndexError> {
    let empty = || std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    match Writer::open(folder, space) {
        Err(IndexError::Missing { .. }) => Index::create(folder, space, dimension),
        Err(IndexError::NotAnIndex { .. }) if empty() => Index::create(folder, space, dimension),
        result => result,
    }
}
