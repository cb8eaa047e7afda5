//! The keys of imported vectors: numbered, one a line, or JSON Lines as `export` writes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::embedding::Modality;
use crate::index::format::MAX_KEY;
use crate::index::{Entry, IndexError, Tag, Tags};

/// Longest line that is read: a key in hexadecimal, and all the tags there can be.
const MAX_LINE: u64 = 1 << 20;

/// Where the keys of imported vectors come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// This text, then `#` and the number of the row.
    Numbered(String),
    /// A file. If its name ends in `.jsonl` each line is an object as `export` writes it, with
    /// at least `"key"`; else each line is a key, which may be any bytes but a line feed.
    File(PathBuf),
}

/// What a line of JSON says about a row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The key; where it is not UTF-8, as well as it can be shown.
    key: String,
    /// The bytes of a key that is not UTF-8, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modality: Option<Modality>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    #[serde(default)]
    time: Option<i64>,
}

impl Line {
    /// The line of a row.
    pub fn of(entry: &Entry) -> Self {
        let text = std::str::from_utf8(&entry.key);
        let hex = || entry.key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            key: String::from_utf8_lossy(&entry.key).into_owned(),
            key_hex: text.is_err().then(hex),
            modality: Some(entry.modality),
            tags: entry.tags.iter().map(|t| (t.name().into(), t.value().into())).collect(),
            time: entry.time,
        }
    }
}

/// What is known of a row before its vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    pub key: Vec<u8>,
    pub modality: Option<Modality>,
    pub tags: Tags,
    pub time: Option<i64>,
}

/// Gives the keys one after the other.
pub(crate) struct KeyReader {
    keys: Keys,
    input: Option<BufReader<File>>,
    line: u64,
}

impl KeyReader {
    /// Opens the keys, after making sure that there are as many as vectors.
    pub fn open(keys: &Keys, vectors: u64) -> Result<Self, IndexError> {
        let open = |path: &Path| {
            File::open(path).map(BufReader::new).map_err(|e| IndexError::io("opening", path, e))
        };
        let mut reader = Self { keys: keys.clone(), input: None, line: 0 };
        if let Keys::File(path) = keys {
            reader.input = Some(open(path)?);
            while reader.next_line()?.is_some() {}
            if reader.line != vectors {
                let (path, found) = (path.clone(), reader.line);
                return Err(IndexError::KeyCount { path, expected: vectors, found });
            }
            reader = Self { input: Some(open(path)?), line: 0, ..reader };
        }
        Ok(reader)
    }

    fn path(&self) -> &Path {
        match &self.keys {
            Keys::File(path) => path,
            Keys::Numbered(stem) => Path::new(stem),
        }
    }

    fn refuse(&self, rule: impl Into<String>) -> IndexError {
        IndexError::KeyLine { path: self.path().into(), line: self.line, rule: rule.into() }
    }

    /// The next line without its end; `None` after the last.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, IndexError> {
        let Some(input) = &mut self.input else { return Ok(None) };
        let mut line = Vec::new();
        let read = std::io::Read::take(input, MAX_LINE).read_until(b'\n', &mut line);
        let count = read.map_err(|e| IndexError::io("reading", self.path(), e))?;
        if count == 0 {
            return Ok(None);
        }
        self.line += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
            line.pop_if(|end| *end == b'\r');
        } else if count as u64 == MAX_LINE {
            return Err(self.refuse("the line is longer than 1 MiB"));
        }
        Ok(Some(line))
    }

    /// What belongs to the next vector.
    pub fn next(&mut self) -> Result<Described, IndexError> {
        let plain = |key| Described { key, modality: None, tags: Tags::none(), time: None };
        if let Keys::Numbered(stem) = &self.keys {
            let key = format!("{stem}#{}", self.line).into_bytes();
            self.line += 1;
            return Ok(plain(key));
        }
        let line = self.next_line()?.ok_or_else(|| self.refuse("the file became shorter"))?;
        let json = self.path().extension().is_some_and(|e| e == "jsonl");
        let described = if json {
            let line: Line =
                serde_json::from_slice(&line).map_err(|e| self.refuse(e.to_string()))?;
            self.describe(line)?
        } else {
            plain(line)
        };
        match described.key.len() {
            1..=MAX_KEY => Ok(described),
            found => Err(self.refuse(format!("a key has 1 to {MAX_KEY} bytes, not {found}"))),
        }
    }

    fn describe(&self, line: Line) -> Result<Described, IndexError> {
        let key = match &line.key_hex {
            None => line.key.into_bytes(),
            Some(hex) => from_hex(hex).ok_or_else(|| {
                self.refuse("key_hex is not an even number of hexadecimal digits")
            })?,
        };
        let tags: Result<Vec<Tag>, IndexError> =
            line.tags.into_iter().map(|(name, value)| Tag::new(name, value)).collect();
        let tags = tags.and_then(Tags::new).map_err(|e| self.refuse(e.to_string()))?;
        Ok(Described { key, modality: line.modality, tags, time: line.time })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[a, b]| Some((digit(*a)? * 16 + digit(*b)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8], vectors: u64) -> Result<Vec<Described>, IndexError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut reader = KeyReader::open(&Keys::File(path), vectors)?;
        (0..vectors).map(|_| reader.next()).collect()
    }

    #[test]
    fn a_line_is_a_key_whatever_its_bytes() {
        let keys = read("keys.txt", b"a b\r\n\xff\n\"c\"", 3).unwrap();
        let keys: Vec<&[u8]> = keys.iter().map(|d| &d.key[..]).collect();
        assert_eq!(keys, [b"a b", &b"\xff"[..], b"\"c\""]);
        let count = read("keys.txt", b"a\n", 2).unwrap_err().to_string();
        assert!(count.ends_with("1 keys for 2 vectors"), "{count}");
        let empty = read("keys.txt", b"a\n\nb\n", 3).unwrap_err().to_string();
        assert!(empty.contains("line 2: a key has 1 to 65535 bytes, not 0"), "{empty}");
    }

    #[test]
    fn json_lines_carry_tags_and_keys_that_are_not_text() {
        let entry = Entry {
            row: 0,
            key: b"a\n\xff".to_vec(),
            modality: Modality::Text,
            tags: Tags::new(["x=y=z".parse().unwrap()]).unwrap(),
            time: Some(-5),
            source: None,
        };
        let line = serde_json::to_vec(&Line::of(&entry)).unwrap();
        let back = read("k.jsonl", &line, 1).unwrap().remove(0);
        assert_eq!((&back.key, back.modality), (&entry.key, Some(Modality::Text)));
        assert_eq!((back.tags, back.time), (entry.tags, entry.time));
        for bad in ["{}", "{\"key\":\"\"}", "[", "{\"key\":\"a\",\"key_hex\":\"f\"}", "{\"key\":1}"]
        {
            let error = read("k.jsonl", bad.as_bytes(), 1).unwrap_err();
            assert!(error.to_string().contains("line 1: "), "{error}");
        }
    }
}
