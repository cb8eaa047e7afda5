//! Labels that are typed into the page while the watch runs.

use std::path::Path;
use std::sync::{Arc, Mutex};

use sextant::{CompiledLabels, Encoder, Label, LabelSet};

use super::super::super::label::label_failure;
use super::super::super::{Failure, Global};
use super::super::compile_set_with_kinds;
use super::super::outputs::Surroundings;

/// Most labels that can be typed: a board reads their prompts within a minute.
const MOST: usize = 100;
/// Longest name, in characters.
const LONGEST: usize = 100;

/// Why labels are not taken.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    /// There is none to show.
    #[error("give at least one label that does not begin with !")]
    None,
    /// There are too many.
    #[error("{0} labels are too many: at most {MOST}")]
    TooMany(usize),
    /// A name is too long.
    #[error("\"{0}…\" is too long: a label has at most {LONGEST} characters")]
    TooLong(String),
    /// A name holds control characters.
    #[error("{0:?} holds characters that cannot be shown")]
    Control(String),
    /// A name that has a meaning.
    #[error("\"unknown\" is what is said when no label fits: take another name")]
    Reserved,
    /// A rule needs a label.
    #[error("the rule \"{rule}\" needs the label \"{label}\": keep it")]
    Needed {
        /// The rule.
        rule: String,
        /// Its label.
        label: String,
    },
    /// The labels of another request are being read.
    #[error("other labels are being read right now: try again in a moment")]
    Busy,
    /// The model cannot read them.
    #[error("{0}")]
    Model(String),
}

/// Makes label sets of what is typed.
pub struct Relabel {
    encoder: Arc<Encoder>,
    global: Global,
    templates: Vec<String>,
    /// The set that the watch began with: its labels keep their prompts.
    first: LabelSet,
    /// Rule, label, and whether the rule itself brings the label.
    needed: Vec<(String, String, bool)>,
    busy: Mutex<()>,
}

impl Relabel {
    /// For a watch with these labels and rules.
    pub fn new(surroundings: &Surroundings<'_>, global: &Global) -> Result<Self, Failure> {
        let first = match &surroundings.labels.labels {
            Some(labels) if !CompiledLabels::is_compiled(Path::new(labels)) => {
                LabelSet::from_argument(labels).map_err(label_failure)?
            }
            _ => LabelSet::default(),
        };
        let rules = surroundings.rules.rules.iter();
        let needed = rules.map(|rule| (rule.name.clone(), rule.label.clone(), rule.is_text));
        Ok(Self {
            encoder: Arc::clone(surroundings.encoder),
            global: Global { quiet: true, verbose: false, ..global.clone() },
            templates: surroundings.labels.template.clone(),
            first,
            needed: needed.collect(),
            busy: Mutex::new(()),
        })
    }

    /// The labels of these names; `!` before a name makes it compete unseen.
    ///
    /// # Errors
    /// [`RelabelError`].
    pub fn compile(&self, names: &[String]) -> Result<CompiledLabels, RelabelError> {
        let set = self.set(names)?;
        let Ok(_busy) = self.busy.try_lock() else { return Err(RelabelError::Busy) };
        let compiled = compile_set_with_kinds(set, &self.templates, &self.encoder, &self.global);
        compiled.map_err(|failure| {
            RelabelError::Model(match failure {
                Failure::Usage(text) | Failure::Unfit(text) | Failure::Failed(text) => text,
                Failure::Closed | Failure::Output(_) => "the labels cannot be read".to_owned(),
            })
        })
    }

    fn set(&self, names: &[String]) -> Result<LabelSet, RelabelError> {
        let mut set = LabelSet { templates: self.first.templates.clone(), ..LabelSet::default() };
        for typed in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
            let (name, negative) = match typed.strip_prefix('!') {
                Some(name) => (name.trim(), true),
                None => (typed, false),
            };
            if set.labels.iter().any(|label| label.name == name) {
                continue;
            }
            check(name)?;
            add(&mut set, self.label(name, negative));
            if set.labels.len() > MOST {
                return Err(RelabelError::TooMany(names.len()));
            }
        }
        if set.classes.is_empty() {
            return Err(RelabelError::None);
        }
        for (rule, label, is_text) in &self.needed {
            if set.labels.iter().any(|known| known.name == *label && !known.negative) {
                continue;
            }
            if !is_text {
                let (rule, label) = (rule.clone(), label.clone());
                return Err(RelabelError::Needed { rule, label });
            }
            set.labels.retain(|known| known.name != *label);
            add(&mut set, self.label(label, false));
        }
        // Places have moved if a negative gave way to a rule's text.
        let shown = set.labels.iter().enumerate().filter(|(_, label)| !label.negative);
        set.classes = shown.map(|(at, _)| at).collect();
        Ok(set)
    }

    /// The label with the prompts that it began with.
    fn label(&self, name: &str, negative: bool) -> Label {
        let known = self.first.labels.iter().find(|label| label.name == name).cloned();
        let is_text = self.needed.iter().any(|(_, label, is_text)| *is_text && label == name);
        let prompts = if is_text { vec![name.to_owned()] } else { Vec::new() };
        let fresh = Label { name: name.to_owned(), prompts, ..Label::default() };
        let label = known.unwrap_or(fresh);
        // A hidden label counts towards nothing.
        let parent = label.parent.filter(|_| !negative);
        Label { negative, parent, ..label }
    }
}

fn add(set: &mut LabelSet, label: Label) {
    if !label.negative {
        set.classes.push(set.labels.len());
    }
    set.labels.push(label);
}

fn check(name: &str) -> Result<(), RelabelError> {
    if name.chars().count() > LONGEST {
        return Err(RelabelError::TooLong(name.chars().take(20).collect()));
    }
    if name.chars().any(char::is_control) {
        return Err(RelabelError::Control(name.to_owned()));
    }
    match name {
        "" => Err(RelabelError::None),
        sextant::watch::UNKNOWN => Err(RelabelError::Reserved),
        _ => Ok(()),
    }
}
