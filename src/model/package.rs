//! Model packages: a folder (or the built-in one) with `model.toml`, towers and tokenizer.

use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::embedding::SpaceId;
use crate::mapped::{Map, MapError};

/// Largest accepted file of a package, in bytes.
pub const MAX_FILE_BYTES: u64 = 2 << 30;

/// Why a model package cannot be used. Each variant names the file and the rule it breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// No package of that name or folder.
    #[error(
        "no model \"{name}\": it is neither a folder with a model.toml nor one of {known} (see `sextant model list`)"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// The names that would have been found.
        known: String,
    },
    /// A file that `model.toml` names is not there.
    #[error(
        "{file}: the model package names this file, but it is missing: copy the whole package again"
    )]
    Missing {
        /// The missing file.
        file: String,
    },
    /// A file cannot be read.
    #[error("{file}: cannot be read: {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// A file is larger than any tower may be.
    #[error("{file}: larger than the limit of {} MiB for a file of a package", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// The file.
        file: String,
    },
    /// `model.toml` is larger than any manifest may be.
    #[error("{file}: larger than the limit of {} KiB for a model.toml", MAX_MANIFEST_BYTES >> 10)]
    ManifestTooLarge {
        /// The file.
        file: String,
    },
    /// `model.toml` is not valid.
    #[error("{file}: {reason}")]
    Manifest {
        /// The file.
        file: String,
        /// The rule it breaks.
        reason: String,
    },
    /// The package was made for another version of the format.
    #[error(
        "{file}: package format {found}, but this build reads format {}: update sextant or the package",
        super::manifest::FORMAT
    )]
    Format {
        /// The file.
        file: String,
        /// The version found.
        found: u32,
    },
    /// A file is not the one that `model.toml` was written for.
    #[error(
        "{file}: sha256 is {found}, but model.toml says {expected}: the file is damaged or was exchanged"
    )]
    Checksum {
        /// The file.
        file: String,
        /// Digest in `model.toml`.
        expected: String,
        /// Digest of the file as it is.
        found: String,
    },
    /// The package has no text tower.
    #[error(
        "model \"{name}\" has no text tower: use compiled labels (`sextant labels compile`) or another model"
    )]
    NoText {
        /// The package.
        name: String,
    },
}

/// Where a package's bytes come from.
#[derive(Debug, Clone)]
enum Source {
    Folder(PathBuf),
    Builtin(&'static [(&'static str, &'static [u8])]),
}

/// The bytes of a file of a package: mapped, or part of the binary.
#[derive(Debug)]
pub struct FileBytes(Held);

#[derive(Debug)]
enum Held {
    Mapped(Map),
    Builtin(&'static [u8]),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Mapped(map) => map.bytes(),
            Held::Builtin(bytes) => bytes,
        }
    }
}

impl FileBytes {
    /// Lets go of the memory behind a part that will hardly be read again.
    pub fn release(&self, range: Range<usize>) {
        if let Held::Mapped(map) = &self.0 {
            map.release(range);
        }
    }
}

/// A model package whose manifest was read and checked. Towers are read on demand.
#[derive(Debug, Clone)]
pub struct Package {
    manifest: Manifest,
    source: Source,
}

impl Package {
    /// Opens the package in `folder`: reads and checks `model.toml`, and that its files exist.
    ///
    /// # Errors
    /// [`PackageError`], naming the file and the rule.
    pub fn open(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join("model.toml");
        let file = path.display().to_string();
        let bytes = read_capped(&path, MAX_MANIFEST_BYTES as u64).map_err(|e| match e {
            PackageError::TooLarge { file } => PackageError::ManifestTooLarge { file },
            other => other,
        })?;
        let text = String::from_utf8(bytes).map_err(|_| PackageError::Manifest {
            file: file.clone(),
            reason: "not UTF-8 text".to_owned(),
        })?;
        let manifest = Manifest::parse(&text, &file)?;
        let package = Self { manifest, source: Source::Folder(folder.to_owned()) };
        for (name, _) in package.files() {
            if !folder.join(name).is_file() {
                return Err(PackageError::Missing { file: package.describe(name) });
            }
        }
        Ok(package)
    }

    /// Wraps files that are compiled into the binary.
    pub(super) fn builtin(
        files: &'static [(&'static str, &'static [u8])],
    ) -> Result<Self, PackageError> {
        let source = Source::Builtin(files);
        let bytes = builtin_file(files, "model.toml")?;
        let text = std::str::from_utf8(bytes).map_err(|_| PackageError::Manifest {
            file: "built-in model.toml".to_owned(),
            reason: "not UTF-8 text".to_owned(),
        })?;
        Ok(Self { manifest: Manifest::parse(text, "built-in model.toml")?, source })
    }

    /// What `model.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder of the package; `None` for the built-in one.
    pub fn folder(&self) -> Option<&Path> {
        match &self.source {
            Source::Folder(path) => Some(path),
            Source::Builtin(_) => None,
        }
    }

    /// The fingerprint of the space: every number that decides where an input lands, and nothing
    /// that does not (names, licences, calibration).
    pub fn space(&self) -> SpaceId {
        let m = &self.manifest;
        let mut parts = vec![
            "sextant space 1".to_owned(),
            m.dimension.to_string(),
            m.image.sha256.to_ascii_lowercase(),
            m.image.output.clone(),
            m.image.preprocess.canonical(),
        ];
        if let Some(t) = &m.text {
            parts.extend([
                t.sha256.to_ascii_lowercase(),
                t.output.clone(),
                t.tokenizer_sha256.to_ascii_lowercase(),
                format!("{} {:?} {} {}", t.context_length, t.padding, t.pad_id, t.lowercase),
            ]);
            if t.strip_punctuation {
                parts.push("strip punctuation".to_owned());
            }
        }
        SpaceId::from_bytes(Sha256::digest(parts.join("\n").as_bytes()).into())
    }

