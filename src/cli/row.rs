//! How rows of an index are shown: keys of any bytes, and tags.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sextant::index::Tags;

/// A key in JSON: as text, and in hexadecimal where it is none.
#[derive(Debug, Serialize)]
pub struct KeyFields<'a> {
    key: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
}

impl<'a> KeyFields<'a> {
    /// The fields of a key.
    pub fn of(key: &'a [u8]) -> Self {
        let hex = || key.iter().map(|byte| format!("{byte:02x}")).collect();
        let key_hex = std::str::from_utf8(key).is_err().then(hex);
        Self { key: String::from_utf8_lossy(key), key_hex }
    }
}

/// Tags as a JSON object.
#[derive(Debug)]
pub struct TagMap<'a>(pub &'a Tags);

impl Serialize for TagMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.iter().len()))?;
        for tag in self.0.iter() {
            map.serialize_entry(tag.name(), tag.value())?;
        }
        map.end()
    }
}

/// A key on one line of a terminal, whatever is in it.
pub fn shown_key(key: &[u8]) -> String {
    on_one_line(&String::from_utf8_lossy(key))
}

/// Tags on one line.
pub fn shown_tags(tags: &Tags) -> String {
    let tags: Vec<String> = tags.iter().map(|tag| on_one_line(&tag.to_string())).collect();
    tags.join(" ")
}

/// A name on one line of a terminal, whatever is in it.
pub fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_break_lines_or_steer_terminals() {
        assert_eq!(shown_key("a\nb\x1b[31m ü".as_bytes()), "a\\nb\\u{1b}[31m ü");
        assert_eq!(shown_key(b"\xff.jpg"), "\u{FFFD}.jpg");
        let tags = Tags::new(["b=x\ty".parse().unwrap(), "a=1".parse().unwrap()]).unwrap();
        assert_eq!(shown_tags(&tags), "a=1 b=x\\ty");
    }

    #[test]
    fn json_keeps_every_byte_of_a_key() {
        let json = |key: &[u8]| serde_json::to_string(&KeyFields::of(key)).unwrap();
        assert_eq!(json(b"a\n"), r#"{"key":"a\n"}"#);
        assert_eq!(json(b"\xff"), "{\"key\":\"\u{FFFD}\",\"key_hex\":\"ff\"}");
    }
}
