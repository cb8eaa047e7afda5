//! Small pictures of what is kept, so that one sees what a search has found.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use sextant::index::{Filter, Index, IndexError};
use sextant::watch::{FramePicture, Region, Seen};

use super::super::output::complain;
use super::super::thumbnail;

/// Bytes on disk that a thumbnail is taken for where room is bounded: 240 pixels of a camera's
/// picture are 5 to 14 KB in blocks of 4.
pub const ROOM: usize = 12 << 10;

/// Thumbnails beside the rows of an index.
pub struct Thumbnails {
    index: PathBuf,
    regions: Vec<Region>,
    failed: bool,
}

impl Thumbnails {
    /// Thumbnails of these regions, or of whole pictures where there are none.
    pub fn new(index: &Path, regions: &[Region]) -> Self {
        Self { index: index.to_owned(), regions: regions.to_vec(), failed: false }
    }

    /// Keeps what a row shows. Without it the row is no less, so a failure is said once.
    pub fn keep(&mut self, key: &[u8], frame: &Seen, region: usize) {
        let Some(picture) = frame.picture.as_ref().and_then(FramePicture::picture) else { return };
        let cut = self.regions.get(region).map(|region| region.cut(&picture));
        let jpeg =
            thumbnail::jpeg(cut.as_ref().unwrap_or(&picture), thumbnail::SIDE, thumbnail::QUALITY);
        let written = jpeg.and_then(|jpeg| {
            thumbnail::write(&self.index, key, &jpeg).map_err(|error| error.to_string())
        });
        if let Err(reason) = &written
            && !self.failed
        {
            let folder = self.index.join(thumbnail::FOLDER);
            complain(&format!("{}: thumbnails are not kept: {reason}", folder.display()));
        }
        self.failed = written.is_err();
    }

    /// Removes the thumbnail of a row that is removed.
    pub fn forget(&self, key: &[u8]) {
        let _ = fs::remove_file(thumbnail::path(&self.index, key));
    }

    /// Removes thumbnails of rows that are not there: their watch was killed before it could
    /// commit, or the rows were removed by hand.
    ///
    /// # Errors
    /// [`IndexError`] when the index cannot be read.
    pub fn sweep(&self) -> Result<(), IndexError> {
        let folder = self.index.join(thumbnail::FOLDER);
        let Ok(parts) = fs::read_dir(&folder) else { return Ok(()) };
        let reader = Index::open(&self.index)?;
        let mut kept: HashSet<PathBuf> = HashSet::new();
        for row in reader.matching(&Filter::default())? {
            kept.insert(thumbnail::path(&self.index, &reader.entry(row)?.key));
        }
        for part in parts.flatten() {
            let Ok(files) = fs::read_dir(part.path()) else { continue };
            let strays = files.flatten().map(|file| file.path());
            strays.filter(|path| !kept.contains(path)).for_each(|path| {
                let _ = fs::remove_file(path);
            });
        }
        Ok(())
    }
}
