//! A picture file on its way into an index: is it new, and what is it?

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sextant::index::{Source, content_digest};
use sextant::{DecodeError, Embedding, EncodeError, Encoder, decode_bytes};

use super::capture::TimeSource;

/// Enough of a file to see that it is no picture, before a film is read as a whole.
const START: u64 = 4096;

/// A file and the key that its row has.
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// The key.
    pub key: Vec<u8>,
}

/// What became of a file.
pub enum Outcome {
    /// It is in the index already.
    Unchanged,
    /// It is new or has changed.
    Embedded(Box<Embedded>),
    /// It cannot be used.
    Failed(EncodeError),
    /// It was not looked at, because the user stopped the work.
    Left,
}

/// A picture ready for the index.
pub struct Embedded {
    /// Where it lies in the space.
    pub embedding: Embedding,
    /// The file, to know it again.
    pub source: Source,
    /// When it was taken, in milliseconds since 1970.
    pub time: Option<i64>,
}

/// Embeds a file unless it is the one that is `known`.
///
/// Equal length and time of change mean unchanged, as for make and rsync; with another time the
/// content decides.
pub fn embed(
    path: &Path,
    known: Option<Source>,
    encoder: &Encoder,
    time: TimeSource,
) -> Result<Outcome, EncodeError> {
    let name = path.display().to_string();
    let (mut file, metadata) = open(path, &name)?;
    let modified = nanoseconds(&metadata);
    let same_size = known.filter(|known| known.size == metadata.len());
    if same_size.is_some_and(|known| known.modified == modified) {
        return Ok(Outcome::Unchanged);
    }
    let bytes = read(&mut file, &name, encoder.limits().max_file_bytes)?;
    let digest = content_digest(&bytes);
    if same_size.is_some_and(|known| known.digest == digest) {
        return Ok(Outcome::Unchanged);
    }
    let picture = decode_bytes(&bytes, &name, encoder.limits())?;
    let time = time.of(&bytes, modified);
    let size = bytes.len() as u64;
    drop(bytes);
    let embedding = encoder.image(&picture, &name)?;
    let source = Source { size, modified, digest };
    Ok(Outcome::Embedded(Box::new(Embedded { embedding, source, time })))
}

fn open(path: &Path, name: &str) -> Result<(File, Metadata), DecodeError> {
    let refuse = |reason: io::Error| refusal(name, reason);
    let file = File::open(path).map_err(refuse)?;
    let metadata = file.metadata().map_err(refuse)?;
    if metadata.is_dir() {
        return Err(DecodeError::Folder { name: name.to_owned() });
    }
    Ok((file, metadata))
}

fn refusal(name: &str, reason: io::Error) -> DecodeError {
    let name = name.to_owned();
    match reason.kind() {
        io::ErrorKind::NotFound => DecodeError::Missing { name },
        io::ErrorKind::IsADirectory => DecodeError::Folder { name },
        _ => DecodeError::Unreadable { name, reason },
    }
}

/// Reads a file of at most `limit` bytes; of one that is no picture only the beginning.
fn read(file: &mut File, name: &str, limit: u64) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    file.take(START).read_to_end(&mut bytes).map_err(|e| refusal(name, e))?;
    if image::guess_format(&bytes).is_err() {
        return Ok(bytes);
    }
    // A file may grow while it is read: to the limit and one more.
    let rest = (limit + 1).saturating_sub(bytes.len() as u64);
    file.take(rest).read_to_end(&mut bytes).map_err(|e| refusal(name, e))?;
    if bytes.len() as u64 > limit {
        return Err(DecodeError::FileTooLarge { name: name.to_owned(), limit });
    }
    Ok(bytes)
}

/// The time of the last change in nanoseconds since 1970; 0 where the file system has none.
fn nanoseconds(metadata: &Metadata) -> i64 {
    let signed = |time: SystemTime| match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(-i64::MAX, |n| -n),
    };
    metadata.modified().map_or(0, signed)
}
