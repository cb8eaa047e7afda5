//! Reading every byte of an index and naming what is wrong.

use std::path::PathBuf;

use rayon::prelude::*;

use crate::index::format::{BLOCK, HEAD};
use crate::index::head::SLOT;
use crate::index::sketch::Sketch;
use crate::index::{IndexError, Reader};

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where the damaged part begins.
    pub offset: u64,
    /// The row that it belongs to, if it belongs to one.
    pub row: Option<u32>,
    /// Which check failed.
    pub what: &'static str,
}

/// What [`Reader::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rows that were checked, removed ones included.
    pub rows: u32,
    /// Damaged places in the order of files and offsets.
    pub damage: Vec<Damage>,
}

impl Report {
    /// Whether every byte is as it was written.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

impl Reader {
    /// Reads every committed byte and compares it with its checksum. `progress` is told how
    /// many rows were done since the last call, from several threads.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`] when a file shrank, or the disk failed to read it. Damage is
    /// not an error but the answer.
    pub fn verify(&self, progress: impl Fn(u32) + Sync) -> Result<Report, IndexError> {
        let mut damage: Vec<Damage> = self
            .damaged_slots()
            .iter()
            .map(|slot| Damage {
                path: self.folder().join(HEAD),
                offset: (slot * SLOT) as u64,
                row: None,
                what: "a header slot (by an interrupted commit, or damaged; its twin is intact)",
            })
            .collect();
        let rows = self.head().rows;
        let blocks = (0..rows).into_par_iter().step_by(BLOCK).map(|first| {
            let block = first..rows.min(first.saturating_add(BLOCK as u32));
            let count = block.len() as u32;
            let found = block.filter_map(|row| self.verify_row(row).transpose()).collect();
            progress(count);
            found
        });
        for found in blocks.collect::<Vec<Result<Vec<Damage>, IndexError>>>() {
            damage.extend(found?);
        }
        damage.extend(self.verify_keys());
        damage.extend(self.sketch.iter().flat_map(sketch_damage));
        if let Some(sketch) = &self.sketch {
            sketch.map().intact()?;
        }
        self.keys.intact()?;
        Ok(Report { rows, damage })
    }

    fn verify_row(&self, row: u32) -> Result<Option<Damage>, IndexError> {
        let checked =
            self.check_row(row).and_then(|()| self.key(row, &self.record(row)).map(|_| ()));
        match checked {
            Ok(()) => Ok(None),
            Err(IndexError::Damaged { path, offset, row, what }) => {
                Ok(Some(Damage { path, offset, row, what }))
            }
            Err(error) => Err(error),
        }
    }

    /// Keys lie one after the other, so that no byte of their file escapes the checksums.
    fn verify_keys(&self) -> Option<Damage> {
        let mut end = 0;
        for row in 0..self.head().rows {
            let record = self.record(row);
            if record.key_offset != end {
                let what = "the keys do not follow each other";
                let path = self.keys.path().into();
                return Some(Damage { path, offset: end, row: Some(row), what });
            }
            end += u64::from(record.key_length);
        }
        let (path, what) = (self.keys.path().into(), "bytes that belong to no key");
        (end != self.head().key_bytes).then_some(Damage { path, offset: end, row: None, what })
    }
}

fn sketch_damage(sketch: &Sketch) -> impl Iterator<Item = Damage> + '_ {
    sketch.damage().map(|(offset, row)| Damage {
        path: sketch.map().path().into(),
        offset,
        row: Some(row),
        what: "the checksum of a block of the sketch (searches stay right; compact rebuilds it)",
    })
}
