//! Zero-shot labelling: label sets, prompt ensembles and calibrated scores.

mod answer;
mod anybody;
mod cache;
mod compiled;
mod prompts;
mod score;
mod set;
mod set_error;
mod tree;

pub use answer::{Labelling, ScoredLabel};
pub(crate) use anybody::is_anybody;
pub use cache::TextCache;
pub use compiled::{CompiledError, CompiledLabels, LabelName};
pub use prompts::compile;
pub use score::{ScoreOptions, Scorer, match_probability};
pub use set::{Label, LabelSet, check_templates};
pub use set_error::LabelError;
