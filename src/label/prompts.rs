//! From label names to label embeddings: prompt ensembles.

use super::cache::TextCache;
use super::compiled::{CompiledLabels, LabelName};
use super::set::LabelSet;
use super::tree::Tree;
use crate::embedding::normalise;
use crate::encode::{EncodeError, Encoder};
use crate::one_line::one_line;

/// Embeds every label of `set`: the mean of its normalised prompt embeddings, renormalised
/// (prompt ensembling, Radford et al. 2021, as open_clip builds its zero-shot classifiers).
///
/// A label without prompts of its own takes its name in every template: `templates` if given,
/// else those of the label file, else the package's. Texts found in `cache` skip the text tower;
/// new ones are added to it. `progress` is called with the number of labels done.
///
/// # Errors
/// [`EncodeError`] from the text tower; [`EncodeError::Parents`].
pub fn compile(
    encoder: &Encoder,
    set: &LabelSet,
    templates: Option<&[String]>,
    cache: &mut TextCache,
    progress: &dyn Fn(usize),
) -> Result<CompiledLabels, EncodeError> {
    let names: Vec<LabelName> = set.labels.iter().map(LabelName::from).collect();
    // The readers of label sets check the same; a set may have been written, or changed, by hand.
    if let Err(fault) = Tree::new(&names) {
        return Err(EncodeError::Parents { reason: one_line(&fault.to_string()) });
    }
    let manifest = encoder.package().manifest();
    let templates = templates.or(set.templates.as_deref()).unwrap_or(manifest.templates.as_slice());
    let mut rows = Vec::with_capacity(set.labels.len() * manifest.dimension);
    for (done, label) in set.labels.iter().enumerate() {
        let mut row = vec![0f32; manifest.dimension];
        let from_templates = || templates.iter().map(|t| t.replace("{}", &label.name)).collect();
        let prompts: Vec<String> =
            if label.prompts.is_empty() { from_templates() } else { label.prompts.clone() };
        for prompt in &prompts {
            if cache.get(prompt).is_none() {
                cache.insert(prompt, encoder.text(prompt)?.values());
            }
            let values = cache.get(prompt).unwrap_or_default();
            row.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        normalise(&mut row).map_err(|reason| EncodeError::Embedding {
            source_name: format!("label \"{}\"", label.name),
            reason,
        })?;
        rows.extend_from_slice(&row);
        progress(done + 1);
    }
    let (space, classes) = (encoder.space(), set.classes.clone());
    Ok(CompiledLabels::new(space, manifest.dimension, names, classes, rows))
}
