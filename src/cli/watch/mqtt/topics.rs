//! What is said under which topic, and how Home Assistant learns of it.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};

/// Longest part of a topic that comes from a name.
const LONGEST: usize = 48;

/// Topics and what they hold until something else is said.
pub type Retained = BTreeMap<String, String>;

/// The topics of one watch.
#[derive(Debug, Clone)]
pub struct Topics {
    /// `PREFIX/NAME`.
    base: String,
    /// The name as it was given.
    name: String,
    /// The name as it may stand in a topic.
    node: String,
    /// What Home Assistant's discovery topics begin with; none to leave them out.
    discovery: Option<String>,
}

impl Topics {
    /// Topics below `prefix` of the watch called `name`.
    pub fn new(prefix: &str, name: &str, discovery: Option<&str>) -> Self {
        let node = part(name);
        let discovery = discovery.map(str::to_owned);
        Self { base: format!("{prefix}/{node}"), name: name.to_owned(), node, discovery }
    }

    /// Says whether the watch runs: `online` or `offline`.
    pub fn availability(&self) -> String {
        format!("{}/availability", self.base)
    }

    /// Events, a JSON line each.
    pub fn events(&self) -> String {
        format!("{}/events", self.base)
    }

    /// Says whether a label is there: `ON` or `OFF`.
    pub fn state(&self, region: Option<&str>, label: &str) -> String {
        let region = region.map_or_else(|| "picture".to_owned(), part);
        format!("{}/state/{region}/{}", self.base, part(label))
    }

    /// The last event of a label.
    pub fn attributes(&self, region: Option<&str>, label: &str) -> String {
        format!("{}/attributes", self.state(region, label))
    }

    /// What a former run of this watch may have left behind.
    pub fn leftovers(&self) -> Vec<String> {
        let discovery = self.discovery.as_ref();
        let configs =
            discovery.map(|prefix| format!("{prefix}/binary_sensor/{}/+/config", self.node));
        configs.into_iter().chain([format!("{}/state/#", self.base)]).collect()
    }

    /// Puts the topics of a label into `retained`.
    pub fn describe(
        &self,
        retained: &mut Retained,
        region: Option<&str>,
        label: &str,
        is_there: bool,
    ) {
        let state = self.state(region, label);
        if let Some(prefix) = &self.discovery {
            let object = match region {
                Some(region) => format!("{}_{}", part(region), part(label)),
                None => part(label),
            };
            let topic = format!("{prefix}/binary_sensor/{}/{object}/config", self.node);
            let name = region.map_or_else(|| label.to_owned(), |r| format!("{r}: {label}"));
            let config = json!({
                "name": name,
                "unique_id": format!("sextant_{}_{object}", self.node),
                "state_topic": state,
                "payload_on": "ON",
                "payload_off": "OFF",
                "json_attributes_topic": self.attributes(region, label),
                "availability_topic": self.availability(),
                "device": {
                    "identifiers": [format!("sextant_{}", self.node)],
                    "name": self.name,
                    "manufacturer": "Sextant",
                    "model": "sextant watch",
                    "sw_version": env!("CARGO_PKG_VERSION"),
                },
                "origin": { "name": "sextant", "sw_version": env!("CARGO_PKG_VERSION") },
            });
            retained.insert(topic, config.to_string());
        }
        retained.insert(state, on_off(is_there).to_owned());
    }
}

/// The state topic that an attributes topic belongs to.
pub fn label_of_attributes(topic: &str) -> Option<&str> {
    topic.strip_suffix("/attributes")
}

/// What a state topic holds.
pub fn on_off(is_there: bool) -> &'static str {
    if is_there { "ON" } else { "OFF" }
}

/// A name as one level of a topic, of letters that every program takes. Names that would look
/// alike get a digest.
pub fn part(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut part: String = name.chars().take(LONGEST).map(plain).collect();
    let is_exact = name.chars().count() <= LONGEST
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ' ');
    if !is_exact {
        let digest = Sha256::digest(name);
        part.push('_');
        part.extend(digest[..3].iter().map(|byte| format!("{byte:02x}")));
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_plain_and_different() {
        assert_eq!(part("a car"), "a_car");
        let names = ["a car", "a-car", "A car", "a_car", "ä", "ö", "", "/", "#", "+", "a/b"];
        let parts: std::collections::BTreeSet<_> = names.iter().map(|name| part(name)).collect();
        assert_eq!(parts.len(), names.len());
        for part in parts.iter().chain([&part(&"x".repeat(1000)), &part("日本語の")]) {
            assert!(part.len() <= LONGEST + 7 && !part.is_empty());
            assert!(
                part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
        }
    }

    #[test]
    fn discovery_names_the_topics_that_are_used() {
        let topics = Topics::new("sextant", "garden", Some("homeassistant"));
        let mut retained = Retained::new();
        topics.describe(&mut retained, Some("gate"), "a fox", true);
        let config = &retained["homeassistant/binary_sensor/garden/gate_a_fox/config"];
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        assert_eq!(config["state_topic"], "sextant/garden/state/gate/a_fox");
        assert_eq!(retained["sextant/garden/state/gate/a_fox"], "ON");
        assert_eq!(config["availability_topic"], topics.availability());
        assert_eq!(config["json_attributes_topic"], topics.attributes(Some("gate"), "a fox"));
        let mut quiet = Retained::new();
        Topics::new("sextant", "garden", None).describe(&mut quiet, None, "a fox", false);
        assert_eq!(quiet.len(), 1);
    }
}
