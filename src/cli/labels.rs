//! `sextant labels`.

use std::path::PathBuf;

use clap::Subcommand;
use sextant::{CompiledLabels, LabelSet};

use super::label::{compile_set, label_failure};
use super::output::complain;
use super::{Failure, Global, Outcome};

/// Subcommands of `labels`.
#[derive(Debug, Subcommand)]
pub enum LabelsCommand {
    /// Turn a label set into embeddings, so that a device needs no text tower
    Compile {
        /// Label file: one name a line, or TOML
        file: PathBuf,
        /// Where to write the compiled labels
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// Prompt template with {} for the name (repeatable) [default: the model's own]
        #[arg(long, value_name = "TEXT")]
        template: Vec<String>,
    },
}

/// Runs the command.
pub fn run(command: &LabelsCommand, global: &Global) -> Result<Outcome, Failure> {
    let LabelsCommand::Compile { file, output, template } = command;
    let encoder = global.encoder()?;
    if CompiledLabels::is_compiled(file) {
        let file = file.display();
        return Err(Failure::Usage(format!(
            "{file}: holds compiled labels already: give the label file they were made from"
        )));
    }
    let set = LabelSet::from_file(file).map_err(label_failure)?;
    let compiled = compile_set(&set, template, &encoder, global)?;
    compiled.save(output).map_err(|e| Failure::Failed(e.to_string()))?;
    if !global.quiet {
        let count = compiled.labels().len();
        let space = compiled.space().short();
        complain(&format!("{}: {count} labels for space {space}", output.display()));
    }
    Ok(Outcome::default())
}
