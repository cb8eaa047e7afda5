//! An index to search, made for the purpose and removed again.

use std::path::{Path, PathBuf};

use super::BenchError;
use crate::embedding::{Embedding, Modality, SpaceId};
use crate::index::{Index, NewRow, Reader, Tags};

/// Rows that are made and appended together.
const BATCH: u32 = 4096;

/// A folder that is removed when it is no longer needed.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, BenchError> {
        let name = format!("sextant-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Fails if it exists, so that nobody can have put a link there.
        std::fs::create_dir(&path)
            .map_err(|reason| BenchError::Folder { folder: path.display().to_string(), reason })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An index of arbitrary directions, with a sketch, and something to look for in it.
pub struct Searched {
    /// Open for searching; its pages have just been written and so are in memory.
    pub reader: Reader,
    /// The query.
    pub query: Embedding,
    _folder: Folder,
}

impl Searched {
    /// Makes an index of `rows` rows in the temporary folder.
    pub fn make(space: SpaceId, dimension: usize, rows: u32) -> Result<Self, BenchError> {
        if rows == 0 {
            return Err(BenchError::NoRows);
        }
        let folder = Folder::make()?;
        let path: &Path = &folder.0;
        let mut directions = Directions { state: 0x9E37_79B9_7F4A_7C15, dimension };
        let mut writer = Index::create(path, space, dimension)?;
        let tags = Tags::none();
        for start in (0..rows).step_by(BATCH as usize) {
            let batch: Vec<(Vec<u8>, Vec<f32>)> = (start..rows.min(start.saturating_add(BATCH)))
                .map(|row| (row.to_string().into_bytes(), directions.next()))
                .collect();
            let new = batch.iter().map(|(key, vector)| NewRow {
                key,
                vector,
                space,
                modality: Modality::Image,
                tags: &tags,
                time: None,
                source: None,
            });
            writer.append(&new.collect::<Vec<_>>())?;
        }
        writer.commit()?;
        writer.build_sketch()?;
        drop(writer);
        let reader = Index::open(path)?;
        let query = Embedding::new(space, Modality::Text, directions.next())
            .expect("an arbitrary direction has a length");
        Ok(Self { reader, query, _folder: folder })
    }
}

/// Reproducible arbitrary directions (xorshift, Marsaglia 2003).
struct Directions {
    state: u64,
    dimension: usize,
}

impl Directions {
    fn next(&mut self) -> Vec<f32> {
        let component = |_| {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            (self.state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..self.dimension).map(component).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Filter, ScanOptions};

    #[test]
    fn it_is_searched_and_goes_away() {
        let searched = Searched::make(SpaceId::from_bytes([3; 32]), 24, 5000).unwrap();
        let folder = searched.reader.folder().to_owned();
        let queries = std::slice::from_ref(&searched.query);
        let options = ScanOptions::default();
        let hits = searched.reader.search(queries, 3, &Filter::default(), &options).unwrap();
        assert_eq!((hits[0].len(), searched.reader.len()), (3, 5000));
        drop(searched);
        assert!(!folder.exists());
        let none = Searched::make(SpaceId::from_bytes([3; 32]), 24, 0);
        assert!(matches!(none, Err(BenchError::NoRows)));
    }
}
