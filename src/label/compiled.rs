//! Label sets as embeddings: what a device needs when it has no text tower.
//!
//! File layout, little-endian: 8 bytes `SXTLABEL`, `u32` version, `u32` length of a JSON header,
//! the header, the label embeddings as `f32` rows, and the SHA-256 of everything before it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::set::{Label, MAX_LABELS, check_name};
use super::tree::Tree;
use crate::capped::read_capped;
use crate::embedding::{SpaceId, normalise};
use crate::one_line::one_line;

/// First bytes of a compiled label file.
pub const MAGIC: &[u8; 8] = b"SXTLABEL";

const VERSION: u32 = 1;
const MAX_BYTES: u64 = 4 << 30;
const DIGEST: usize = 32;

/// Why a compiled label file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompiledError {
    /// The file cannot be read or written.
    #[error("{file}: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// The file is shorter or longer than it says, or larger than any label set.
    #[error("{file}: the compiled labels are cut short or have extra bytes: compile them again")]
    Length {
        /// The file.
        file: String,
    },
    /// The file was written by another version.
    #[error(
        "{file}: compiled labels of version {found}, but this build reads {VERSION}: compile them again"
    )]
    Version {
        /// The file.
        file: String,
        /// The version found.
        found: u32,
    },
    /// The checksum does not fit.
    #[error(
        "{file}: the compiled labels are damaged (their checksum does not fit): compile them again"
    )]
    Checksum {
        /// The file.
        file: String,
    },
    /// The header or the vectors break a rule.
    #[error("{file}: not valid compiled labels: {reason}")]
    Content {
        /// The file.
        file: String,
        /// The rule.
        reason: String,
    },
    /// The labels were compiled with another model.
    #[error(
        "{file}: these labels were compiled for space {found}, but the model in use is space {expected}: compile them again with this model"
    )]
    Space {
        /// The file.
        file: String,
        /// Short fingerprint in the file.
        found: String,
        /// Short fingerprint of the model.
        expected: String,
    },
}

/// A label without its prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelName {
    /// What is shown.
    pub name: String,
    /// The broader label that this one counts towards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Takes part in the competition, but is never shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negative: bool,
}

impl From<&Label> for LabelName {
    fn from(label: &Label) -> Self {
        Self { name: label.name.clone(), parent: label.parent.clone(), negative: label.negative }
    }
}

/// Labels and their embeddings in one space.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledLabels {
    space: SpaceId,
    dimension: usize,
    labels: Vec<LabelName>,
    classes: Vec<usize>,
    rows: Vec<f32>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    space: SpaceId,
    dimension: usize,
    labels: Vec<LabelName>,
    classes: Vec<usize>,
}

impl CompiledLabels {
    /// Puts labels and their unit vectors (`labels.len()` rows of `dimension`) together.
    pub(super) fn new(
        space: SpaceId,
        dimension: usize,
        labels: Vec<LabelName>,
        classes: Vec<usize>,
        rows: Vec<f32>,
    ) -> Self {
        debug_assert_eq!(rows.len(), labels.len() * dimension);
        Self { space, dimension, labels, classes, rows }
    }

    /// The space of the embeddings.
    pub fn space(&self) -> SpaceId {
        self.space
    }

    /// The labels, negatives included.
    pub fn labels(&self) -> &[LabelName] {
        &self.labels
    }

