//! Label sets as people write them: a list on the command line, a text file or a TOML file.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::compiled::LabelName;
use super::set_error::LabelError;
use super::tree::Tree;
use crate::capped::read_capped;
use crate::one_line::one_line;

/// Most labels a set may hold.
pub const MAX_LABELS: usize = 100_000;

/// Most prompts one label may have.
pub const MAX_PROMPTS: usize = 1_000;

/// Longest name of a label, in bytes.
pub const MAX_NAME_BYTES: usize = 1_000;

/// Longest prompt, in bytes: far more than a text tower reads.
pub const MAX_PROMPT_BYTES: usize = 10_000;

/// Longest accepted label file, in bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// One label: what is shown, and what is said to the text tower.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label {
    /// What is shown.
    pub name: String,
    /// Prompts of its own; empty means "the name, in every template".
    pub prompts: Vec<String>,
    /// The broader label that this one counts towards.
    pub parent: Option<String>,
    /// Takes part in the competition, but is never shown.
    pub negative: bool,
}

/// Labels in order, and the order in which the user listed them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSet {
    /// Each name once.
    pub labels: Vec<Label>,
    /// For the n-th name as listed (negatives not counted), its place in `labels`: where a name
    /// was listed twice, both entries lead to the same label.
    pub classes: Vec<usize>,
    /// Names that were listed more than once.
    pub duplicates: Vec<String>,
    /// Templates that the file itself asks for.
    pub templates: Option<Vec<String>>,
}

impl LabelSet {
    /// Reads what follows `--labels`: an existing file, or names separated by commas.
    ///
    /// ```
    /// use sextant::LabelSet;
    /// let set = LabelSet::from_argument("cat, dog,!background").unwrap();
    /// assert_eq!(set.labels.len(), 3);
    /// assert!(set.labels[2].negative);
    /// ```
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn from_argument(argument: &str) -> Result<Self, LabelError> {
        let path = Path::new(argument);
        if path.exists() {
            return Self::from_file(path);
        }
        let looks_like_a_file = argument.contains(['/', '\\'])
            || [".txt", ".toml", ".tsv", ".csv", ".labels"].iter().any(|e| argument.ends_with(e));
        if looks_like_a_file && !argument.contains(',') {
            return Err(LabelError::Missing { file: argument.to_owned() });
        }
        let entries = argument.split(',').map(|name| entry(name.trim())).collect();
        Self::collect(entries, "--labels")
    }

