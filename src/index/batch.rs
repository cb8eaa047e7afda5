//! Rows on their way into the index: checked, rounded and laid out, before a file is touched.

use rayon::prelude::*;

use crate::embedding::{Embedding, Modality, SpaceId};
use crate::index::format::{BLOCK, Column, Layout, MAX_KEY, NO_TIME};
use crate::index::quantise::quantise;
use crate::index::record::{Record, ShortDigest, Source, row_check, short_digest};
use crate::index::rotate::Rotation;
use crate::index::{IndexError, Tags};

static NO_TAGS: Tags = Tags::none();

/// A row to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// What the row is found and replaced by: 1 to 65535 bytes, usually a path.
    pub key: &'a [u8],
    /// The components; they need not be normalised.
    pub vector: &'a [f32],
    /// The space of the vector.
    pub space: SpaceId,
    /// What the vector was made from.
    pub modality: Modality,
    /// What a filter can ask for.
    pub tags: &'a Tags,
    /// Time stamp in milliseconds since 1970.
    pub time: Option<i64>,
    /// The file that the vector was made from.
    pub source: Option<Source>,
}

impl<'a> NewRow<'a> {
    /// A row of an embedding, without tags, time and source.
    pub fn new(key: &'a [u8], embedding: &'a Embedding) -> Self {
        Self {
            key,
            vector: embedding.values(),
            space: embedding.space(),
            modality: embedding.modality(),
            tags: &NO_TAGS,
            time: None,
            source: None,
        }
    }
}

/// Neighbouring rows of one block, column by column.
#[derive(Debug)]
pub(crate) struct Piece {
    pub first: u32,
    pub columns: [Vec<u8>; Layout::COLUMNS.len()],
    pub digests: Vec<ShortDigest>,
}

/// Where a batch goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub layout: Layout,
    pub rotation: &'a Rotation,
    pub first: u32,
    pub key_offset: u64,
}

/// Lays out a batch; `groups` holds the tag group of each row.
///
/// # Errors
/// The rule that the first bad row breaks, with its position in the batch.
pub(crate) fn lay_out(
    rows: &[NewRow<'_>],
    groups: &[u32],
    place: Place<'_>,
) -> Result<Vec<Piece>, IndexError> {
    let mut key_offset = place.key_offset;
    let mut parts = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let first = place.first + start as u32;
        let end = rows.len().min(start + BLOCK - first as usize % BLOCK);
        parts.push((start..end, key_offset));
        key_offset += rows[start..end].iter().map(|row| row.key.len() as u64).sum::<u64>();
        start = end;
    }
    parts
        .into_par_iter()
        .map(|(range, key_offset)| {
            let place = Place { first: place.first + range.start as u32, key_offset, ..place };
            piece(&rows[range.clone()], &groups[range.clone()], place)
                .map_err(|(at, source)| IndexError::BadVector { row: range.start + at, source })
        })
        .collect()
}

/// Checks what needs no arithmetic on the vectors.
pub(crate) fn check(rows: &[NewRow<'_>], dimension: usize) -> Result<(), IndexError> {
    for (row, new) in rows.iter().enumerate() {
        if new.vector.len() != dimension {
            let what = format!("row {row} of the batch");
            let found = new.vector.len();
            return Err(IndexError::Dimension { what, expected: dimension, found });
        }
        if new.key.is_empty() || new.key.len() > MAX_KEY {
            return Err(IndexError::KeyLength { row, most: MAX_KEY, found: new.key.len() });
        }
    }
    Ok(())
}

fn piece(
    rows: &[NewRow<'_>],
    groups: &[u32],
    place: Place<'_>,
) -> Result<Piece, (usize, crate::embedding::EmbeddingError)> {
    let width = |column| place.layout.width(column);
    let mut columns = Layout::COLUMNS.map(|column| vec![0; rows.len() * width(column)]);
    let mut digests = Vec::with_capacity(rows.len());
    let mut rotated = Vec::with_capacity(place.layout.dimension());
    let mut key_offset = place.key_offset;
    for (at, (new, group)) in rows.iter().zip(groups).enumerate() {
        let cells = |column| at * width(column)..(at + 1) * width(column);
        let row = &mut columns[0][cells(Column::Vector)];
        let scale = quantise(new.vector, place.rotation, &mut rotated, row)
            .map_err(|source| (at, source))?;
        let time = new.time.map_or(NO_TIME, |time| time.max(NO_TIME + 1));
        let record = Record {
            key_offset,
            key_length: new.key.len() as u32,
            key_check: crc32c::crc32c(new.key),
            key_digest: short_digest(new.key),
            source: new.source,
        };
        key_offset += new.key.len() as u64;
        digests.push(record.key_digest);
        columns[1][cells(Column::Scale)].copy_from_slice(&scale.to_le_bytes());
        columns[2][cells(Column::Time)].copy_from_slice(&time.to_le_bytes());
        columns[3][cells(Column::Group)].copy_from_slice(&group.to_le_bytes());
        columns[4][cells(Column::Record)].copy_from_slice(&record.encode());
        let [vector, scale, time, group, record, check] = &mut columns;
        let covered = [
            &vector[cells(Column::Vector)],
            &scale[cells(Column::Scale)],
            &time[cells(Column::Time)],
            &group[cells(Column::Group)],
            &record[cells(Column::Record)],
        ];
        let sum = row_check(place.first + at as u32, covered);
        check[cells(Column::Check)].copy_from_slice(&sum.to_le_bytes());
    }
    Ok(Piece { first: place.first, columns, digests })
}
