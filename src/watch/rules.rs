//! What to do when: the rules file.
//!
//! ```toml
//! [[rule]]
//! name = "someone at the gate at night"
//! label = "a person"        # or: text = "a person at a gate", which adds a label
//! region = "gate"           # as named by --roi; any region if left out
//! event = "enter"           # or "leave"; "enter" if left out
//! threshold = 0.7
//! hours = "22:00-06:00"     # local time, may pass midnight
//! print = true
//! snapshot = "snapshots"    # a folder
//! command = ["./lamp", "on"]
//! timeout = 10              # seconds until the command is killed
//! index = "night.index"
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::WatchError;
use crate::capped::read_capped;
use crate::one_line::one_line;

/// Every key of a rule.
const KEYS: [&str; 11] = [
    "name",
    "label",
    "text",
    "region",
    "event",
    "threshold",
    "hours",
    "print",
    "snapshot",
    "command",
    "timeout",
];
const INDEX_KEY: &str = "index";

/// Most rules of a file.
const MOST_RULES: usize = 1000;

/// Longest rules file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// One rule of a rules file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Rule {
    /// How the rule is called in messages.
    pub name: String,
    /// The label it waits for.
    pub label: String,
    /// Whether the label is a text of the rule's own, to be added to the label set.
    pub is_text: bool,
    /// The region it waits in; any if `None`.
    pub region: Option<String>,
    /// Whether it waits for leaving rather than entering.
    pub on_leave: bool,
    /// Least score of the event.
    pub threshold: f32,
    /// When the rule holds; always if `None`.
    pub hours: Option<Hours>,
    /// What is done.
    pub actions: Vec<Action>,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Prints the rule's name to standard error.
    Print,
    /// Saves the picture and its scores in a folder.
    Snapshot(PathBuf),
    /// Runs a program, killed after a time.
    Command(Vec<String>, Duration),
    /// Appends the embedding to an index.
    Index(PathBuf),
}

/// A part of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First minute after midnight.
    pub from: u16,
    /// The minute after the last; less than `from` where midnight lies between.
    pub until: u16,
}

impl Hours {
    /// Whether a minute of the day lies within.
    ///
    /// ```
    /// use sextant::watch::Hours;
    /// let night = Hours { from: 22 * 60, until: 6 * 60 };
    /// assert!(night.holds(23 * 60) && night.holds(0) && !night.holds(6 * 60));
    /// ```
    pub fn holds(&self, minute: u16) -> bool {
        if self.from <= self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let minute = hours.checked_mul(60)?.checked_add(minutes)?;
            (minutes < 60 && minute <= 24 * 60).then_some(minute)
        };
        let (from, until) = text.split_once('-')?;
        let hours = Self { from: minute(from)?, until: minute(until)? };
        (hours.from != hours.until).then_some(hours)
    }
}

/// The rules of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// In the order of the file.
    pub rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Written {
    name: Option<String>,
    label: Option<String>,
    text: Option<String>,
    region: Option<String>,
    event: Option<String>,
    threshold: Option<f32>,
    hours: Option<String>,
    #[serde(default)]
    print: bool,
    snapshot: Option<PathBuf>,
    command: Option<Vec<String>>,
    timeout: Option<f64>,
    index: Option<PathBuf>,
}

impl Rules {
    /// Reads a rules file.
    ///
    /// # Errors
    /// [`WatchError::Rules`]; an unknown key is named with the nearest one there is.
    pub fn load(path: &Path) -> Result<Self, WatchError> {
        let file = path.display().to_string();
        let refuse = |reason: String| WatchError::Rules { file: file.clone(), reason };
        let bytes = read_capped(path, MAX_FILE).map_err(|e| refuse(e.to_string()))?;
        let bytes = bytes.ok_or_else(|| refuse("a rules file has at most 1 MiB".to_owned()))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8 text".to_owned()))?;
        Self::parse(&text, &file)
    }

    /// Reads rules from text; `file` is named in errors.
    ///
    /// # Errors
    /// As [`Rules::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self, WatchError> {
        let refuse =
            |reason: String| WatchError::Rules { file: file.to_owned(), reason: one_line(&reason) };
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| refuse(e.to_string()))?;
        if let Some(key) = table.keys().find(|key| *key != "rule") {
            return Err(refuse(format!("unknown key \"{key}\": rules are written [[rule]]")));
        }
        let written = match table.get("rule") {
            Some(toml::Value::Array(rules)) if rules.len() <= MOST_RULES => rules.as_slice(),
            Some(toml::Value::Array(_)) => {
                return Err(refuse(format!("more than {MOST_RULES} rules")));
            }
            _ => return Err(refuse("holds no [[rule]]".to_owned())),
        };
        let mut rules = Vec::with_capacity(written.len());
        for (at, value) in written.iter().enumerate() {
            let number = at + 1;
            let rule = parse_rule(value, number);
            rules.push(rule.map_err(|reason| refuse(format!("rule {number}: {reason}")))?);
        }
        Ok(Self { rules })
    }
}