    /// Reads a label file: TOML where the name ends in `.toml`, else a label a line.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn from_file(path: &Path) -> Result<Self, LabelError> {
        let file = path.display().to_string();
        let text = read_text(path, &file)?;
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml")) {
            Self::from_toml(&text, &file)
        } else {
            Self::from_lines(&text, &file)
        }
    }

    /// One label a line. `!name` is a negative, `name < parent` has a parent, `# …` is a comment;
    /// after a tab follow prompts of the label's own, separated by tabs. A byte-order mark and
    /// CRLF ends are accepted.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn from_lines(text: &str, file: &str) -> Result<Self, LabelError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let entries = lines.map(|line| {
            let mut fields = line.split('\t').map(str::trim).filter(|field| !field.is_empty());
            let mut label = entry(fields.next().unwrap_or_default());
            label.prompts = fields.map(str::to_owned).collect();
            label
        });
        Self::collect(entries.collect(), file)
    }

    /// A TOML file: `templates`, `negatives` and `[[label]]` tables with `name`, `prompts` and
    /// `parent`.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn from_toml(text: &str, file: &str) -> Result<Self, LabelError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let parsed: TomlSet = toml::from_str(text).map_err(|e| LabelError::Toml {
            file: file.to_owned(),
            reason: one_line(&e.to_string()),
        })?;
        if let Some(templates) = &parsed.templates {
            check_templates(templates, file)?;
        }
        let shown = parsed.label.into_iter().map(|l| Label {
            name: l.name.trim().to_owned(),
            prompts: l.prompts,
            parent: l.parent.map(|parent| parent.trim().to_owned()).filter(|p| !p.is_empty()),
            negative: false,
        });
        let hidden = parsed.negatives.into_iter().map(|name| Label {
            name: name.trim().to_owned(),
            negative: true,
            ..Label::default()
        });
        let mut set = Self::collect(shown.chain(hidden).collect(), file)?;
        set.templates = parsed.templates;
        Ok(set)
    }

    fn collect(entries: Vec<Label>, file: &str) -> Result<Self, LabelError> {
        let mut set = LabelSet::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        if entries.len() > MAX_LABELS {
            return Err(LabelError::TooMany { file: file.to_owned() });
        }
        for label in entries.into_iter().filter(|label| !label.name.is_empty()) {
            check_label(&label, file)?;
            if let Some(chain) = label.parent.as_deref().filter(|parent| parent.contains(" < ")) {
                let reason = format!(
                    "label \"{}\" names more than its parent (list \"{chain}\" as a label of its own)",
                    label.name
                );
                let reason = one_line(&reason);
                return Err(LabelError::Parents { file: file.to_owned(), reason });
            }
            let negative = label.negative;
            let place = match places.get(&label.name) {
                Some(&place) => {
                    let known = &mut set.labels[place];
                    if label.parent.is_some() && label.parent != known.parent {
                        if known.parent.is_some() {
                            let reason = format!("label \"{}\" has two parents", label.name);
                            let reason = one_line(&reason);
                            return Err(LabelError::Parents { file: file.to_owned(), reason });
                        }
                        known.parent = label.parent;
                    }
                    set.duplicates.push(label.name);
                    place
                }
                None => {
                    places.insert(label.name.clone(), set.labels.len());
                    set.labels.push(label);
                    set.labels.len() - 1
                }
            };
            if !negative {
                set.classes.push(place);
            }
        }
        if set.classes.is_empty() {
            return Err(LabelError::NoLabels { file: file.to_owned() });
        }
        let names: Vec<LabelName> = set.labels.iter().map(LabelName::from).collect();
        Tree::new(&names).map_err(|fault| LabelError::Parents {
            file: file.to_owned(),
            reason: one_line(&fault.to_string()),
        })?;
        Ok(set)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlSet {
    templates: Option<Vec<String>>,
    #[serde(default)]
    negatives: Vec<String>,
    #[serde(default)]
    label: Vec<TomlLabel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlLabel {
    name: String,
    #[serde(default)]
    prompts: Vec<String>,
    parent: Option<String>,
}

/// Checks that a name can be shown and that a text tower is not fed without end.
fn check_label(label: &Label, file: &str) -> Result<(), LabelError> {
    for name in std::iter::once(&label.name).chain(&label.parent) {
        if let Err(reason) = check_name(name) {
            return Err(LabelError::Name { file: file.to_owned(), reason });
        }
    }
    if label.prompts.len() > MAX_PROMPTS {
        let label = label.name.clone();
        return Err(LabelError::TooManyPrompts { file: file.to_owned(), label });
    }
    if label.prompts.iter().any(|prompt| prompt.len() > MAX_PROMPT_BYTES) {
        let label = label.name.clone();
        return Err(LabelError::LongPrompt { file: file.to_owned(), label });
    }
    Ok(())
}

/// Whether a label may be called so: on one line of a terminal, of a page, of a message.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let start: String = name.chars().take(40).collect();
    let start = one_line(&start);
    if name.len() > MAX_NAME_BYTES {
        let length = name.len();
        return Err(format!(
            "the name \"{start}…\" has {length} bytes, more than the limit of {MAX_NAME_BYTES} (a name a line?)"
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("the name \"{start}\" holds a control character: take it out"));
    }
    Ok(())
}

/// Checks that every template says where the name goes; `file` is named in errors.
///
/// # Errors
/// [`LabelError::Template`] with the first that does not.
pub fn check_templates(templates: &[String], file: &str) -> Result<(), LabelError> {
    match templates.iter().find(|template| !template.contains("{}")) {
        Some(template) => {
            Err(LabelError::Template { file: file.to_owned(), template: one_line(template) })
        }
        None => Ok(()),
    }
}

fn entry(name: &str) -> Label {
    match name.strip_prefix('!') {
        Some(rest) => Label { name: rest.trim().to_owned(), negative: true, ..Label::default() },
        None => {
            let (name, parent) = match name.split_once(" < ") {
                Some((name, parent)) => (name.trim(), Some(parent.trim().to_owned())),
                None => (name, None),
            };
            let parent = parent.filter(|parent| !parent.is_empty());
            Label { name: name.to_owned(), parent, ..Label::default() }
        }
    }
}

fn read_text(path: &Path, file: &str) -> Result<String, LabelError> {
    let unreadable = |reason: std::io::Error| match reason.kind() {
        std::io::ErrorKind::NotFound => LabelError::Missing { file: file.to_owned() },
        _ => LabelError::Unreadable { file: file.to_owned(), reason },
    };
    let bytes = read_capped(path, MAX_FILE_BYTES).map_err(unreadable)?;
    let bytes = bytes.ok_or_else(|| LabelError::TooLarge { file: file.to_owned() })?;
    String::from_utf8(bytes).map_err(|e| LabelError::NotText {
        file: file.to_owned(),
        at: e.utf8_error().valid_up_to(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(set: &LabelSet) -> Vec<&str> {
        set.labels.iter().map(|label| label.name.as_str()).collect()
    }

    #[test]
    fn lines_take_byte_order_marks_crlf_comments_and_tabs() {
        let text =
            "\u{feff}# animals\r\ncat\ta photo of a cat\ta kitten\r\n\r\n !wall \r\ndog\t\r\n";
        let set = LabelSet::from_lines(text, "f").unwrap();
        assert_eq!(names(&set), ["cat", "wall", "dog"]);
        assert_eq!(set.labels[0].prompts, ["a photo of a cat", "a kitten"]);
        assert!(set.labels[1].negative && !set.labels[0].negative);
        assert!(set.labels[2].prompts.is_empty());
        assert_eq!(set.classes, [0, 2]);
    }

    #[test]
    fn a_name_listed_twice_is_one_label_and_two_classes() {
        let set = LabelSet::from_lines("a\nb\na\nc", "f").unwrap();
        assert_eq!(names(&set), ["a", "b", "c"]);
        assert_eq!(set.classes, [0, 1, 0, 2]);
        assert_eq!(set.duplicates, ["a"]);
    }

    #[test]
    fn lines_and_lists_name_parents() {
        let set = LabelSet::from_argument("poodle < dog, dog < animal, a").unwrap();
        assert_eq!(names(&set), ["poodle", "dog", "a"]);
        let parents: Vec<_> = set.labels.iter().map(|label| label.parent.as_deref()).collect();
        assert_eq!(parents, [Some("dog"), Some("animal"), None]);
        for wrong in ["a < b, b < a", "a < b, a < c", "!a, b < a", "a < b < c"] {
            let error = LabelSet::from_argument(wrong);
            assert!(matches!(error, Err(LabelError::Parents { .. })), "{wrong}: {error:?}");
        }
    }

    #[test]
    fn names_and_prompts_have_a_length_and_no_control_characters() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for text in [&*long, "a\u{0}b", "a\u{1b}[2J", &format!("a < {long}")] {
            let error = LabelSet::from_lines(text, "f").unwrap_err();
            assert!(matches!(error, LabelError::Name { .. }), "{error}");
            assert!(error.to_string().len() < 200, "{error}");
        }
        assert!(LabelSet::from_lines(&long[1..], "f").is_ok());
        let prompt = |length: usize| format!("a\t{}", "x".repeat(length));
        assert!(LabelSet::from_lines(&prompt(MAX_PROMPT_BYTES), "f").is_ok());
        let error = LabelSet::from_lines(&prompt(MAX_PROMPT_BYTES + 1), "f").unwrap_err();
        assert!(matches!(error, LabelError::LongPrompt { .. }), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_without_end_is_too_large() {
        let error = LabelSet::from_file(Path::new("/dev/zero")).unwrap_err();
        assert!(matches!(error, LabelError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn nothing_to_show_is_refused() {
        for text in ["", ",,", "!background", " "] {
            assert!(matches!(LabelSet::from_argument(text), Err(LabelError::NoLabels { .. })));
        }
        assert!(matches!(
            LabelSet::from_argument("no/such/file.txt"),
            Err(LabelError::Missing { .. })
        ));
    }

    #[test]
    fn toml_sets_have_parents_negatives_and_templates() {
        let text = "templates = ['a drawing of a {}']\nnegatives = ['paper']\n\
            [[label]]\nname = 'cat'\nparent = 'animal'\n[[label]]\nname = 'dog'\nprompts = ['a puppy']";
        let set = LabelSet::from_toml(text, "f").unwrap();
        assert_eq!(names(&set), ["cat", "dog", "paper"]);
        assert_eq!(set.labels[0].parent.as_deref(), Some("animal"));
        assert!(set.labels[2].negative);
        assert!(LabelSet::from_toml("templates = ['x']\n[[label]]\nname='a'", "f").is_err());
        assert!(LabelSet::from_toml("labels = 3", "f").is_err());
    }
}
