//! Which rows a search may return, decided 64 rows at a time before a vector is read.

use crate::embedding::Modality;
use crate::index::format::{BLOCK, Column, NO_TIME, u32_at};
use crate::index::{Reader, Tag};

/// Conditions on rows; a row must meet all of them. The default lets every row pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Tags that the row must have.
    pub tags: Vec<Tag>,
    /// The modality that the row must have.
    pub modality: Option<Modality>,
    /// Earliest time in milliseconds since 1970; rows without a time do not pass.
    pub since: Option<i64>,
    /// Latest time in milliseconds since 1970; rows without a time do not pass.
    pub until: Option<i64>,
    /// What the key must begin with.
    pub prefix: Vec<u8>,
}

/// A filter made ready for one snapshot.
#[derive(Debug)]
pub(crate) struct CompiledFilter<'a> {
    filter: &'a Filter,
    /// Whether each tag group passes; empty when all do.
    groups: Vec<bool>,
    /// Inclusive bounds, if there is any.
    times: Option<(i64, i64)>,
}

impl Filter {
    /// Decides the tag groups of the snapshot once, so that a row costs one look-up.
    pub(crate) fn compile(&self, reader: &Reader) -> CompiledFilter<'_> {
        let groups = if self.tags.is_empty() && self.modality.is_none() {
            Vec::new()
        } else {
            let passes = |number: usize| {
                reader.log.group(number as u32).is_some_and(|group| {
                    self.modality.is_none_or(|modality| modality == group.modality)
                        && self.tags.iter().all(|tag| group.tags.contains(tag))
                })
            };
            // One more, which no row may have, so that the list of a snapshot is never empty.
            (0..reader.log.groups()).map(passes).chain([false]).collect()
        };
        let bounded = self.since.is_some() || self.until.is_some();
        let times = bounded.then(|| {
            (self.since.unwrap_or(i64::MIN).max(NO_TIME + 1), self.until.unwrap_or(i64::MAX))
        });
        CompiledFilter { filter: self, groups, times }
    }
}

impl CompiledFilter<'_> {
    /// Whether every row that was not removed passes.
    pub fn is_open(&self) -> bool {
        self.groups.is_empty() && self.times.is_none() && self.filter.prefix.is_empty()
    }

    /// The rows `64 * tile` and following that pass: bit 0 is the first of them.
    pub fn mask(&self, reader: &Reader, tile: u32) -> u64 {
        let first = tile * 64;
        let count = (reader.head().rows - first).min(64);
        let mut mask = (u64::MAX >> (64 - count)) & !reader.log.removed().word(tile as usize);
        if self.is_open() || mask == 0 {
            return mask;
        }
        if let Some((since, until)) = self.times {
            let (times, _) = column(reader, Column::Time, first, count).as_chunks::<8>();
            mask &= bits(times, |time| (since..=until).contains(&i64::from_le_bytes(*time)));
        }
        if mask != 0 && !self.groups.is_empty() {
            let (groups, _) = column(reader, Column::Group, first, count).as_chunks::<4>();
            mask &= bits(groups, |group| {
                self.groups.get(u32_at(group, 0) as usize).copied().unwrap_or(false)
            });
        }
        if !self.filter.prefix.is_empty() {
            mask = self.with_prefix(reader, first, mask);
        }
        mask
    }

    /// Of the rows in `mask`, those whose key begins as asked.
    fn with_prefix(&self, reader: &Reader, first: u32, mask: u64) -> u64 {
        let mut left = mask;
        let mut passing = 0;
        while left != 0 {
            let at = left.trailing_zeros();
            left &= left - 1;
            let record = reader.record(first + at);
            let key = reader.key_bytes(&record).unwrap_or_default();
            passing |= u64::from(key.starts_with(&self.filter.prefix)) << at;
        }
        passing
    }
}

/// Up to 64 neighbouring entries of a column; they never cross a block.
fn column(reader: &Reader, column: Column, first: u32, count: u32) -> &[u8] {
    debug_assert!(first as usize % BLOCK + count as usize <= BLOCK);
    let layout = reader.layout();
    let start = layout.offset(column, first) as usize;
    &reader.rows.bytes()[start..start + count as usize * layout.width(column)]
}

fn bits<T>(items: &[T], passes: impl Fn(&T) -> bool) -> u64 {
    items.iter().enumerate().fold(0, |mask, (at, item)| mask | u64::from(passes(item)) << at)
}
