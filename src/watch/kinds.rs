//! Words that say too little: whom one means by "a person".
//!
//! A model that learnt from captions knows men, women and children: people hardly ever write "a
//! person". So a label that means anybody also counts what scores for those, as a parent counts
//! its children (see [`Label::parent`]).

use crate::label::{Label, LabelSet, is_anybody};

/// What names that mean anybody are taken to mean as well.
const KINDS: [&str; 4] = ["a man", "a woman", "a child", "people"];

/// Adds what labels that mean anybody are taken to mean as well, behind all labels of the set, for
/// [`Scene`](super::Scene), which counts them for their parent and does not show them.
///
/// `templates` are those of the set's names. Nothing is added to a label with prompts or children
/// of its own, nor where the set tells such people apart by itself: "a person" beside "a man" means
/// somebody else.
pub fn add_kinds(set: &mut LabelSet, templates: &[String]) {
    let is_kind = |label: &Label| KINDS.contains(&label.name.as_str()) && !is_anybody(&label.name);
    if set.labels.iter().any(is_kind) {
        return;
    }
    let is_parent = |name: &str| set.labels.iter().any(|l| l.parent.as_deref() == Some(name));
    let vague = set.labels.iter().filter(|label| {
        is_anybody(&label.name)
            && label.prompts.is_empty()
            && !label.negative
            && !is_parent(&label.name)
    });
    let kinds: Vec<Label> =
        vague.flat_map(|label| KINDS.map(|kind| kind_of(label, kind, templates))).collect();
    set.labels.extend(kinds);
}

fn kind_of(label: &Label, kind: &str, templates: &[String]) -> Label {
    Label {
        name: kind_name(&label.name, kind),
        prompts: templates.iter().map(|template| template.replace("{}", kind)).collect(),
        parent: Some(label.name.clone()),
        negative: false,
    }
}

fn kind_name(label: &str, kind: &str) -> String {
    format!("{label} ({kind})")
}

/// Whether a label of this name and parent was added by [`add_kinds`].
pub(super) fn is_added(name: &str, parent: Option<&str>) -> bool {
    parent.is_some_and(|parent| KINDS.iter().any(|kind| name == kind_name(parent, kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(names: &str) -> Vec<String> {
        let mut set = LabelSet::from_argument(names).unwrap();
        add_kinds(&mut set, &["a photo of {}".to_owned(), "{}".to_owned()]);
        set.labels.into_iter().map(|label| label.name).collect()
    }

    #[test]
    fn anybody_means_men_women_and_children() {
        let names = expanded("a person,an empty room");
        assert_eq!(names[..2], ["a person", "an empty room"]);
        assert_eq!((names.len(), names[2].as_str()), (6, "a person (a man)"));
        assert!(is_added(&names[2], Some("a person")) && !is_added(&names[0], None));
        assert_eq!(expanded("people").len(), 5);
        for clear in ["a car", "a person,a man", "a personal computer", "a snowman"] {
            assert_eq!(expanded(clear).len(), clear.split(',').count(), "{clear}");
        }
    }

    #[test]
    fn kinds_stand_in_the_templates_of_the_set() {
        let mut set = LabelSet::from_argument("somebody").unwrap();
        add_kinds(&mut set, &["a photo of {}".to_owned()]);
        assert_eq!(set.labels[1].prompts, ["a photo of a man"]);
        assert_eq!(set.labels[1].parent.as_deref(), Some("somebody"));
        assert_eq!(set.classes, [0]);
    }
}