fn parse_rule(value: &toml::Value, number: usize) -> Result<Rule, String> {
    let table = value.as_table().ok_or("is not a table")?;
    let known = || KEYS.into_iter().chain([INDEX_KEY]);
    if let Some(key) = table.keys().find(|key| !known().any(|known| known == *key)) {
        return Err(unknown_key(key, known()));
    }
    let written: Written =
        value.clone().try_into().map_err(|e| format!("{e}").trim().to_owned())?;
    let (label, is_text) = match (written.label, written.text) {
        (Some(label), None) => (label, false),
        (None, Some(text)) => (text, true),
        _ => return Err("has either a label or a text".to_owned()),
    };
    let on_leave = match written.event.as_deref() {
        None | Some("enter") => false,
        Some("leave") => true,
        Some(other) => return Err(format!("event is \"enter\" or \"leave\", not {other:?}")),
    };
    let threshold = written.threshold.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&threshold) {
        return Err(format!("threshold lies between 0 and 1, and is {threshold}"));
    }
    let wrong_hours = |text: &str| format!("hours are written 22:00-06:00, not {text:?}");
    let hours = match written.hours {
        Some(text) => Some(Hours::parse(&text).ok_or_else(|| wrong_hours(&text))?),
        None => None,
    };
    let timeout = written.timeout.unwrap_or(10.0);
    if !(0.1..=3600.0).contains(&timeout) {
        return Err("timeout lies between 0.1 and 3600 seconds".to_owned());
    }
    let mut actions = Vec::new();
    actions.extend(written.print.then_some(Action::Print));
    actions.extend(written.snapshot.map(Action::Snapshot));
    if let Some(command) = written.command {
        if command.is_empty() {
            return Err("command is a list: the program and its arguments".to_owned());
        }
        actions.push(Action::Command(command, Duration::from_secs_f64(timeout)));
    }
    actions.extend(written.index.map(Action::Index));
    if actions.is_empty() {
        return Err("does nothing: give it print, snapshot, command or index".to_owned());
    }
    let name = written.name.unwrap_or_else(|| format!("rule {number}"));
    let region = written.region;
    Ok(Rule { name, label, is_text, region, on_leave, threshold, hours, actions })
}

fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> String {
    let key: String = key.chars().take(60).collect();
    let nearest = known
        .max_by(|a, b| strsim::jaro_winkler(a, &key).total_cmp(&strsim::jaro_winkler(b, &key)));
    format!("unknown key {key:?}: did you mean {:?}?", nearest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rules, String> {
        Rules::parse(text, "rules.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_is_read_with_all_it_says() {
        let rules = parse(
            "[[rule]]\nname = 'night'\ntext = 'a fox'\nregion = 'gate'\nthreshold = 0.7\n\
             hours = '22:00-06:00'\nprint = true\nsnapshot = 's'\ncommand = ['lamp', 'on']\n\
             timeout = 2.5\nindex = 'i'\n[[rule]]\nlabel = 'a car'\nevent = 'leave'\nprint = true",
        );
        let rules = rules.unwrap().rules;
        assert_eq!(rules.len(), 2);
        assert!(rules[0].is_text && !rules[0].on_leave && rules[1].on_leave);
        assert_eq!(rules[0].hours, Some(Hours { from: 1320, until: 360 }));
        assert_eq!(rules[0].actions.len(), 4);
        let command =
            Action::Command(vec!["lamp".into(), "on".into()], Duration::from_millis(2500));
        assert_eq!(rules[0].actions[2], command);
        assert_eq!(rules[1].name, "rule 2");
    }

    #[test]
    fn a_wrong_key_is_named_with_the_nearest() {
        let error = parse("[[rule]]\nlabel = 'a'\nprint = true\ntreshold = 0.5").unwrap_err();
        assert!(
            error.contains("rule 1: unknown key \"treshold\": did you mean \"threshold\"?"),
            "{error}"
        );
        let error = parse("[[rules]]\nlabel = 'a'").unwrap_err();
        assert!(error.contains("\"rules\"") && error.contains("[[rule]]"), "{error}");
    }

    #[test]
    fn each_wrong_value_names_its_rule() {
        let with = |line: &str| parse(&format!("[[rule]]\nlabel = 'a'\n{line}")).unwrap_err();
        assert!(with("").contains("does nothing"));
        assert!(with("print = true\nhours = '25:00-3'").contains("hours"));
        assert!(with("print = true\nthreshold = 2").contains("threshold"));
        assert!(with("print = true\ntext = 'b'").contains("either"));
        assert!(with("print = true\nevent = 'stay'").contains("event"));
        assert!(with("command = []").contains("command"));
        assert!(with("print = 3").contains("print"));
        assert!(parse("").unwrap_err().contains("[[rule]]"));
        assert!(parse("= 3").is_err());
    }
}