    /// For the n-th name as the user listed them, its place in [`CompiledLabels::labels`].
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The unit vector of label `index`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.rows[index * self.dimension..(index + 1) * self.dimension]
    }

    /// Whether a file starts as compiled labels do.
    pub fn is_compiled(path: &Path) -> bool {
        use std::io::Read;
        let mut start = [0u8; 8];
        std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok()
            && &start == MAGIC
    }

    /// Writes the file beside its destination and renames it, so that a reader never sees half.
    ///
    /// # Errors
    /// [`CompiledError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), CompiledError> {
        let io = |reason| CompiledError::Io { file: path.display().to_string(), reason };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let written = std::fs::write(&part, self.to_bytes()).and_then(|()| {
            std::fs::File::open(&part)?.sync_all()?;
            std::fs::rename(&part, path)
        });
        written.map_err(|reason| {
            let _ = std::fs::remove_file(&part);
            io(reason)
        })
    }

    /// Reads a file that must belong to `space`, of `dimension` numbers.
    ///
    /// # Errors
    /// [`CompiledError`], naming the file and the rule.
    pub fn load(path: &Path, space: SpaceId, dimension: usize) -> Result<Self, CompiledError> {
        let file = path.display().to_string();
        let io = |reason| CompiledError::Io { file: file.clone(), reason };
        let Some(bytes) = read_capped(path, MAX_BYTES).map_err(io)? else {
            return Err(CompiledError::Length { file });
        };
        let compiled = Self::from_bytes(&bytes, &file)?;
        if compiled.space != space {
            return Err(CompiledError::Space {
                file,
                found: compiled.space.short(),
                expected: space.short(),
            });
        }
        if compiled.dimension != dimension {
            // Only a forged file has another length than its space.
            let reason = format!("rows of {} numbers, not {dimension}", compiled.dimension);
            return Err(CompiledError::Content { file, reason });
        }
        Ok(compiled)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&Header {
            space: self.space,
            dimension: self.dimension,
            labels: self.labels.clone(),
            classes: self.classes.clone(),
        })
        .expect("names and numbers always have a JSON form");
        let mut bytes = Vec::with_capacity(16 + header.len() + self.rows.len() * 4 + DIGEST);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&header);
        self.rows.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the file's bytes; `file` is named in errors.
    ///
    /// # Errors
    /// [`CompiledError`].
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self, CompiledError> {
        let length = || CompiledError::Length { file: file.to_owned() };
        let content = |reason: &str| CompiledError::Content {
            file: file.to_owned(),
            reason: one_line(reason),
        };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| content("no SXTLABEL at its start"))?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(length)?;
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(CompiledError::Version { file: file.to_owned(), found: version });
        }
        let (body, digest) = bytes.split_last_chunk::<DIGEST>().ok_or_else(length)?;
        let (header_length, rest) = rest.split_first_chunk::<4>().ok_or_else(length)?;
        let header_length = u32::from_le_bytes(*header_length) as usize;
        if rest.len() < DIGEST || header_length > rest.len() - DIGEST {
            return Err(length());
        }
        if Sha256::digest(body)[..] != digest[..] {
            return Err(CompiledError::Checksum { file: file.to_owned() });
        }
        let (header, rows) = rest[..rest.len() - DIGEST].split_at(header_length);
        let header: Header = serde_json::from_slice(header).map_err(|e| content(&e.to_string()))?;
        let expected =
            header.labels.len().checked_mul(header.dimension).and_then(|n| n.checked_mul(4));
        if expected != Some(rows.len()) || header.dimension == 0 {
            return Err(length());
        }
        if header.labels.len() > MAX_LABELS || header.classes.len() > MAX_LABELS {
            return Err(content(&format!("more than the limit of {MAX_LABELS} labels")));
        }
        for label in &header.labels {
            let names = std::iter::once(&label.name).chain(&label.parent);
            names.into_iter().try_for_each(|name| check_name(name)).map_err(|e| content(&e))?;
        }
        if header.classes.iter().any(|&place| place >= header.labels.len()) {
            return Err(content("a class leads to a label that is not there"));
        }
        if header.labels.iter().all(|label| label.negative) {
            return Err(content("it holds no label to show"));
        }
        if let Err(fault) = Tree::new(&header.labels) {
            return Err(content(&fault.to_string()));
        }
        let mut rows: Vec<f32> =
            rows.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        for row in rows.chunks_exact_mut(header.dimension) {
            normalise(row).map_err(|e| content(&e.to_string()))?;
        }
        Ok(Self::new(header.space, header.dimension, header.labels, header.classes, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CompiledLabels {
        let label = |name: &str, negative| LabelName { name: name.into(), parent: None, negative };
        let rows = vec![1.0, 0.0, 0.0, 1.0];
        let labels = vec![label("cat", false), label("wall", true)];
        CompiledLabels::new(SpaceId::from_bytes([3; 32]), 2, labels, vec![0, 0], rows)
    }

    #[test]
    fn bytes_round_trip() {
        let labels = sample();
        assert_eq!(CompiledLabels::from_bytes(&labels.to_bytes(), "f").unwrap(), labels);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused() {
        let bytes = sample().to_bytes();
        for end in 0..bytes.len() {
            assert!(CompiledLabels::from_bytes(&bytes[..end], "f").is_err(), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(CompiledLabels::from_bytes(&damaged, "f").is_err(), "bit {bit}");
        }
    }

    /// A checksum says that nothing was damaged, not that nobody wrote the file by hand.
    #[test]
    fn hand_made_names_are_refused() {
        for name in ["a\u{1b}[2J", "a\nb", &"x".repeat(1001)] {
            let mut labels = sample();
            labels.labels[0].name = name.into();
            let error = CompiledLabels::from_bytes(&labels.to_bytes(), "f").unwrap_err();
            assert!(matches!(error, CompiledError::Content { .. }), "{error}");
            assert!(
                !error.to_string().chars().any(char::is_control) && error.to_string().len() < 200
            );
        }
    }

    #[test]
    fn another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        sample().save(&path).unwrap();
        let load = |space, dimension| {
            CompiledLabels::load(&path, SpaceId::from_bytes([space; 32]), dimension)
        };
        assert!(matches!(load(4, 2), Err(CompiledError::Space { .. })));
        assert!(matches!(load(3, 3), Err(CompiledError::Content { .. })));
        assert!(load(3, 2).is_ok());
        assert!(CompiledLabels::is_compiled(&path));
    }
}