    /// The package's files with their declared digests.
    pub fn files(&self) -> Vec<(&str, &str)> {
        let m = &self.manifest;
        let mut files = vec![(m.image.file.as_str(), m.image.sha256.as_str())];
        // A program that cannot read texts does not carry their tower.
        let carried = cfg!(feature = "text") || self.folder().is_some();
        if let Some(t) = m.text.as_ref().filter(|_| carried) {
            files.push((&t.file, &t.sha256));
            files.push((&t.tokenizer, &t.tokenizer_sha256));
        }
        files
    }

    /// Reads one of [`Package::files`] and checks its digest.
    ///
    /// # Errors
    /// [`PackageError::Missing`], [`PackageError::Unreadable`], [`PackageError::TooLarge`] or
    /// [`PackageError::Checksum`].
    pub fn read(&self, name: &str, sha256: &str) -> Result<FileBytes, PackageError> {
        let bytes = self.unchecked(name)?;
        self.check(name, sha256, &bytes)?;
        Ok(bytes)
    }

    /// Maps a file without a look at its contents: for callers that run [`Package::check`] beside
    /// what they do, and drop the result if it fails.
    ///
    /// # Errors
    /// As for [`Package::read`], but for the digest.
    pub(crate) fn unchecked(&self, name: &str) -> Result<FileBytes, PackageError> {
        let held = match &self.source {
            Source::Folder(folder) => Held::Mapped(map_capped(&folder.join(name))?),
            Source::Builtin(files) => Held::Builtin(builtin_file(files, name)?),
        };
        Ok(FileBytes(held))
    }

    /// Checks the bytes of a file against their digest, and that all of them could be read.
    ///
    /// # Errors
    /// [`PackageError::Checksum`] or [`PackageError::Unreadable`].
    pub(crate) fn check(
        &self,
        name: &str,
        sha256: &str,
        bytes: &FileBytes,
    ) -> Result<(), PackageError> {
        /// Read, and let go of, at a time: a file is never in memory as a whole.
        const BLOCK: usize = 1 << 20;
        let mut digest = Sha256::new();
        for (i, block) in bytes.chunks(BLOCK).enumerate() {
            digest.update(block);
            bytes.release(i * BLOCK..i * BLOCK + block.len());
        }
        self.intact(name, bytes)?;
        let found = hex(&digest.finalize());
        if !found.eq_ignore_ascii_case(sha256) {
            return Err(PackageError::Checksum {
                file: self.describe(name),
                expected: sha256.to_owned(),
                found,
            });
        }
        Ok(())
    }

    /// Fails if some of a file's bytes could not be read until now, and zeros took their place.
    ///
    /// # Errors
    /// [`PackageError::Unreadable`].
    pub(crate) fn intact(&self, name: &str, bytes: &FileBytes) -> Result<(), PackageError> {
        match &bytes.0 {
            Held::Mapped(map) => map.intact().map_err(|e| unmapped(self.describe(name), e)),
            Held::Builtin(_) => Ok(()),
        }
    }

    /// Checks every file of the package against its digest.
    ///
    /// # Errors
    /// The first file that does not fit.
    pub fn verify(&self) -> Result<(), PackageError> {
        self.files().into_iter().try_for_each(|(name, sha256)| self.read(name, sha256).map(drop))
    }

    /// How messages call a file of this package.
    pub fn describe(&self, name: &str) -> String {
        match &self.source {
            Source::Folder(folder) => folder.join(name).display().to_string(),
            Source::Builtin(_) => format!("built-in {name}"),
        }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn builtin_file(
    files: &'static [(&'static str, &'static [u8])],
    name: &str,
) -> Result<&'static [u8], PackageError> {
    files
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, bytes)| *bytes)
        .ok_or_else(|| PackageError::Missing { file: format!("built-in {name}") })
}

fn map_capped(path: &Path) -> Result<Map, PackageError> {
    let file = path.display().to_string();
    let (handle, length) = open_capped(path, MAX_FILE_BYTES)?;
    Map::new(&handle, path, length).map_err(|error| unmapped(file, error))
}

/// What a failed map means for the file of a package.
fn unmapped(file: String, error: MapError) -> PackageError {
    let reason = match error {
        MapError::Io { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    };
    PackageError::Unreadable { file, reason }
}

fn read_capped(path: &Path, limit: u64) -> Result<Vec<u8>, PackageError> {
    let file = path.display().to_string();
    let (handle, length) = open_capped(path, limit)?;
    let mut bytes = Vec::with_capacity(length as usize);
    (handle.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|reason| PackageError::Unreadable { file: file.clone(), reason })?;
    if bytes.len() as u64 > limit {
        return Err(PackageError::TooLarge { file });
    }
    Ok(bytes)
}

/// An open file and its length, which is at most `limit`.
fn open_capped(path: &Path, limit: u64) -> Result<(File, u64), PackageError> {
    let file = path.display().to_string();
    let unreadable = |reason: std::io::Error| match reason.kind() {
        std::io::ErrorKind::NotFound => PackageError::Missing { file: file.clone() },
        _ => PackageError::Unreadable { file: file.clone(), reason },
    };
    let handle = File::open(path).map_err(unreadable)?;
    let length = handle.metadata().map_err(unreadable)?.len();
    match length > limit {
        true => Err(PackageError::TooLarge { file }),
        false => Ok((handle, length)),
    }
}
