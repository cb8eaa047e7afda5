//! Tags: what a user says about a row, as `name=value`.

use std::fmt;
use std::str::FromStr;

use crate::embedding::Modality;
use crate::index::IndexError;

/// Most tags of a row.
pub const MAX_TAGS: usize = 64;
/// Longest tag name in bytes.
pub const MAX_TAG_NAME: usize = 255;
/// Longest tag value in bytes.
pub const MAX_TAG_VALUE: usize = 4095;

/// One `name=value`.
///
/// ```
/// use sextant::index::Tag;
/// let tag: Tag = "camera=front door".parse().unwrap();
/// assert_eq!((tag.name(), tag.value()), ("camera", "front door"));
/// assert!("camera".parse::<Tag>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    name: String,
    value: String,
}

impl Tag {
    /// Makes a tag of a name of 1 to 255 bytes without `=`, and a value of up to 4095 bytes.
    ///
    /// # Errors
    /// [`IndexError::Tag`] with the rule that is broken.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Result<Self, IndexError> {
        let (name, value) = (name.into(), value.into());
        let rule = if name.is_empty() || name.len() > MAX_TAG_NAME {
            "the name before `=` has 1 to 255 bytes"
        } else if name.contains('=') {
            "a name has no `=` in it"
        } else if value.len() > MAX_TAG_VALUE {
            "the value after `=` has at most 4095 bytes"
        } else {
            return Ok(Self { name, value });
        };
        Err(IndexError::Tag { text: format!("{name}={value}").chars().take(60).collect(), rule })
    }

    /// What stands before `=`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands after `=`.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Tag {
    type Err = IndexError;

    fn from_str(text: &str) -> Result<Self, IndexError> {
        let Some((name, value)) = text.split_once('=') else {
            let rule = "a tag is written name=value";
            return Err(IndexError::Tag { text: text.chars().take(60).collect(), rule });
        };
        Self::new(name, value)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// The tags of a row: at most 64, in the order of their names, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Tags(Vec<Tag>);

impl Tags {
    /// No tags.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Puts tags in order; of two with the same name the later one counts.
    ///
    /// # Errors
    /// [`IndexError::Tag`] when there are more than 64.
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Result<Self, IndexError> {
        let mut sorted: Vec<Tag> = Vec::new();
        for tag in tags {
            match sorted.binary_search_by(|other| other.name.cmp(&tag.name)) {
                Ok(at) => sorted[at] = tag,
                Err(_) if sorted.len() == MAX_TAGS => {
                    let rule = "a row has at most 64 tags";
                    return Err(IndexError::Tag { text: tag.to_string(), rule });
                }
                Err(at) => sorted.insert(at, tag),
            }
        }
        Ok(Self(sorted))
    }

    /// The tags in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.0.iter()
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|tag| tag.name.as_str().cmp(name)).ok()?;
        Some(&self.0[at].value)
    }

    /// Whether the tag is among them.
    pub fn contains(&self, tag: &Tag) -> bool {
        self.get(&tag.name) == Some(&tag.value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Rows with the same modality and the same tags share a group, stored once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    pub modality: Modality,
    pub tags: Tags,
}

impl Group {
    /// Modality, number of tags, then each tag with the lengths of its two halves.
    pub fn encode(&self) -> Vec<u8> {
        let modality = match self.modality {
            Modality::Image => 0,
            Modality::Text => 1,
            Modality::Audio => 2,
        };
        let mut bytes = vec![modality, self.tags.0.len() as u8];
        for Tag { name, value } in &self.tags.0 {
            bytes.push(name.len() as u8);
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(value.as_bytes());
        }
        bytes
    }

    /// Reads what [`Group::encode`] wrote. `None` if a byte is not as it would write it.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[modality, count], mut rest) = bytes.split_first_chunk::<2>()?;
        let modality = match modality {
            0 => Modality::Image,
            1 => Modality::Text,
            2 => Modality::Audio,
            _ => return None,
        };
        let mut take = |length: usize| {
            let (part, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(part)
        };
        let mut tags = Vec::new();
        for _ in 0..count {
            let name_length = take(1)?[0] as usize;
            let value_length = take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))? as usize;
            let name = std::str::from_utf8(take(name_length)?).ok()?;
            let value = std::str::from_utf8(take(value_length)?).ok()?;
            tags.push(Tag::new(name, value).ok()?);
        }
        let in_order = tags.windows(2).all(|pair| pair[0].name < pair[1].name);
        (in_order && rest.is_empty() && tags.len() <= MAX_TAGS)
            .then_some(Self { modality, tags: Tags(tags) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Tags {
        Tags::new(texts.iter().map(|t| t.parse().unwrap())).unwrap()
    }

    #[test]
    fn tags_are_a_map_in_order() {
        let tags = tags(&["b=2", "a=1", "b=3"]);
        assert_eq!(tags.iter().map(Tag::to_string).collect::<Vec<_>>(), ["a=1", "b=3"]);
        assert_eq!(tags.get("b"), Some("3"));
        assert!(tags.contains(&"a=1".parse().unwrap()) && !tags.contains(&"a=".parse().unwrap()));
    }

    #[test]
    fn bad_tags_name_their_rule() {
        for bad in ["", "=x", "name", &"n".repeat(300), &format!("n={}", "v".repeat(5000))] {
            assert!(matches!(bad.parse::<Tag>(), Err(IndexError::Tag { .. })), "{bad}");
        }
        let many = (0..65).map(|i| Tag::new(format!("n{i}"), "").unwrap());
        assert!(Tags::new(many).is_err());
    }

    #[test]
    fn groups_read_back_and_nothing_else_is_accepted() {
        let group = Group { modality: Modality::Text, tags: tags(&["naïve=ö", "z="]) };
        let bytes = group.encode();
        assert_eq!(Group::decode(&bytes), Some(group));
        for length in 0..bytes.len() {
            assert_eq!(Group::decode(&bytes[..length]), None);
        }
        assert_eq!(Group::decode(&[bytes, vec![0]].concat()), None);
        assert_eq!(Group::decode(&[3, 0]), None);
        let unordered = [&[0, 2, 1, 0, 0, b'b', 1, 0, 0, b'a'][..]].concat();
        assert_eq!(Group::decode(&unordered), None);
    }
}
