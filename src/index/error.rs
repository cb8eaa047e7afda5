//! What can go wrong with an index, one variant for each rule.

use std::io;
use std::path::{Path, PathBuf};

use crate::embedding::EmbeddingError;
use crate::kernel::MachineError;
use crate::mapped::MapError;

/// Why an index could not be opened, changed, searched or copied.
///
/// Every message says what happened, to which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The path exists and is not a folder.
    #[error("{path}: an index is a folder, and this is a file")]
    NotAFolder {
        /// The path that was given.
        path: PathBuf,
    },
    /// Nothing exists at the path.
    #[error("{path}: no such index (`sextant index add` or `import` makes one)")]
    Missing {
        /// The path that was given.
        path: PathBuf,
    },
    /// The folder holds no index.
    #[error("{path}: not an index: {reason}")]
    NotAnIndex {
        /// The folder or file that was looked at.
        path: PathBuf,
        /// What is missing or different.
        reason: &'static str,
    },
    /// A new index was to be made in a folder that holds other files.
    #[error("{path}: the folder is not empty, and an index must have a folder of its own")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A new index was to be made where one exists.
    #[error("{path}: an index exists already")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes to the index.
    #[error("{path}: locked by {holder}; an index has one writer at a time: wait for it or end it")]
    Locked {
        /// The folder.
        path: PathBuf,
        /// "process 123", or "another process" when the number could not be read.
        holder: String,
    },
    /// The file or folder may not be written.
    #[error("{path}: cannot be written (read-only disk, or no permission)")]
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
    },
    /// No space is left on the device, or a quota is used up.
    #[error(
        "{path}: the disk is full; all that was acknowledged is safe: free some space and go on"
    )]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("{path}: {action} failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write or sync failed, so what the disk holds beyond the last commit is unknown.
    #[error(
        "{path}: an earlier write failed, so this writer is closed; all that was acknowledged is safe: open the index again"
    )]
    Poisoned {
        /// The folder.
        path: PathBuf,
    },
    /// None of the four header slots is intact.
    #[error("{path}: no intact header slot; the index is damaged: restore it from a copy")]
    HeadDamaged {
        /// The header file.
        path: PathBuf,
    },
    /// The index was written by a newer version of the format.
    #[error(
        "{path}: format version {found}, and this program knows versions up to {known}: use a newer sextant"
    )]
    NewerVersion {
        /// The header file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The header is intact and says something this format does not allow.
    #[error("{path}: the header breaks a rule of the format: {rule}")]
    HeadRule {
        /// The header file.
        path: PathBuf,
        /// The rule.
        rule: &'static str,
    },
    /// Rows and query, or index and model, belong to different spaces.
    #[error(
        "{path}: holds vectors of space {index}, and these are of space {given}: use the model that made the index, or a new index"
    )]
    ForeignSpace {
        /// The folder.
        path: PathBuf,
        /// Short fingerprint of the index.
        index: String,
        /// Short fingerprint of what was given.
        given: String,
    },
    /// A vector has the wrong number of components.
    #[error("{what} has {found} components, and the index has {expected}")]
    Dimension {
        /// What was given: a query, a row, a file.
        what: String,
        /// Components of the index.
        expected: usize,
        /// Components found.
        found: usize,
    },
    /// The dimension of a new index is outside of what the format allows.
    #[error("an index has 1 to {most} dimensions, not {found}")]
    DimensionLimit {
        /// The most that is allowed.
        most: usize,
        /// What was asked for.
        found: usize,
    },
    /// A file is shorter than the header says.
    #[error(
        "{path}: truncated: {found} bytes, and the header promises {expected}: restore the file from a copy"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that must be there.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file that the header counts on does not exist.
    #[error("{path}: missing; the index is damaged: restore the file from a copy")]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// A checksum or a rule of the format does not hold at one place.
    #[error("{path}: damaged at byte {offset}{}: {what}; `sextant index verify` lists all damage, `compact --drop-damaged` saves the rest", .row.map(|r| format!(" (row {r})")).unwrap_or_default())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged part begins.
        offset: u64,
        /// The row it belongs to, if it belongs to one.
        row: Option<u32>,
        /// Which check failed.
        what: &'static str,
    },
    /// The file shrank, or the disk failed to read it, while it was mapped.
    #[error(
        "{path}: could not be read to its end: something truncated it while it was open, or the disk fails"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// More files are mapped at once than the guard against truncation can watch.
    #[error("{path}: too many indexes are open in this process: close some readers")]
    TooManyMaps {
        /// The file.
        path: PathBuf,
    },
    /// A vector has no direction or is not finite.
    #[error("row {row} of the batch: {source}")]
    BadVector {
        /// Position in the batch.
        row: usize,
        /// What is wrong with it.
        source: EmbeddingError,
    },
    /// A vector of a file has no direction or is not finite.
    #[error("{path}: row {row}: {source}; the rows of the batches before it were imported")]
    BadRow {
        /// The file.
        path: PathBuf,
        /// Position in the file, from 0.
        row: u64,
        /// What is wrong with it.
        source: EmbeddingError,
    },
    /// A key is empty or too long.
    #[error("row {row} of the batch: a key has 1 to {most} bytes, not {found}")]
    KeyLength {
        /// Position in the batch.
        row: usize,
        /// The longest key.
        most: usize,
        /// Length found.
        found: usize,
    },
    /// A tag is not of the form `name=value`, or too long, or there are too many.
    #[error("tag {text:?}: {rule}")]
    Tag {
        /// The tag as given, shortened.
        text: String,
        /// What a tag must be.
        rule: &'static str,
    },
    /// The index holds as many rows as the format can number.
    #[error("{path}: the index is full ({most} rows): compact it, or start another")]
    Full {
        /// The folder.
        path: PathBuf,
        /// The most rows.
        most: u32,
    },
    /// More results were asked for than a search can give.
    #[error(
        "a search gives at most {most} results, not {found}: narrow it with a filter, or export the index"
    )]
    TooManyResults {
        /// The most that can be asked for.
        most: usize,
        /// What was asked for.
        found: usize,
    },
    /// The row number is not one of this snapshot.
    #[error("row {row}: the index has {rows} rows")]
    NoSuchRow {
        /// The row asked for.
        row: u32,
        /// Rows in the snapshot.
        rows: u32,
    },
    /// The file is not NumPy's `.npy`, or its header breaks a rule.
    #[error("{path}: not a readable .npy file: {rule}")]
    Npy {
        /// The file.
        path: PathBuf,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The array is stored column by column.
    #[error("{path}: the array is in Fortran order: save it with numpy.ascontiguousarray(a)")]
    NpyFortran {
        /// The file.
        path: PathBuf,
    },
    /// The components are of another type than float32 or float16.
    #[error("{path}: components of type {found:?}: save the array with a.astype('float32')")]
    NpyType {
        /// The file.
        path: PathBuf,
        /// NumPy's name of the type.
        found: String,
    },
    /// The file with the keys does not fit the array.
    #[error("{path}: {found} keys for {expected} vectors")]
    KeyCount {
        /// The file with the keys.
        path: PathBuf,
        /// Vectors in the array.
        expected: u64,
        /// Keys found.
        found: u64,
    },
    /// A line of a JSON Lines file with keys is not understood.
    #[error("{path}: line {line}: {rule}")]
    KeyLine {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong with the line.
        rule: String,
    },
    /// The vector instructions that were asked for cannot be used.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The Parquet writer failed.
    #[error("{path}: writing Parquet failed: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        reason: String,
    },
}

impl From<MapError> for IndexError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Io { action, path, source } => Self::io(action, &path, source),
            MapError::Truncated { path, expected, found } => {
                Self::Truncated { path, expected, found }
            }
            MapError::TooMany { path } => Self::TooManyMaps { path },
            MapError::Lost { path } => Self::Unreadable { path },
        }
    }
}

impl IndexError {
    /// Wraps what the file system said, telling apart what a person can do something about.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                if action != "reading" && action != "opening" =>
            {
                Self::ReadOnly { path }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Whether the index itself is damaged or does not fit (the program's exit status 3).
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::NotAnIndex { .. }
                | Self::HeadDamaged { .. }
                | Self::HeadRule { .. }
                | Self::NewerVersion { .. }
                | Self::ForeignSpace { .. }
                | Self::Truncated { .. }
                | Self::FileMissing { .. }
                | Self::Damaged { .. }
                | Self::Unreadable { .. }
        )
    }
}
